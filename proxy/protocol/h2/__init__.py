"""HTTP/2 (RFC 9113) between a connection and the handlers.

From the bytes upwards: `huffman` and `hpack` (header compression), `frames` (layouts), `session`
(the state of a connection and its streams), with `request` (which requests there are), `budget`
(what a peer may waste) and `windows` (how much it may send). `engine` says what a session promises;
`authority` keeps the same promise with python-hyper's h2.
`client` speaks it with backends.
"""
