"""Which of several backends a request goes to. Pure but for the dice.

A policy is a function of the candidates (those that are in, and not tried yet for this request) and
the request. With one backend there is nothing to decide, and nothing is.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from ...config.model import Backend, HashKey, ProxyAction
from ...protocol.message import Request
from .cookies import cookie_value


class Candidate(Protocol):
    """``weight`` is the backend's, or less while it warms up."""

    in_flight: int
    credit: float
    weight: float

    @property
    def config(self) -> Backend: ...


C = TypeVar("C", bound=Candidate)
Policy = Callable[[Sequence[C], Request], C]


def policy(action: ProxyAction) -> Policy[C]:
    match action.balance:
        case "least_conn":
            return _least_conn
        case "random_two":
            return _random_two
        case "hash":
            return lambda candidates, request: _rendezvous(
                candidates, hashed_by(action.hash_by, request)
            )
        case "round_robin":
            return _round_robin


def _round_robin(candidates: Sequence[C], request: Request) -> C:
    """Smooth weighted round robin, as in nginx: each candidate gains its weight as credit, the
    candidate with the most credit is chosen and pays the sum of all weights. So the turns of a
    heavy backend are spread among those of the others."""
    total = 0.0
    for one in candidates:
        one.credit += one.weight
        total += one.weight
    best = max(candidates, key=lambda one: one.credit)
    best.credit -= total
    return best


def _load(one: Candidate) -> float:
    return (one.in_flight + 1) / one.weight


def _least_conn(candidates: Sequence[C], request: Request) -> C:
    least = min(map(_load, candidates))
    return _round_robin([one for one in candidates if _load(one) == least], request)


def _random_two(candidates: Sequence[C], request: Request) -> C:
    """Draw two candidates and take the less busy: nearly as even as least_conn, and a backend that
    has just come back is not overrun."""
    if len(candidates) < 2:
        return candidates[0]
    return min(random.sample(candidates, 2), key=_load)


def _rendezvous(candidates: Sequence[C], key: bytes) -> C:
    """Rendezvous hashing (highest random weight): when a backend goes, only its own keys move."""

    def score(one: C) -> float:
        digest = hashlib.blake2b(key + b"\0" + one.config.url.encode(), digest_size=8).digest()
        drawn = (int.from_bytes(digest, "big") + 1) / (2**64 + 1)
        return -one.weight / math.log(drawn)

    return max(candidates, key=score)


def hashed_by(key: HashKey, request: Request) -> bytes:
    """What a request is hashed by; the client's address where the field or cookie is missing."""
    found: bytes | None = None
    match key.kind:
        case "path":
            return request.path
        case "header":
            found = request.field(key.name.encode("ascii"))
        case "cookie":
            found = cookie_value(request, key.name.encode("ascii"))
        case "address":
            pass
    return found if found is not None else request.client.encode("ascii")
