"""The supervisor: owns the listening sockets and the children, and never speaks to a client.

    supervisor     its loop: children are started, heard and replaced; signals arrive
    process_table  fork, hear, reap
    spawner        which child is started, with what, and which is started again
    liveness       which child is_hung                                           (pure)
    backoff        how long a crashed child waits for its successor            (pure)
    timers         what is to be done later
    signals        signals, as bytes that the loop reads
    registry       certificates and challenges, from the certifier to every worker
    on_demand      names that workers wait for, each asked for once
    self_check     whether every worker serves the certificates that it should
    alerts         which alert is due, and the messengers that deliver it
    log_file       opening the access log anew
    reload/        from one generation of workers to the next
    upgrade/       from this program to the one now on disk
    control/       commands from the command line, and their answers

One rule keeps it simple: nothing here waits. Whatever takes time is a child, a timer or a
descriptor in the selector.
"""
