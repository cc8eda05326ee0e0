"""Which site a host names, which route takes a path, and which filters act around its handler.

site             the site of a host: one table, one look-up               (pure)
router           the route of a path within a site                        (pure)
conditional_router  the same where routes ask for more than a path        (pure)
conditions       methods, fields, parameters, addresses                   (pure)
rewriting        another path for a handler                               (pure)
error_pages      a response filter: other bodies for errors
filters          chains of filters around a handler                       (pure)
chains           which filters act on which route, in which order         (pure)
access           request filters: client certificates, rates
response_fields  filters that add fields to every response of a site      (pure)
handlers         the handlers of all routes, made once per generation
"""
