"""HTTP: the values that handlers and protocols share, and a folder for each version.

message   Request and Response, of no version
service   what a protocol asks of the server that speaks it
client_address  which address a client has, and which peer may say so   (pure)
h1/       HTTP/1.1
"""
