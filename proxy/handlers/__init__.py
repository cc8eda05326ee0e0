"""Handlers: each takes a ``Request`` and gives a ``Response``; none sees a socket.

files/     files of a document root
upstream/  backends
redirect   a ``Location``
respond    a fixed answer
http01     the answers to HTTP-01 challenges
"""
