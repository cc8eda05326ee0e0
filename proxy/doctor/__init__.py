"""``treehouse-proxy doctor [NAME]``: what keeps certificates from being had, in plain words.

Before the first start it is a pre-flight, beside a running server a post-mortem; it is never a gate
and changes nothing. Facts are gathered by `running`, `records`, `machine`, `names`, `visits` and
`authorities`, each with its bounds of time; what they mean is decided by `judge_machine`,
`judge_names`, `judge_visits` and `judge_authorities`, which do no I/O: facts in, `findings` out.
`examination` has the order.

Nothing here is loaded by the server.
"""
