"""Defines the states of a certificate and what each event does to them, as one table.

Rules:

- A state says what should happen next, not what has been: *missing* and *due* call for an attempt
  now, *waiting* and *failed* for one when the pause is over, *fresh* for one when the renewal
  moment has come, and *issuing* for none, because one is under way.
- Whether there is a certificate to serve meanwhile is no part of the state, with one exception:
  *missing* is *due* with nothing to serve.
- *waiting* and *failed* differ in who set the pause. *waiting*: the CA told us when to come back,
  or another certifier is at work. *failed*: the attempt failed and the pause is our own.
- A pause outlives everything but success and a person's wish: that a certificate expires meanwhile
  must not turn into a loop of orders against a CA that refuses.
- An attempt is written down before it is made. A process that dies in the middle finds *issuing* on
  its disk, and `INTERRUPTED` (for the first time) or `FAILED` (when it happens again) leads out.

Nothing here has a clock; `transitions` decides which event has happened.
"""

from __future__ import annotations

import enum


class State(enum.Enum):
    MISSING = "missing"
    FRESH = "fresh"
    DUE = "due"
    ISSUING = "issuing"
    WAITING = "waiting"
    FAILED = "failed"


class Event(enum.Enum):
    FOUND = "found"  # a certificate that can be served turned up: on disk, or made by somebody else
    LOST = "lost"  # the certificate expired, vanished or no longer covers the names
    RIPE = "ripe"  # the renewal moment has come
    STARTED = "started"  # an attempt begins
    OBTAINED = "obtained"  # and has led to a proven certificate
    FAILED = "attempt failed"
    TOLD_TO_WAIT = "told to wait"
    INTERRUPTED = "interrupted"  # the process ended in the middle
    PAUSE_OVER = "pause over"
    ASKED = "asked for by hand"


class Impossible(Exception):
    """An event that cannot happen in this state: a fault in this program."""


_S, _E = State, Event

TABLE: dict[State, dict[Event, State]] = {
    State.MISSING: {
        _E.FOUND: _S.FRESH,
        _E.LOST: _S.MISSING,
        _E.ASKED: _S.MISSING,
        _E.STARTED: _S.ISSUING,
    },
    State.FRESH: {
        _E.FOUND: _S.FRESH,
        _E.RIPE: _S.DUE,
        _E.LOST: _S.MISSING,
        _E.ASKED: _S.DUE,
    },
    State.DUE: {
        _E.FOUND: _S.FRESH,
        _E.LOST: _S.MISSING,
        _E.ASKED: _S.DUE,
        _E.STARTED: _S.ISSUING,
    },
    State.ISSUING: {
        _E.FOUND: _S.FRESH,
        _E.OBTAINED: _S.FRESH,
        _E.FAILED: _S.FAILED,
        _E.TOLD_TO_WAIT: _S.WAITING,
        _E.INTERRUPTED: _S.DUE,
    },
    State.WAITING: {
        _E.FOUND: _S.FRESH,
        _E.LOST: _S.WAITING,
        _E.ASKED: _S.DUE,
        _E.PAUSE_OVER: _S.DUE,
    },
    State.FAILED: {
        _E.FOUND: _S.FRESH,
        _E.LOST: _S.FAILED,
        _E.ASKED: _S.DUE,
        _E.PAUSE_OVER: _S.DUE,
    },
}

# States that call for an attempt now.
READY = frozenset({State.MISSING, State.DUE})
# States that stand until a moment.
PAUSED = frozenset({State.WAITING, State.FAILED})


def after(state: State, event: Event) -> State:
    """The state that follows; raises `Impossible` for a pair that the table does not have."""
    try:
        return TABLE[state][event]
    except KeyError:
        raise Impossible(f"{event.value} while {state.value}") from None


def mermaid() -> str:
    """The table as a Mermaid state diagram; events that change nothing are left out."""
    lines = ["stateDiagram-v2", "    [*] --> missing"]
    for state, row in TABLE.items():
        arrows: dict[State, list[str]] = {}
        for event, following in row.items():
            if following is not state:
                arrows.setdefault(following, []).append(event.value)
        lines += [
            f"    {state.value} --> {following.value}: {', '.join(events)}"
            for following, events in arrows.items()
        ]
    return "\n".join(lines) + "\n"


def page() -> str:
    """Return docs/lifecycle.md, which ``python -m acme_client.certificates.lifecycle`` writes."""
    return f"""# The life of a certificate

Made from the table in `acme_client/certificates/lifecycle.py` by
`python -m acme_client.certificates.lifecycle`; a test keeps this page current. The
module says what each state and event means.

```mermaid
{mermaid()}```
"""


if __name__ == "__main__":
    import sys

    sys.stdout.write(page())
