"""The certifier: certificates obtained, renewed, kept and handed to whoever serves them.

It runs in a process of its own and is the only one that holds account keys or speaks to a CA. It
knows the server by `link.Link` alone and never imports it.

The process
    agent       what is wanted, what is at hand, what is under way
    commands    what people ask of it
    link        what it knows of the server, and is told by it
    desks       threads for talking to CAs, so many for each
    turns       whose attempts are made now                        (pure)
    replies     answers to people, once for two certificates of a name

One certificate
    holding     what is known of it while the process lives
    attempt     one try for it, from the lock to the proof
    lifecycle   its states, as one table                           (pure)
    progress    what each event does to its record                 (pure)
    record      what is remembered of it, as JSON                  (pure)
    renewal     when it is due                                     (pure)
    pace        how fast renewals are begun: in small batches      (pure)
    pauses      how long after a failure; Retry-After              (pure)
    choices     which CA is asked, and how names are proven        (pure)
    proof       whether a chain and a key may be served            (pure)
    at_hand     the better one of those on the disk
    advice      a failure in plain words, and what to do about it  (pure)

A CA
    order       what any issuer is asked for, and gives
    internal_ca issuing from a root of our own
    issuer      issuing through ACME: order, challenges, chain
    challenges  HTTP-01 and TLS-ALPN-01: shown by every worker, then taken back
    tls_alpn    the certificate that answers TLS-ALPN-01
    offers      what is taken of what a CA offers                  (pure)
    alternates  which of the chains that a CA offers               (pure)
    accounts    being the customer of a CA
    account_files   what is kept of that
    external_account  the key by which a CA knows us from elsewhere (pure)
    ari         asking the CA when to renew
    network     requests to a CA: nonces, trust, headers
    answers     what it answers, parsed once into frozen values    (pure)
    errors      what goes wrong, as one table of kinds
    clocks      whether the CA's clock and ours agree              (pure)
    limits      what CAs allow, and public suffixes                (pure)
    ledger      what was asked of one CA, against its limits       (pure)
    ledgers     those of all CAs, on the disk

Records in the DNS
    dns_records for dns-01: set, seen everywhere, taken back
    dns_names   which record proves a name, and who sets it        (pure)
    dns_propagation  waiting until every name server shows a record
    dns_servers asking resolvers and authoritative servers
    dns_provider  what sets records: the contract, the table of providers
    dns_update  setting a record by DNS update (RFC 2136)
    dns_hook    setting a record by a program of the operator's
    dns_persist the record of dns-persist-01                       (pure)
    dns_standing  which of those our account needs, and which stand

Names that nobody has configured
    on_demand   had when somebody comes for them
    admission   what may be such a name, and how many              (pure)
    inquiries   finding out whether one may be had
    asking      the operator's own word on it, from a URL
    pointing    whether its DNS leads here
    roster      those that were had

The disk
    store       files that change together or not at all; locks, changes made by others
    shelf       certificates, with their records, in a store
    disk        the one way a file gets there
    documents   JSON documents with a version                      (pure)
    keys        private keys and signing requests
    printable   text of others, made fit for a line of ours        (pure)
    signal_names    how a process ended, in a word                 (pure)
    timestamps  moments as other programs read them                (pure)

dnspython is imported by dns_servers, dns_propagation, dns_update and pointing only, and those where
records are set or looked at. `acme`, and what it pulls in (requests, josepy), is imported by
issuer, accounts, ari, offers and network only, and those by the agent only once certificates at
hand are being served.
"""
