"""Following the containers of this machine, for their sites (``providers: {docker: …}``).

    door         a process that opens Docker's socket, and nothing else; forked while still root
    docker_api   HTTP to the API: one question after the other, and the stream of events
    inspection   what the API says of a container, as `Container`               (pure)
    reachability which networks of containers this machine is in
    watcher      the process: lists, follows events, tells the supervisor
    startup      what it is told at its start

What labels mean is `proxy.config.sources.containers`; what is done with what the process tells,
`proxy.supervisor.containers`.
"""
