"""Every key of the configuration, with its default.

document     the keys at the top
site         keys of sites and routes
acme         keys of ``acme``
alerts       keys of ``alerts``
parse        from a document to values, or faults
json_schema  the same keys as a JSON Schema for editors
"""
