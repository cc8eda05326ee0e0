"""What each event does to a certificate's record.

`lifecycle` says which state follows. This module computes what goes with the state: how many
failures there were, when the pause ends, when to renew. It never asks for the time, and it never
changes a record in place. Pure: time and random generator are parameters.

It is hard because a clock may be set wrong, and must do no harm afterwards. Moments taken from a
certificate are facts and stay. A pause stores when it began. If the clock is earlier than that, the
clock was or is wrong; then the pause begins again with its original length, instead of lasting
until a date that may be years away.
"""

from __future__ import annotations

import enum
import random
from dataclasses import replace

from ..errors import IssuanceError
from ..link import INTERNAL
from ..x509.verify import CertificateInfo
from .lifecycle import PAUSED, READY, Event, State, after
from .record import HISTORY, MADE_LATELY, Attempt, Made, Record, Revoked
from .renewal import ASK_SELDOM, Suggestion, ask_again, earliest, moment, moment_in
from .retry import ANOTHER_CA, RETRY_AFTER_MOST, UNANSWERED_MOST, longest, pause

# An attempt that the end of the process cut off is repeated at once the first time: that was a
# restart at a bad moment. The second time it may be the attempt that kills the process.
INTERRUPTIONS = 2


def on_found(
    record: Record,
    facts: CertificateInfo,
    source: str,
    directory: str,
    now: float,
    rng: random.Random,
) -> Record:
    """A usable certificate was found. What the record says of this very certificate stays, and so
    does a pause."""
    if record.serial == facts.serial and record.renew_at is not None:
        return _put_right(record, now) if record.state is State.MISSING else record
    return replace(
        _quiet(record, after(record.state, Event.FOUND)),
        source=source,
        directory=directory,
        account=None,
        made=replace(record.made, wishes="", terms=None) if record.made else None,
        serial=facts.serial,
        not_before=facts.not_before,
        not_after=facts.not_after,
        renew_at=moment(facts.not_before, facts.not_after, rng),
        window=None,
        ask_at=None if source == INTERNAL else now,
    )


def on_imported(
    record: Record, facts: CertificateInfo, directory: str | None, now: float, rng: random.Random
) -> Record:
    """A certificate was imported from another program. ``directory`` is its CA's, if that is
    known."""
    record = on_found(record, facts, "acme", directory or "", now, rng)
    arrived = Attempt(now, "imported", directory or "")
    return replace(record, directory=directory, history=_remember(record, arrived))


def on_expired(record: Record) -> Record:
    """The certificate has expired, by this clock."""
    return replace(record, state=after(record.state, Event.LOST))


def on_names_missing(record: Record) -> Record:
    """The certificate does not cover all names that are wanted."""
    return replace(on_expired(record), wanted_anew=True)


def on_lost(record: Record) -> Record:
    """There is no certificate any more: forget what the record says of it."""
    return replace(on_expired(record), serial=None, not_before=None, not_after=None, renew_at=None)


def on_start(record: Record, now: float) -> Record:
    """The process starts: lead out of an attempt that the end of the process before cut off."""
    if record.state is not State.ISSUING:
        return record
    if record.interrupted < INTERRUPTIONS:
        return replace(record, state=after(record.state, Event.INTERRUPTED))
    return on_failed(
        record,
        IssuanceError("internal", "the program ended during the attempt, more than once"),
        record.directory or "",
        None,
        now,
    )


def on_heard(record: Record) -> Record:
    """The record was read from another machine: the attempt that it tells of is made there."""
    if record.state is not State.ISSUING:
        return record
    return replace(record, state=after(record.state, Event.INTERRUPTED))


def on_shared_start(record: Record, node: str) -> Record:
    """An attempt begins on this of several machines."""
    return replace(record, tried_by=node)


def on_made(record: Record, node: str, wishes: str, now: float) -> Record:
    """The certificate was made by this of several machines."""
    before = record.made.lately if record.made else ()
    lately = (*before, now)[-MADE_LATELY:]
    return replace(record, made=Made(node, wishes, record.terms, lately))


def braked_until(record: Record, now: float) -> float | None:
    """Return until when no further certificate is made, because `MADE_LATELY` were made lately;
    None where a certificate may be made. Machines that disagree must not flood the CA with
    orders."""
    lately = record.made.lately if record.made else ()
    window = min(86400.0, _lifetime(record) / 2)
    if len(lately) < MADE_LATELY or lately[0] <= now - window:
        return None
    return lately[0] + window


