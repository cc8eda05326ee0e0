"""The certifier: certificates obtained, renewed, kept and handed to whoever serves them.

It runs in a process of its own and is the only one that holds account keys or speaks to a CA. It
knows the server by `link.Link` alone and never imports it.

    agent       the process: what is wanted, what is at hand, what is under way, commands
    desks       threads for talking to CAs, so many for each
    replies     answers to people, once for two certificates of a name
    attempt     one try for one certificate, from the lock to the proof
    lifecycle   the states of a certificate, as one table          (pure)
    progress    what each event does to a certificate's record     (pure)
    renewal     when a certificate is due                          (pure)
    pauses      how long after a failure; Retry-After              (pure)
    record      what is remembered of a certificate, as JSON       (pure)
    proof       whether a chain and a key may be served            (pure)
    internal_ca issuing from a root of our own
    issuer      issuing through ACME: order, challenges, chain
    dns_records records for dns-01: set, seen everywhere, taken back
    dns_names   which record proves a name, and who sets it        (pure)
    dns_propagation  waiting until every name server shows a record
    dns_servers asking resolvers and authoritative servers
    dns_update  setting a record by DNS update (RFC 2136)
    dns_hook    setting a record by a program of the operator's
    dns_persist the record of dns-persist-01                       (pure)
    dns_standing  which of those our account needs, and which stand
    on_demand   names that nobody has configured, when somebody comes for them
    admission   what may be such a name, and how many              (pure)
    inquiries   finding out whether one may be had
    asking      the operator's own word on it, from a URL
    pointing    whether its DNS leads here
    roster      those that were had
    offers      what is taken of what a CA offers                  (pure)
    alternates  which of the chains that a CA offers         (pure)
    accounts    being the customer of a CA
    account_files   what is kept of that
    external_account  the key by which a CA knows us from elsewhere (pure)
    ari         asking the CA when to renew
    network     requests to a CA: nonces, trust, headers; errors become `errors.Problem`
    keys        private keys and signing requests
    store       files that change together or not at all; locks, changes made by others
    shelf       certificates, with their records, in a store
    disk        the one way a file gets onto the disk

dnspython is imported by dns_servers, dns_propagation, dns_update and pointing only, and those where
records are set or looked at. `acme`, and what it pulls in (requests, josepy), is imported by
issuer, accounts, ari and network only, and those by the agent only once certificates at hand are
being served.
"""
