"""Computes the pause after a failed attempt, and reads a CA's Retry-After.

Pure: the time is a parameter, in Unix seconds.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# Seconds after the first, second and third failure in a row, and after each further one. A fault
# that mends itself (a restart, a DNS change) is usually over within minutes; after that, a day
# keeps a broken name far below every CA's limits (Let's Encrypt: 5 failed validations per name and
# hour).
PAUSES = (60.0, 600.0, 6000.0, 86400.0)

# Seconds before another CA is asked that has not failed yet. It is not 0, because the fault may be
# our own network, which is away for a moment.
ANOTHER_CA = 5.0

# The longest pause where there is no certificate and no CA has answered: no CA has counted
# anything, and a CA that is down for hours is well again long before a day is over.
UNANSWERED_MOST = 3600.0

# A pause of a day is too long for a certificate that is about to expire, or has just expired: it is
# at most this part of the time to its end, or since. So a CA that comes back late in the runway is
# noticed in time, and one that comes back too late does not leave clients without one for another
# day.
RUNWAY_PART = 1 / 8
# … but never shorter than this: four attempts an hour stay below the limit named above. For
# certificates that live for minutes (tests) it shrinks with the lifetime.
SHORTEST_BY_RUNWAY = 900.0
SHORTEST_BY_LIFETIME = 1 / 100

# Retry-After is obeyed within these bounds: a CA may not make us ask without end, and a nonsensical
# date (the CA's clock, or ours) may not silence a certificate for ever. Let's Encrypt's longest
# window is seven days.
RETRY_AFTER_LEAST = 1.0
RETRY_AFTER_MOST = 8 * 86400.0
# A CA is taken at its word for a day; for an hour where clients get nothing meanwhile. Then it is
# asked again: its limit may have been raised, or its word a mistake.
TAKEN_AT_ITS_WORD = 86400.0
TAKEN_AT_ITS_WORD_WITHOUT = 3600.0


def pause(
    failures: int,
    now: float,
    *,
    not_before: float | None = None,
    runway: float = 0.0,
    lifetime: float = 0.0,
) -> float:
    """Seconds to the next attempt, after ``failures`` in a row (at least 1).

    ``not_before`` is the CA's Retry-After as a moment, and wins. ``runway`` is how long the
    certificate in use will still be valid, out of ``lifetime``; negative when it has expired. A
    ``lifetime`` of 0: there is none.
    """
    if not_before is not None:
        return min(max(not_before - now, RETRY_AFTER_LEAST), RETRY_AFTER_MOST)
    usual = PAUSES[min(failures, len(PAUSES)) - 1]
    return min(usual, longest(runway, lifetime))


def bounded(moment: float, now: float, runway: float) -> float:
    """The moment that a CA has named for the next attempt, as far as it is obeyed. ``runway``: for
    how many seconds the certificate in use will still be valid; 0 or less: there is none."""
    most = min(max(runway, TAKEN_AT_ITS_WORD_WITHOUT), TAKEN_AT_ITS_WORD)
    return min(max(moment, now + RETRY_AFTER_LEAST), now + most)


def longest(runway: float, lifetime: float) -> float:
    """The longest pause of our own choice, so near to a certificate's end."""
    if lifetime <= 0:
        return PAUSES[-1]
    floor = min(SHORTEST_BY_RUNWAY, lifetime * SHORTEST_BY_LIFETIME)
    return max(abs(runway) * RUNWAY_PART, floor)


def retry_after(field: str | None, now: float) -> float | None:
    """The moment that a Retry-After field names, or None if it names none (RFC 9110 §10.2.3).

    A date is taken in whatever zone it is written (RFC 9110 knows only GMT, CAs know more);
    without a zone it is GMT.
    """
    if field is None:
        return None
    text = field.strip()
    if text.isascii() and text.isdigit():
        return now + min(int(text[:12]), RETRY_AFTER_MOST)
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


# Let's Encrypt's words, for when no field says it: "…, retry after 2026-08-02 00:31:45 UTC: see …".
_SAID = re.compile(r"retry after (\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d) ?(?:UTC|Z)\b", re.IGNORECASE)


def retry_after_in(text: str) -> float | None:
    """The moment that a CA names in the text of its refusal, or None."""
    said = _SAID.search(text)
    if said is None:
        return None
    try:
        return datetime.fromisoformat(f"{said[1]}T{said[2]}+00:00").timestamp()
    except ValueError:
        return None
