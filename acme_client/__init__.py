"""The certifier: certificates are obtained, renewed, kept and handed to the server that shows them.

It runs in a process of its own, which alone holds account keys and speaks to CAs. It knows the
server by ``link.Link`` only, and never imports ``proxy``.

    drill/         rehearsing what may go wrong, against a CA and a clock of our own
    agent/         the process: a scheduler that decides, and threads that act
    importers/     certificates and accounts that other programs have obtained
    issuers/       where certificates come from: ACME, and a CA of our own
    challenges/    proving control of a name: HTTP-01, TLS-ALPN-01, DNS-01
    on_demand/     certificates for names that no configuration lists
    rate_limits/   what CAs allow, counted ahead of them
    certificates/  one certificate's life, from due to served
    x509/          certificates and keys as bytes: read, proven, tried
    storage/       files that survive a crash

    link           the server as the certifier knows it, and what the certifier is to do
    explain        a failure in plain words, with the next step        (pure)
    errors         kinds of failure, each with its blame
    text           moments, lengths of time, text of others            (pure)
    names          names of hosts: one spelling, wildcards             (pure)
    gcra           counting events against a rate                      (pure)
    late_dataclass `dataclass` that compiles a class when it is used   (pure)

``acme``, ``josepy`` and ``requests`` are imported in ``issuers`` only, and by the agent only once
the certificates on the disk are being served. dnspython is imported in ``challenges`` and
``on_demand.dns_check`` only.
"""