def on_requested(record: Record) -> Record:
    """A person or a changed configuration asks for a new certificate: earlier failures no longer
    count."""
    if record.state is State.ISSUING:
        return record
    return replace(_quiet(record, after(record.state, Event.ASKED)), wanted_anew=True)


def on_revoked(record: Record, node: str) -> Record:
    """A person has had the certificate in use revoked, on this of several machines; "" for one
    alone."""
    requested = on_requested(record)
    if not node or record.serial is None:
        return requested
    return replace(requested, revoked=Revoked(node, record.serial))


def on_reconfigured(record: Record, fingerprint: str) -> Record:
    """The configuration has changed: end a pause that followed from the earlier one. What a CA has
    said about its limits is in the ledger, and still holds."""
    if record.state not in PAUSED or record.tried_with in (None, fingerprint):
        return record
    return on_requested(record)


def on_started(
    record: Record,
    names: tuple[str, ...],
    key_type: str | None = None,
    tried_with: str | None = None,
    terms: tuple[str, ...] | None = None,
) -> Record:
    """An attempt begins. The caller writes the record before it asks a CA for anything."""
    return replace(
        record,
        state=after(record.state, Event.STARTED),
        names=names,
        key_type=key_type or record.key_type,
        tried_with=tried_with,
        terms=terms or record.terms,
        interrupted=record.interrupted + 1,
    )


def on_obtained(
    record: Record,
    facts: CertificateInfo,
    source: str,
    directory: str,
    challenge: str | None,
    now: float,
    rng: random.Random,
    seconds: float | None = None,
    account: str | None = None,
    remark: str = "",
) -> Record:
    """The attempt has led to a certificate. ``seconds``: how long the attempt took. ``remark``:
    what else `why` is to tell of it."""
    return replace(
        _quiet(record, after(record.state, Event.OBTAINED)),
        source=source,
        directory=directory,
        account=account,
        serial=facts.serial,
        not_before=facts.not_before,
        not_after=facts.not_after,
        renew_at=max(
            moment(facts.not_before, facts.not_after, rng), earliest(now, facts.not_after)
        ),
        window=None,
        ask_at=None if source == INTERNAL else now,
        revoked=None,
        challenge=challenge or record.challenge,
        history=_remember(record, Attempt(now, "obtained", directory, challenge, remark, seconds)),
    )


class Turn(enum.Enum):
    """Which CA is asked after a failure."""

    SAME = "the same CA"
    OTHER = "another CA, which has not asked us to wait"
    FIRST = "another CA, which has not failed yet"


def _unanswered(problem: IssuanceError) -> bool:
    """Whether the CA has counted nothing, because it never answered."""
    return problem.kind in ("unreachable", "unavailable") and problem.not_before is None


def counted(record: Record, problem: IssuanceError) -> Record:
    """Count a failure; none where our own count of the CA's limits kept us from asking."""
    return replace(record, attempts=record.attempts + (problem.kind != "limits"))


def on_failed(
    record: Record,
    problem: IssuanceError,
    directory: str,
    challenge: str | None,
    now: float,
    seconds: float | None = None,
    *,
    turn: Turn = Turn.SAME,
) -> Record:
    told = problem.not_before is not None or problem.what.wait
    record = counted(record, problem)
    length = pause(
        max(record.attempts, 1),
        now,
        not_before=problem.not_before if turn is Turn.SAME else None,
        runway=(record.not_after or now) - now,
        lifetime=_lifetime(record),
    )
    if turn is Turn.FIRST:
        length = min(length, ANOTHER_CA)
    elif record.not_after is None and _unanswered(problem):
        length = min(length, UNANSWERED_MOST)
    return replace(
        record,
        state=after(record.state, Event.TOLD_TO_WAIT if told else Event.FAILED),
        last_error=problem.text,
        paused_at=now,
        next_attempt=now + length,
        interrupted=0,
        history=_remember(
            record,
            Attempt(now, problem.kind, directory, challenge, problem.text, seconds, problem.said),
        ),
    )


def on_stopped(record: Record) -> Record:
    """The attempt was broken off because the program ends: it does not count."""
    return replace(
        record, state=after(record.state, Event.INTERRUPTED), interrupted=record.interrupted - 1
    )


