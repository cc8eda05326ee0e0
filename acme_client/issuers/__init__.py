"""Where certificates come from: CAs that speak ACME (RFC 8555), and a CA of our own.

Only this folder imports ``acme``, ``josepy`` and ``requests``.

    interface          what every issuer is asked for, and gives
    internal           a root of our own
    acme               what is done with a CA: an order, a revocation, a new key
    order_flow         one order from beginning to end: challenges, CSR, chain
    polling            asks a CA again until it has come to an end
    accounts           our account with a CA: made once, found again, replaced when closed
    account_files      the account's files
    external_account   the key by which a CA knows us from elsewhere              (pure)
    transport          requests to a CA: signatures, nonces, trust, refusals
    messages           answers of a CA, parsed once into frozen values            (pure)
    problem_documents  refusals of a CA, whatever they look like                  (pure)
    ari                asks a CA when to renew (RFC 9773)
    chains             chooses one of the chains that a CA offers
    negotiation        chooses profile and challenges of what a CA offers         (pure)
    persist_records    which dns-persist-01 records our account needs, and which stand
"""
