"""Bytes on a descriptor, with and without TLS. Nothing here knows a request.

stream     reading and writing without blocking
deadlines  when a wait ends
clock      the time, read once per turn of the loop
openssl    what the ``ssl`` module has no name for
"""
