"""Backends: which one is asked, over which connection, and what of its answer a client gets.

handler       choosing a backend, asking it, trying again
backend       one backend: its health and its load
pool          connections to a backend
resolver      the addresses of a backend's name
balancing     choosing among backends                   (pure)
request_head  the head of the request that is sent on   (pure)
request_body  the body of the request, as it is sent on
context       what a worker's upstreams share
"""
