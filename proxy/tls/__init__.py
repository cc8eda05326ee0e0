"""TLS, as far as it is ours to decide: OpenSSL does the rest.

contexts       a base for each generation, whose ticket keys all workers share; a context for
               each certificate; which of them a name gets
client_hello   the name and protocols that are asked for, before OpenSSL sees them
alpn           the challenge's certificate, for who asks for ``acme-tls/1`` alone (RFC 8737)
"""