def on_ari(record: Record, suggestion: Suggestion, now: float, rng: random.Random) -> Record:
    """The CA has suggested when to renew. A moment that was drawn from the same window stays."""
    window, ask_at = suggestion.window, ask_again(now, suggestion.retry_at)
    kept = record.window
    if kept is not None and (kept.start, kept.end) == (window.start, window.end):
        return replace(record, window=window, ask_at=ask_at)
    if record.not_before is None or record.not_after is None:
        return replace(record, ask_at=ask_at)
    renew_at = moment_in(window, record.not_before, record.not_after, rng)
    came = next((one.at for one in reversed(record.history) if one.outcome == "obtained"), None)
    if came is not None:  # by a clock that ran ahead, perhaps
        renew_at = max(renew_at, earliest(min(came, now), record.not_after))
    return replace(record, window=window, renew_at=renew_at, ask_at=ask_at)


def on_ari_failed(record: Record, now: float, retry_at: float | None = None) -> Record:
    """The CA could not be asked when to renew: keep what it said before."""
    return replace(record, ask_at=ask_again(now, retry_at))


def on_no_ari(record: Record, now: float) -> Record:
    """The CA does not say when to renew."""
    return replace(record, ask_at=now + ASK_SELDOM)


def after_time(record: Record, now: float) -> Record:
    """Time has passed: a pause is over, a renewal is due, a certificate has expired, or the clock
    was set. Returns the same record if nothing changes."""
    if record.state in PAUSED:
        if record.paused_at is None or record.next_attempt is None:
            return _resumed(record, now)
        if now >= record.next_attempt:
            return _resumed(record, now)
        length = record.next_attempt - record.paused_at
        if now < record.paused_at or length > RETRY_AFTER_MOST:
            length = min(length, RETRY_AFTER_MOST)
            if record.state is State.FAILED:  # chosen by a clock that saw another runway
                length = min(length, longest((record.not_after or now) - now, _lifetime(record)))
            return _put_right(replace(record, paused_at=now, next_attempt=now + length), now)
    elif record.state is State.MISSING:
        return _put_right(record, now)
    elif record.state is State.DUE:
        if record.not_after is None or now >= record.not_after:
            return on_expired(record)
    elif record.state is State.FRESH:
        if record.not_after is None or now >= record.not_after:
            return on_expired(record)
        if record.renew_at is None or now >= record.renew_at:
            return replace(record, state=after(record.state, Event.RIPE))
        if record.ask_at is not None and record.ask_at > now + ASK_SELDOM:
            return replace(record, ask_at=now)  # set by a clock that ran ahead
    return record


def _resumed(record: Record, now: float) -> Record:
    right = _put_right(record, now)
    if right != record:
        return right
    return replace(record, state=after(record.state, Event.PAUSE_OVER))


def _put_right(record: Record, now: float) -> Record:
    """Undo what a clock that ran ahead has done: the certificate has not expired after all, and
    no attempt is needed."""
    good = record.not_after is not None and now < record.not_after
    if record.wanted_anew or not good or record.renew_at is None or now >= record.renew_at:
        return record
    return _quiet(record, after(record.state, Event.FOUND))


def next_moment(record: Record) -> float | None:
    """When `after_time` will find something to change, or an attempt is to be made; None: not by
    time."""
    if record.state in READY:
        return 0.0
    if record.state in PAUSED:
        return record.next_attempt
    if record.state is State.FRESH:
        ask_at = record.renew_at if record.ask_at is None else record.ask_at
        return min(record.renew_at or 0.0, record.not_after or 0.0, ask_at or 0.0)
    return None


def _lifetime(record: Record) -> float:
    return (record.not_after or 0.0) - (record.not_before or 0.0)


def _quiet(record: Record, state: State) -> Record:
    """Return the record in ``state``, without failures; its history stays."""
    return replace(
        record,
        state=state,
        wanted_anew=False,
        attempts=0,
        last_error=None,
        paused_at=None,
        next_attempt=None,
        interrupted=0,
    )


def _remember(record: Record, attempt: Attempt) -> tuple[Attempt, ...]:
    history = record.history
    if attempt.outcome == "limits" and history and history[-1].outcome == "limits":
        history = history[:-1]  # still waiting: what happened before is worth more
    return (*history, attempt)[-HISTORY:]
