"""Where certificates come from: CAs that speak ACME (RFC 8555), and a CA of our own.

Only this folder imports ``acme``, ``josepy`` and ``requests``.

    interface         what every issuer is asked for, and gives
    internal          a root of our own
    acme              issuing through ACME: order, challenges, chain
    accounts          our account with a CA
    account_files     the account's files
    external_account  the key by which a CA knows us from elsewhere  (pure)
    transport         requests to a CA: nonces, trust, headers
    messages          answers of a CA, parsed once into frozen values (pure)
    ari               asking a CA when to renew (RFC 9773)
    chains            which of the chains that a CA offers           (pure)
    negotiation       which challenge and profile of those that a CA offers (pure)
    persist_records   which dns-persist-01 records our account needs, and which stand
"""
