"""The exporter: a process that sends the spans of all workers to a collector of traces.

    process    its life: packets in, OpenTelemetry's exporter, an account of what was lost

It has neither keys nor clients: it is given a socket that workers write to, and may connect to the
collector. What it cannot send in time is lost and counted, and slows down nobody.
"""
