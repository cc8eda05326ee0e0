"""Waits for a CA to come to an end with something, by asking again and again (RFC 8555 §7.5.1).

A wait keeps to the CA's Retry-After and bears a few answers that are lost or come too early. It
ends with an `IssuanceError` when the CA does not get anywhere, and at once when the program stops.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from ..errors import IssuanceError
from . import messages
from .transport import Transport

T = TypeVar("T")

# The first pauses between polls, where the CA names none; the last one repeats.
POLLS = (0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0)
# A CA that asks for more patience than this gets it as a pause between attempts.
LONGEST_POLL = 60.0
# Polls in a row that may fail on the way before the attempt does: seven seconds.
LOST_POLLS = 5
# What a CA has just said to be there may not have reached all of its front ends: 40 seconds.
NOT_THERE_YET = 10
NOT_FOUND = 404


class Poller:
    """Asks again until something has come about. ``stopping`` ends every wait; ``now`` gives Unix
    seconds."""

    def __init__(
        self, transport: Transport, stopping: threading.Event, now: Callable[[], float]
    ) -> None:
        self._transport = transport
        self._stopping = stopping
        self._now = now

    def until(
        self,
        look: Callable[[], T | None],
        within: float,
        otherwise: str,
        lost_polls: int = LOST_POLLS,
    ) -> T:
        """Call ``look`` until it returns something, and return that. ``otherwise`` says what has
        not come about when ``within`` seconds are over; ``lost_polls``: how many calls in a row may
        fail. Raises `IssuanceError`."""
        deadline = time.monotonic() + within
        polls = lost = 0
        while True:
            failure: IssuanceError | None = None
            try:
                found = look()
                if found is not None:
                    return found
                lost = 0
            except IssuanceError as problem:
                if not self._may_pass(problem):
                    raise
                failure = problem
                lost += 1
            pause = POLLS[min(polls, len(POLLS) - 1)]
            polls += 1
            until = self._transport.retry_after()
            if until is not None:
                pause = max(until - self._now(), POLLS[0])
            if lost > lost_polls or pause > LONGEST_POLL or time.monotonic() + pause > deadline:
                raise failure or IssuanceError("stuck", otherwise, not_before=until)
            if self._stopping.wait(pause):
                raise IssuanceError("stopped", "the program is being stopped")

    def _may_pass(self, problem: IssuanceError) -> bool:
        """Whether asking once more may help: nobody answered, the CA is not ready, it does not know
        yet what it has just named, or wants to be asked more slowly."""
        if problem.kind == "rate_limited":
            until = problem.not_before
            return until is not None and until - self._now() <= LONGEST_POLL
        return (
            problem.kind in ("unreachable", "unavailable")
            or problem.typ == messages.NOT_READY
            or problem.status == NOT_FOUND
        )
