"""One certificate's life: its states, its record, when it is renewed, and which files hold it.

lifecycle    the states, as one table                              (pure)
transitions  what each event does to a certificate's record        (pure)
record       what is remembered of a certificate, as JSON          (pure)
managed      what is known of a certificate while the process lives
renewal      when a certificate is due                             (pure)
retry        how long to wait after a failure; Retry-After         (pure)
ca_choice    which CA is asked, and how names are proven           (pure)
clock_skew   whether the CA's clock and ours agree                 (pure)
keys         private keys and signing requests
verify       whether a chain and a key may be served               (pure)
pem          the one reader of PEM files                           (pure)
chain_order  certificates in the order in which TLS sends them     (pure)
loadable     whether OpenSSL takes a pair, by loading it
own_files    certificates that operators bring, examined           (pure)
trust_bundle a file of trusted CAs                                 (pure)
repository   certificates, with their records, in a store
recovery     which of several certificates on the disk is served
"""
