"""Certificates for names that no configuration lists, obtained when a client asks for them.

manager      decides when a name gets, keeps and loses its certificate (pure)
policy       which names may have a certificate, and how many       (pure)
checks       finds out whether a name may have a certificate
ask_url      asks the operator's own URL
dns_check    whether the DNS of a name leads to this machine
known_names  the names that have a certificate
"""
