"""Which CA to ask, and which challenge to take: by what has worked and what has failed.

Pure: decided from what is configured and the certificate's record.
"""

from __future__ import annotations

from .link import Authority, Wanted
from .record import Record

# A fallback CA is another customer relationship and perhaps another chain: not for one hiccup.
FALLBACK_AFTER = 3
# And not while there is plenty of time: half of what is left at renewal by lifetime alone.
FALLBACK_BELOW = 1 / 6


def authority(wanted: Wanted, record: Record, now: float) -> Authority:
    """The first CA; after repeated failures and with little time left, each in turn."""
    if not wanted.fallback or record.attempts < FALLBACK_AFTER or not _short(record, now):
        return wanted.authority
    turn = (wanted.authority, *wanted.fallback)
    return turn[(record.attempts - FALLBACK_AFTER + 1) % len(turn)]


def challenges(wanted: Wanted, record: Record) -> tuple[str, ...]:
    """Kinds of challenge, the one to try first in front: what worked last; but not what the CA
    was not content with in the attempt before."""
    kinds = list(wanted.challenges)
    if record.challenge in kinds:
        kinds.remove(record.challenge)
        kinds.insert(0, record.challenge)
    last = record.history[-1] if record.history else None
    if last is not None and last.outcome == "validation" and last.challenge in kinds:
        kinds.remove(last.challenge)
        kinds.append(last.challenge)
    return tuple(kinds)


def issued_by(wanted: Wanted, record: Record) -> Authority | None:
    """The CA of the certificate on record, if it is configured still."""
    for one in (wanted.authority, *wanted.fallback):
        if one.directory == record.directory:
            return one
    return None


def serves(wanted: Wanted, record: Record) -> bool:
    """Whether the certificate on record comes from a CA that is configured. One whose record is
    lost may."""
    if record.directory is None:
        return True
    return issued_by(wanted, record) is not None


def _short(record: Record, now: float) -> bool:
    if record.not_after is None or record.not_before is None:
        return True
    return record.not_after - now < (record.not_after - record.not_before) * FALLBACK_BELOW
