"""Proving control of a name to a CA (RFC 8555 section 8).

Only this folder and ``on_demand.dns_check`` import dnspython.

    worker_solver    HTTP-01 and TLS-ALPN-01: shown by every worker, then taken back
    holders          who needs an answer shown: the last of them takes it back
    document         a challenge that is written down                        (pure)
    tls_alpn         the certificate that answers TLS-ALPN-01 (RFC 8737)
    dns01_solver     DNS-01: a record is set, seen by every name server, and removed
    dns_provider     the contract of what sets records, and the table of providers
    dns_names        which record proves a name, and which provider sets it  (pure)
    dns_propagation  waiting until every name server shows a record
    dns_resolver     asking resolvers and authoritative servers
    dns_rfc2136      setting a record by DNS update (RFC 2136)
    dns_hook         setting a record by a program of the operator's
    hook_styles      how such a program is called: as ours, certbot's, acme.sh's, lego's  (pure)
    dns_api          setting a record at a provider's own interface
    api_process      the process that speaks with such interfaces
    api_calls        one call there: dns-lexicon's, or lego's httpreq
    api_catalog      which providers there are, and what each needs to be told
    redaction        secrets taken out of what is said of a failure           (pure)
    dns_persist      the record of dns-persist-01                            (pure)
"""
