"""Decides when a certificate is renewed.

Where the CA offers renewal information (ARI, RFC 9773), it says so: one moment is drawn from its
window, evenly, and kept until the window changes; a window that is over means now. Elsewhere the
moment follows from the lifetime, whatever that is, since lifetimes keep shrinking.

Pure: time and random generator are parameters. Moments are Unix seconds.
"""

from __future__ import annotations

import random

from ..late_dataclass import dataclass

# Renew when this part of the lifetime is left (Let's Encrypt's advice): it leaves room for a long
# outage, and for short lifetimes (Let's Encrypt: under ten days) the room must be larger.
PART_LEFT = 1 / 3
PART_LEFT_SHORT = 1 / 2
SHORT_LIFETIME = 10 * 86400.0

# Certificates that were made together come due apart: earlier by up to a twelfth of the lifetime
# (half a day of six), and at most a day, so that no CA sees a thousand orders in one hour.
SPREAD_PART = 1 / 12
SPREAD_MOST = 86400.0
# And by at least this part of the spread: what is left beyond the third (or half) is the time to
# catch up in when a CA was away for all of it. Three hours, or 90 minutes of six days: a thousand
# orders take 85 minutes (`executors`), and the last pause is at most 15 (`retry`).
SPREAD_FROM = 1 / 8

# Whatever the CA suggests, this part of the lifetime is left for attempts that fail: a window that
# ends with the certificate, by the CA's mistake, must not lead to a lapse.
PART_LEFT_AT_LEAST = 1 / 10

# Whatever the dates and the CA's window say, a certificate that has just come is not renewed again
# before this part of its time has passed, or so long: a CA whose window is always over, or one that
# gives out certificates which are due already, would be asked for one after the other.
BETWEEN_PART = 1 / 8
BETWEEN_MOST = 6 * 3600.0

# How often a window is asked for: Retry-After decides, within these (RFC 9773 §4.3: at least twice
# a day; and politeness). ``ASK_USUALLY`` where the CA does not say.
ASK_LEAST = 60.0
ASK_USUALLY = 6 * 3600.0
ASK_MOST = 12 * 3600.0
# Where the CA has no renewal information at all: it may learn to give it.
ASK_SELDOM = 86400.0


@dataclass(frozen=True, slots=True)
class Window:
    """ARI's suggestedWindow and explanationURL."""

    start: float
    end: float
    explanation: str | None = None


def moment(not_before: float, not_after: float, rng: random.Random) -> float:
    """Draw the renewal moment from the lifetime alone."""
    latest, spread = _latest(not_before, not_after)
    return latest - rng.uniform(spread * SPREAD_FROM, spread)


def first_moment(not_before: float, not_after: float) -> float:
    """Return the earliest moment that `moment` can draw."""
    latest, spread = _latest(not_before, not_after)
    return latest - spread


def _latest(not_before: float, not_after: float) -> tuple[float, float]:
    """Return when so little of the lifetime is left as may be, and the seconds before that over
    which renewals are spread."""
    lifetime = max(not_after - not_before, 0.0)
    part = PART_LEFT_SHORT if lifetime < SHORT_LIFETIME else PART_LEFT
    return not_after - lifetime * part, min(lifetime * SPREAD_PART, SPREAD_MOST)


def moment_in(window: Window, not_before: float, not_after: float, rng: random.Random) -> float:
    """Draw the renewal moment from a window (RFC 9773 §4.2). Draw once, and keep it."""
    latest = not_after - max(not_after - not_before, 0.0) * PART_LEFT_AT_LEAST
    start = min(window.start, latest)
    return rng.uniform(start, max(start, min(window.end, latest)))


def earliest(obtained: float, not_after: float) -> float:
    """Return the moment before which a certificate obtained at ``obtained`` is not renewed by
    itself."""
    return obtained + min(max(not_after - obtained, 0.0) * BETWEEN_PART, BETWEEN_MOST)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A CA's answer to the question when to renew."""

    window: Window
    retry_at: float | None  # when to ask again, if it says so


def ask_again(now: float, retry_at: float | None) -> float:
    """Return when to ask for the window again. ``retry_at`` is the answer's Retry-After as a
    moment."""
    if retry_at is None:
        return now + ASK_USUALLY
    return now + min(max(retry_at - now, ASK_LEAST), ASK_MOST)
