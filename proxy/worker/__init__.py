"""A worker: the process that clients speak to, forked with all that it needs in its memory.

    birth          what it is forked with
    worker         its life: confined, serving, draining, ended; news from the supervisor

    connections    from the accepted socket to HTTP: limits, the first byte, the handshake
    proxy_header   who the client really is, where a load balancer tells
    waiting_room   handshakes that wait for a certificate on demand
    doors          the rules of port 80 and port 443, request by request
    gates          what a site demands before any handler is asked
    sites          the handlers, made once per generation
    access_log     a line for each request
    bounds         limits that were reached: counted, and told without a flood
    peaks          memory that many connections have taken goes back to the machine
    mirror         what this worker shows to who connects

HTTP itself is in `protocol`, what answers in `handlers`.
"""
