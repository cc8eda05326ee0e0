"""Proxying to backends: choosing a backend, talking to it, passing its response on.

handler        choosing a backend, asking it, trying again
held_requests  requests that wait while no backend takes them
attempt        one try at a request, on one connection
response       what of a response's head goes on        (pure)
backend        one backend: its health and its load
health_check   one active check
pool           connections to a backend, kept and bounded
h2_pool        the same over HTTP/2: streams of few connections
connector      opening a connection: addresses, TCP, TLS
resolver       the addresses of a backend's name
balancing      choosing among backends                  (pure)
sticky         clients that stay with their backend
cookies        the value of a cookie                    (pure)
request_head   the head of the request that is sent on  (pure)
request_body   the body of the request, as it is sent on
context        what a worker's upstreams share
"""
