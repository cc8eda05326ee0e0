"""Traces as W3C Trace Context has them: what a request says, what is said to backends. Pure.

A trace is a tree of spans that many programs write. A request that comes with a ``traceparent``
goes on with a trace that somebody else has begun. Anybody may say so: the number of the trace is
taken, which costs nothing and lets a browser's part and ours be found together. Whether the trace
is recorded is our own decision (the sample), unless a trusted proxy has made it: else any client
could have all of its requests recorded. ``tracestate`` is passed on as it came, within bounds.

https://www.w3.org/TR/trace-context/ (Recommendation of 23 November 2021).
"""

from __future__ import annotations

import random
import re
from dataclasses import field

from acme_client.late_dataclass import dataclass

from .message import Fields

Attribute = str | int | bool
# §3.2.2: version, trace id, parent id, flags; lower case only. Later versions may go on behind.
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1
# §3.3.1.5: at least 512 characters should be passed on.
_LONGEST_STATE = 512
_MOST_MEMBERS = 32
# Of one request: attempts at backends are few, and what makes more of them is a mistake.
MOST_SPANS = 64


@dataclass(frozen=True, slots=True)
class Parent:
    """Who goes before: the trace, the span, and whether it is recorded there."""

    trace_id: str
    span_id: str
    sampled: bool
    state: bytes = b""


def parent_of(fields: Fields) -> Parent | None:
    """What a request says of the trace that it belongs to; None where that is nothing, or is not
    well-formed (§3.2: then the trace begins anew)."""
    values = [value for name, value in fields if name == b"traceparent"]
    if len(values) != 1:
        return None
    found = _TRACEPARENT.fullmatch(values[0])
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more):
        return None
    if not int(trace_id, 16) or not int(span_id, 16):
        return None
    sampled = bool(int(flags, 16) & _SAMPLED)
    return Parent(trace_id.decode(), span_id.decode(), sampled, _state(fields))


def _state(fields: Fields) -> bytes:
    values = [value for name, value in fields if name == b"tracestate" and value]
    state = b",".join(values)
    if len(state) > _LONGEST_STATE or state.count(b",") >= _MOST_MEMBERS:
        return b""  # §3.3.1.5 lets it be dropped whole
    return state


def new_id(bits: int) -> str:
    """A number for a trace (128) or a span (64) in hex; never zero."""
    return f"{random.getrandbits(bits) or 1:0{bits // 4}x}"


@dataclass(slots=True)
class Span:
    """``started`` and ``ended`` are monotonic seconds; ``kind`` as OpenTelemetry calls it."""

    name: str
    kind: str
    span_id: str
    parent_id: str
    started: float
    ended: float = 0.0
    attributes: dict[str, Attribute] = field(default_factory=dict)
    error: str | None = None


class Trace:
    """What one request writes of its trace: its own span (``root``), and those below it."""

    __slots__ = ("open", "parent", "root", "sampled", "spans", "state", "trace_id")

    def __init__(self, parent: Parent | None, started: float, *, sampled: bool) -> None:
        self.parent = parent
        self.trace_id = parent.trace_id if parent is not None else new_id(128)
        self.state = parent.state if parent is not None else b""
        self.sampled = sampled
        above = parent.span_id if parent is not None else ""
        self.root = Span("request", "server", new_id(64), above, started)
        self.spans = [self.root]
        self.open: Span | None = None  # the one that is under way below the root

    def begin(self, name: str, kind: str, now: float) -> Span:
        """Open a span below the root; one that is open has come to nothing, and is closed."""
        self.end(now, error="broke_off")
        span = self.open = Span(name, kind, new_id(64), self.root.span_id, now)
        if self.sampled and len(self.spans) < MOST_SPANS:
            self.spans.append(span)
        return span

    def end(self, now: float, *, error: str | None = None) -> None:
        """Close the open span, if there is one."""
        if self.open is not None:
            self.open.ended, self.open.error = now, error
            self.open = None

    def lines(self) -> bytes:
        """What a backend is told: that its spans belong below the open one."""
        above = self.open or self.root
        told = f"traceparent: 00-{self.trace_id}-{above.span_id}-{int(self.sampled):02x}\r\n"
        state = b"tracestate: %b\r\n" % self.state if self.state else b""
        return told.encode("ascii") + state
