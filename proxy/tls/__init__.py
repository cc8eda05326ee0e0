"""TLS, as far as the server decides it: OpenSSL does the rest.

contexts       a base context for each generation, whose ticket keys all workers share; a
               context for each certificate; which certificate a name gets
client_hello   the name and protocols that a client asks for, before OpenSSL sees them
acme_alpn      the certificate for clients that offer ``acme-tls/1`` alone (RFC 8737)
unheard        challenges of a cluster that may come any moment, for which who asks waits
"""
