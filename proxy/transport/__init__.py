"""Bytes on a descriptor, with and without TLS. Nothing here knows a request.

stream      reading and writing without blocking: the contract
tcp         a stream over TCP or a unix socket
tls_stream  a stream over TLS
deadlines   when a wait ends, and what ends an exchange early
clock       the time, read once per turn of the loop
openssl     what the ``ssl`` module has no name for
"""
