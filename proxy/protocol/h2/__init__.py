"""HTTP/2 (RFC 9113) between connections and handlers, and towards backends.

Without I/O, from the bytes upwards: `huffman` and `hpack` (header compression), `frames` (layouts),
`session` (the state of a connection and its streams), with `request` (which requests there are),
`templates` (those of a moment ago), `budget` (what a peer may waste) and `windows` (how much it may
send); `events` is what a session tells. `engine` says what a session promises; `authority` keeps
the same promise with python-hyper's h2.

With a socket: `server` is the life of a client's connection, with `work` (one request), `body`
(what it brings), `answer` and `schedule` (what it gets, and when), `websocket` (RFC 8441) and
`shared` (what all connections of a worker have in common). `client` is a connection to a backend.
"""
