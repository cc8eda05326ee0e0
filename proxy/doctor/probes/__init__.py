"""Facts for the doctor, each gathered within a bound of time.

machine       this machine: clock, memory, limits
dns           the DNS of names
reachability  whether names lead to this server, from outside in
cas           whether CAs answer
state         the state directory
server        the running server
backends      backends, reached as a worker reaches them
document_roots  files, read as the server's user reads them
    backends        backends, reached as a worker reaches them
    document_roots  files, read as the server's user reads them
"""
