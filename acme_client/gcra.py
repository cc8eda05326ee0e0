"""Counting events against a rate: the generic cell rate algorithm (ITU-T I.371), once.

A whole token bucket is one number, the *theoretical arrival time* (TAT) of its next token. A bucket
of ``burst`` tokens, one of which comes back every ``interval`` seconds, is full when its TAT is not
after now. Let's Encrypt counts in the same way.

Pure: times are Unix seconds, or any others.
"""

from __future__ import annotations


def gcra(tat: float, now: float, interval: float, burst: float) -> tuple[float, float]:
    """Seconds until a token can be taken (0.0: now), and the bucket's TAT once it has been."""
    arrival = max(tat, now)
    wait = max(arrival - now - interval * (burst - 1), 0.0)
    return wait, arrival + interval
