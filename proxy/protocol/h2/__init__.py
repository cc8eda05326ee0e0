"""HTTP/2 (RFC 9113) between connections and handlers, and towards backends.

Without I/O, from the bytes upwards: `huffman` and `hpack` (header compression), `frames` (layouts),
`outgoing` (what we may send), `inbound` (bodies, and how much of them may come), `session` (what
follows from a client's frames), `client_session` (where we are the client); with `request` (which
requests there are), `templates` (those of a moment ago), `budget` (what a peer may waste) and
`windows`; `events` is what a session tells. `engine` says what a session promises; `authority`
keeps the same promise with python-hyper's h2.

With a socket: `server` is the life of a client's connection, with `incoming` (what its frames
bring), `exchanges` (what becomes of requests; `work` is one of them, `body` what it brings),
`sender`, `schedule` and `answer` (what goes out, when, and how it is spelt), `websocket` (RFC 8441)
and `shared` (what all connections of a worker have in common). `client` is a connection to a
backend, `client_exchange` a request on it.
"""
