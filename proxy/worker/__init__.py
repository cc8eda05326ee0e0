"""A worker: the process that speaks to clients, forked with everything it needs in memory.

    startup         what a worker is forked with
    warming_up      what every worker would make for itself, made once
    worker          its life: confined, serving, draining, ended
    inbox           messages from the supervisor: taken in, acknowledged, answered
    credentials     certificates and challenges that are in force
    acceptor        accepted sockets: limits, PROXY headers, and who speaks on them
    lives           the connections that are open, and what happens at their ends
    tls_arrival     from the first byte to a protocol over TLS, for the usual connection
    tls_accept      the same for every other one
    handshake_log   failed handshakes, told without a flood
    proxy_protocol  the client's address from a load balancer's PROXY header         (pure)
    on_demand       handshakes that wait for a certificate on demand
    context         what the services of a worker share
    services        the rules of port 80, port 443 and the admin listener, request by request
    admin           the admin listener: its page, who may ask, what it asks of the supervisor
    tracing         what is recorded of requests, for a collector
    access_log      a line for each request
    limits          limits that were reached: counted, and logged without a flood
    memory_trim     gives memory of many ended connections back to the system
    self_probe      which certificates this worker really serves

HTTP itself is in `protocol`, handlers are in `handlers`.
"""
