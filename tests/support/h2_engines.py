"""The two engines of HTTP/2, for suites that run on both."""

from __future__ import annotations

from collections.abc import Callable

from proxy.protocol.h2.authority import Authority
from proxy.protocol.h2.engine import Engine, Terms
from proxy.protocol.h2.session import Session

Make = Callable[[Terms, float], Engine]


def session(terms: Terms, now: float) -> Engine:
    return Session(terms, now)


def authority(terms: Terms, now: float) -> Engine:
    return Authority(terms, now)


ENGINES: list[Make] = [session, authority]
