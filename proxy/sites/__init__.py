"""Which site a host names, which handler takes a path, and under which rules.

router    which handler takes a request                            (pure)
handlers  a site's handlers, made once per generation
access    what a site demands before any handler is asked
"""
