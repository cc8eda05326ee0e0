"""The supervisor: owns the listening sockets and the children, and never speaks to a client.

    supervisor     its loop: signals arrive, children are heard, followed up, killed when they hang
    wiring         how the parts below are put together
    startup        what `serve` hands over
    lifecycle      whether it serves, upgrades, has retired or stops
    operations     what people order: a reload, an upgrade, the end; one at a time
    answers        what commands are answered with
    shutdown       children are told to finish, and killed when their time is up
    readiness      the moment when a server serves for the first time

    roles          the kinds of children, as a table
    process_table  fork, hear, reap
    spawner        which child is started, with what, and which is started again
    liveness       which child hangs                                           (pure)
    backoff        how long a crashed child waits for its successor            (pure)
    timers         what is to be done later
    signals        signals, as bytes that the loop reads

    registry       certificates and challenges in force, and how each certificate stands
    deliveries     messages that every worker must take in
    certifier_requests  questions that only the certifier can answer
    on_demand      names that workers wait for, each asked for once
    self_check     whether every worker serves the certificates that it should
    alerts         which alert is due, and the messengers that deliver it
    log_file       opening the access log anew
    rotation       putting the access log aside as it grows

    reload/        from one generation of workers to the next
    upgrade/       from this program to the one now on disk
    control/       commands from the command line, and their answers

One rule keeps it simple: nothing here waits. Whatever takes time is a child, a timer or a
descriptor in the selector.
"""
