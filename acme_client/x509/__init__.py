"""Certificates and keys as bytes: read, put in order, proven, and tried with OpenSSL.

Whatever a CA, a person or another program gives us as a certificate comes through here, and what is
kept and served is what came out. Nothing here knows of CAs' accounts, orders or renewals.

    pem           the one reader of PEM                                  (pure)
    chain_order   certificates in the order in which TLS sends them      (pure)
    keys          private keys and signing requests
    verify        whether a chain and a key may be served                (pure)
    loadable      whether OpenSSL takes a pair, by loading it
    own_files     certificates that operators bring, examined            (pure)
    trust_bundle  a file of trusted CAs                                  (pure)
"""
