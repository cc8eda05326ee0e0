"""HTTP: the values that handlers and protocols share, and a folder for each version.

message   Request and Response, of no version
exchange  one request and its response, from the head to the log line
service   what a protocol asks of the server that speaks it: the contract
collected whole bodies of requests, within a bound for all of them         (pure)
rewritten  a request with another path, for a handler alone                (pure)
trace_context  the fields of W3C Trace Context                             (pure)
paths     what a request's path says, and which readings of it there are   (pure)
client_address  which address a client has, and which peer may say so   (pure)
h1/       HTTP/1.1
h2/       HTTP/2
fastcgi/  FastCGI, towards backends
"""
