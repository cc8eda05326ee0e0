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
addresses        a request filter: allow, deny
basic_auth       a request filter: names and passwords (`passwords`)
forward_auth     a request filter: a login service is asked
request_limits   a request filter: the size and the pace of bodies
cross_origin     a filter of both: preflights, and what other origins may do
own_filters      filters of both that users have written (`own_messages`)
compression      a response filter: zstd, br, gzip (`encoders`)
field_rules      filters that change fields of responses as the operator says
response_fields  filters that add fields to every response of a site      (pure)
handlers         the handlers of all routes, made once per generation
"""
