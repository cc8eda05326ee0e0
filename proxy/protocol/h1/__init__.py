"""HTTP/1.1 (RFC 9112): h11 is the authority, a fast parser stands before it.

server           a connection of a client: what is known at once is answered where it arrives
listening        the same, begun without a task
reader           heads of requests, read from a transport
request_body     bodies of requests, within bounds of time and size
writer           responses, written to a transport
interim          interim responses (1xx)
lingering        what becomes of the rest of a request that nobody wants
body             decodes bodies of both directions
grammar          the grammar of RFC 9110 and RFC 9112                  (pure)
strict_parser    what is refused before h11 is asked                   (pure)
fast_parser      heads of the plain kind, without h11                  (pure)
head_cache       lines that are alike from request to request          (pure)
response_parser  heads of backends' responses                          (pure)
client           a connection to a backend
chunked          the chunked transfer coding                           (pure)
serializer       heads as bytes
tunnel           bytes both ways after an upgrade
"""
