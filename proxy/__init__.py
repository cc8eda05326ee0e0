"""The server: HTTPS in front of an app or a folder.

Layers, from the top; a module imports from its own layer's folder and from lower ones only.

    cli/         commands that people type
    boot         a start: reads the configuration while it imports the server
    serve        from root to a serving supervisor
    supervisor/  owns the sockets and the children; never speaks to a client
    worker/      speaks to clients: TLS, HTTP, services
    doctor/      ``treehouse-proxy doctor``; never loaded by the server
    explain/     pages for people: on a request, on a certificate
    certifier/   ``acme_client`` as a child of the supervisor
    alerts/      telling people when certificates fail
    exporter/    sending traces to a collector
    sites/       which site, which handler, under which rules
    system/      privileges, listening sockets, state directory, systemd
    handlers/    files, backends, redirects, challenges
    metrics/     counters, and how they are shown
    sandbox/     what each process may still do
    ipc/         messages, descriptors and memory that processes share
    protocol/    HTTP: the neutral values, and a folder for each version
    tls/         certificates by name; the ClientHello
    config/      from YAML and flags to one frozen value
    transport/   bytes on a descriptor
"""
