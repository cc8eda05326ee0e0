"""Explaining to people: what a request would meet, and how a certificate stands.

    request       what a request meets, and which line of the configuration says so
    answers       what the action of its route makes of it
    settings      what holds without being about the request                        (pure)
    rows          the rows of a page, and how values are spelt                      (pure)
    certificate   one page on one certificate: its state, its attempts, the next step   (pure)

The command line shows these pages, and so does the admin page.
"""
