"""The supervisor: the process that owns the sockets and the children, and speaks to no network.

    supervisor       its loop: children are started, heard and replaced; signals come in
    signal_socket    signals, as bytes that the loop reads
    schedule         what is to be done later
    control_socket   commands from the command line
    commands         what can be asked, and who answers it

    processes        fork, hear, reap
    births           who is started, with what, and who is started again
    heartbeats       who hangs
    backoff          how long a crashed child waits for its successor
    generations      configurations in force, each with its workers
    turnover         a reload: from one generation to the next
    disk_watch       whether the processes still see what is on disk
    announcements    certificates and challenges, from the certifier to every worker
    on_demand        names that workers wait for, asked for once
    self_check       whether every worker shows what it should
    knocking         the doctor's nonce, shown at the door for a moment
    alerting         who is to be told of what, and the messengers that go

    upgrade          the program now on disk, started beside this one
    succession       who of the two serves, and who waits for whom

    overview         what is known of the whole server
    status           the same as the document of ``status --json``
    plan             what a reload would change

One rule keeps it simple: nothing here waits. Whatever takes time is a child, a moment in the
`Schedule` or a descriptor in the selector.
"""
