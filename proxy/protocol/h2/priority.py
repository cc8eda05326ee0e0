"""Priorities of RFC 9218: the value of the `priority` field and of PRIORITY_UPDATE.

It is a dictionary of RFC 8941 with two members: ``u``, the urgency (0 to 7, 3 unless given; lower
is sooner), and ``i``, whether a part of the answer is of use (then answers of one urgency share the
connection). What cannot be understood is as if not said (RFC 9218 §4): priorities are a hint, and
no request fails for one.

Pure.
"""

from __future__ import annotations

Priority = tuple[int, bool]  # urgency, incremental
DEFAULT: Priority = (3, False)
# Longer ones are nobody's; RFC 8941 has no bound.
_LONGEST = 128
_URGENCIES = {b"u=%d" % urgency: urgency for urgency in range(8)}
_INCREMENTAL = {b"i": True, b"i=?1": True, b"i=?0": False}


def parse(value: bytes) -> Priority:
    """Urgency and incremental. Of a member that is given twice the last counts (RFC 8941
    §4.2.2)."""
    urgency, incremental = DEFAULT
    if len(value) > _LONGEST:
        return DEFAULT
    for member in value.split(b","):
        member = member.partition(b";")[0].strip(b" \t")  # parameters mean nothing here
        if member in _URGENCIES:
            urgency = _URGENCIES[member]
        elif member in _INCREMENTAL:
            incremental = _INCREMENTAL[member]
    return urgency, incremental
