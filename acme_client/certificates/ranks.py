"""Decides which of several machines orders a certificate, and when each of the others would.

There is no leader. Each certificate has an order of its own of the machines (rendezvous hashing),
and the machine at place r begins r steps after the moment at which the certificate became due.
Places only spread the work: a lock makes it right, so two machines that see different members do no
harm. A failure may be the machine's own (its network, its disk), so after each the order begins
with the next machine.

Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from .renewal import SHORT_LIFETIME

# Between two places. Long enough for an order, and for the line that it may stand in.
STEP = 600.0
STEP_PART = 1 / 500  # of a lifetime that is short
# Where nothing is served: clients wait.
STEP_WITHOUT = 5.0
# Steps after which a machine that has come to the first place asks the CA when to renew: the
# machine before may only be restarting.
ASKS_AFTER = 6

# While the store that the machines share is unreachable, no machine orders a certificate until less
# than this part of the certificate's life is left (twelve hours of six days): most faults are over
# by then, and a machine that orders without the store cannot know what the other machines order.
ALONE_BELOW = 1 / 10
ALONE_BELOW_SHORT = 1 / 12
# Let's Encrypt issues five a week for the same names.
ALONE_MOST = 3


def places(name: str, nodes: Iterable[str], turn: int = 0) -> list[str]:
    """Return the nodes in this certificate's order. ``turn``: failures in a row."""
    ordered = sorted(nodes, key=lambda node: weight(node, name))
    first = turn % len(ordered) if ordered else 0
    return ordered[first:] + ordered[:first]


def weight(node: str, name: str) -> bytes:
    """Return what the nodes are ordered by for this certificate, the smallest first."""
    return hashlib.blake2b(f"{node}\0{name}".encode(), digest_size=8).digest()


def part(node: str, name: str) -> float:
    """Return by which part of a step, from 0 to 1, this node's moment for this certificate differs
    from all others."""
    return int.from_bytes(weight(node, name)[:4]) / (1 << 32)


def step(lifetime: float | None) -> float:
    """Seconds between two places. ``lifetime`` None: nothing is served."""
    return STEP_WITHOUT if lifetime is None else min(STEP, max(lifetime, 0.0) * STEP_PART)


def within(seconds: float, lifetime: float | None, part: float) -> float:
    """Return these seconds, or, of a life that is short, this part. ``lifetime`` None: nothing is
    served."""
    return seconds if lifetime is None else min(seconds, max(lifetime, 0.0) * part)


def alone_from(
    place: int, not_before: float, not_after: float, below: float = ALONE_BELOW
) -> float | None:
    """Return when the node at a place orders while the shared store is unreachable; None: never.
    Each place begins when half of the life that the place before had left is over."""
    if place >= ALONE_MOST:
        return None
    lifetime = max(not_after - not_before, 0.0)
    part = below if lifetime >= SHORT_LIFETIME else below * ALONE_BELOW_SHORT / ALONE_BELOW
    return not_after - lifetime * part * 0.5**place
