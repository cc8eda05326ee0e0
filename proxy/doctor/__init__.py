"""``treehouse-proxy doctor [NAME]``: why certificates cannot be obtained, in plain words.

Before the first start the doctor is a pre-flight, beside a running server a post-mortem. It is
never a gate and changes nothing. The server never loads it.

    examination  the order of the probes and rules
    probes/      facts, each gathered within a bound of time
    rules/       what the facts mean; no I/O
    findings     what is told                            (pure)
"""
