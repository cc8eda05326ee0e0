"""One try for one certificate: lock, look again, write down, issue, prove, keep, serve.

The order is what makes it safe to die anywhere in it. The attempt is on disk before the CA hears of
it; the certificate is on disk before anybody is served with it; and the one before it stays there.
A disk that takes nothing keeps nobody from being served: then the new certificate lives in memory
until the disk is well again.

Attempts run in threads of their own. Nothing that happens in one may end the process: every fault
becomes a `Problem` on the record.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import urlsplit

from ..certificates import ca_choice, loadable, recovery, transitions
from ..certificates.lifecycle import PAUSED
from ..certificates.managed import Holding
from ..certificates.recovery import Found
from ..certificates.renewal import Suggestion
from ..certificates.repository import Shelf
from ..certificates.transitions import Turn
from ..certificates.verify import Facts, Pair, canonical, covers, in_its_dates, proven
from ..errors import Blame, Problem
from ..issuers.interface import Issued, Issuer, Order
from ..link import INTERNAL, Authority, Dns, Link, LinkBroken
from ..rate_limits.ledger import Ledgers
from ..timestamps import timestamp

log = logging.getLogger("treehouse.certifier")

# Longer than an attempt can take (the bounds stand in `issuer`), so that nobody else begins
# meanwhile; short enough that a dead holder is forgotten within the hour.
LEASE = 1800.0
# Somebody else's attempt is usually over by then.
BUSY_PAUSE = 60.0
# A worker that does not acknowledge is being replaced; the new one gets all certificates at birth.
TELL_AGAIN = 60.0
# With more time than this, a certificate that could not be kept is better not ordered: every start
# would order it anew, against the CA's limits.
UNKEPT_BELOW = 2 * 86400.0


class Bench:
    """Where attempts are made. ``issuer`` gives the issuer for a CA; ``now`` Unix seconds;
    ``dns`` is how records are set."""

    def __init__(
        self,
        shelf: Shelf,
        link: Link,
        issuer: Callable[[Authority], Issuer],
        now: Callable[[], float],
        dice: random.Random,
        ledgers: Ledgers,
        dns: Dns | None = None,
    ) -> None:
        self._dns = dns or Dns()
        self._ledgers = ledgers
        self._shelf = shelf
        self._link = link
        self._issuer = issuer
        self._now = now
        self._dice = dice

    # What is at hand

    def look(self, holding: Holding) -> None:
        """Take from the shelf what is there: the certificate if it may be served, or the one
        before it, and the record."""
        kept, pair = self._shelf.load(holding.name)
        now, names = self._now(), holding.wanted.names
        found = recovery.find(self._shelf, holding.name, names, pair, now, kept.serial)
        if found is None:
            holding.pair = holding.facts = None
            holding.stands_in = False
            record = transitions.gone(transitions.recovered(kept, now))
        else:
            self._hold(holding, found)
            facts, record = found.facts, kept
            if facts.serial == record.serial:
                record = transitions.recovered(record, now)
            directory = record.directory or holding.wanted.authority.directory
            record = transitions.found(
                record, facts, source_of(directory), directory, now, self._dice
            )
            if not all(covers(facts.names, name) for name in names):
                record = transitions.not_enough(record)
            elif facts.not_after <= now:
                record = transitions.lost(record)
        changed = record.names not in ((), names) or record.key_type not in (
            None,
            holding.wanted.key_type,
        )
        if changed or not ca_choice.serves(holding.wanted, record):
            record = transitions.asked(record)
        elif record.state in PAUSED:
            record = transitions.configured_anew(record, self._fingerprint(holding))
        holding.record = record
        if record.renew_at != kept.renew_at:  # drawn just now, once and for all
            self.keep_record(holding)

    def _fingerprint(self, holding: Holding) -> str:
        return ca_choice.fingerprint(holding.wanted, self._dns)

    def look_behind_stand_in(self, holding: Holding) -> None:
        """Where the certificate before is served because of the clock, and the clock has been set
        right since: take the one that it stands in for."""
        if not holding.stands_in:
            return
        if self._usable(holding, self._shelf.load_pair(holding.name), self._now()) is not None:
            log.info("%s: in its dates again by this clock, and served", holding.name)
            self.look(holding)
            self.report(holding)

    def _hold(self, holding: Holding, found: Found) -> None:
        if holding.facts is None or holding.facts.serial != found.facts.serial:
            holding.served = False
        holding.pair, holding.facts, holding.stands_in = found.pair, found.facts, found.stands_in

    # What goes out

    def serve(self, holding: Holding) -> None:
        """Have the certificate at hand served by all workers."""
        holding.served = self._link.publish(holding.as_served())
        if not holding.served:
            holding.tell_at = self._now() + TELL_AGAIN
            log.warning("%s: not all workers have taken the certificate yet", holding.name)

    def report(self, holding: Holding) -> None:
        self._link.report(holding.name, holding.status())

    def keep_record(self, holding: Holding) -> bool:
        """On disk if the disk takes it; what is not there is only forgotten at the next start."""
        try:
            self._shelf.keep_record(holding.name, holding.record)
        except OSError as error:
            log.warning("%s: its record cannot be written: %s", holding.name, _words(error))
            return False
        return True

    def keep_pair(self, holding: Holding) -> None:
        if holding.pair is None:
            return
        try:
            self._shelf.keep_pair(holding.name, holding.pair)
            holding.saved = True
        except OSError as error:
            if holding.saved:
                log.error(
                    "%s: the certificate cannot be written (%s); it is served from memory and "
                    "lost at the next start unless the disk takes it before",
                    holding.name,
                    _words(error),
                )
            holding.saved = False

    def ask(self, holding: Holding) -> None:
        """Ask the CA when to renew. One that does not say is asked again all the same: it may
        learn to."""
        record = holding.record
        authority = ca_choice.issued_by(holding.wanted, record)
        suggestion: Suggestion | None = None
        try:
            if authority is not None and holding.pair is not None:
                suggestion = self._issuer(authority).suggestion(holding.pair.chain_pem)
        except Problem as problem:
            holding.record = transitions.uninformed(record, self._now(), problem.not_before)
            log.info("%s: no word on when to renew: %s", holding.name, problem.text)
        except Exception as error:
            holding.record = transitions.uninformed(record, self._now())
            log.exception("%s: a fault in the certifier itself: %r", holding.name, error)
        else:
            now = self._now()
            holding.record = (
                transitions.informed(record, suggestion, now, self._dice)
                if suggestion
                else transitions.not_told(record, now)
            )
        if holding.record.window != record.window:
            why = holding.record.window.explanation if holding.record.window else None
            log.info(
                "%s: the CA suggests another time; renews about %s%s",
                holding.name,
                timestamp(holding.record.renew_at),
                f"; why: {why}" if why else "",
            )
            self.report(holding)
        self.keep_record(holding)

    def revoke(self, holding: Holding, reason: int) -> str | None:
        """Why it could not be revoked; None when it was."""
        authority = ca_choice.issued_by(holding.wanted, holding.record)
        pair = holding.pair
        if pair is None or authority is None:
            return "there is no certificate of a CA that is configured"
        issuer = self._issuer(authority)
        return self._outcome(
            holding.name, lambda: issuer.revoke(pair.chain_pem, pair.key_pem, reason)
        )

    def standing_records(self, authority: Authority, names: tuple[str, ...]) -> tuple[str, bool]:
        """The records of dns-persist-01 at this CA, as lines of a zone file; or why there are none,
        and False."""
        lines = [f"; {authority.directory}"]

        def look() -> None:
            records = self._issuer(authority).standing_records(names)
            lines.extend(f"{one} ; {'stands' if one.stands else 'to be set'}" for one in records)

        error = self._outcome(authority.directory, look)
        return (error, False) if error else ("\n".join(lines), True)

    def roll_account_key(self, authority: Authority) -> str | None:
        """Why the account has no new key; None when it has."""
        return self._outcome(authority.directory, self._issuer(authority).roll_account_key)

    def _outcome(self, about: str, what: Callable[[], None]) -> str | None:
        try:
            what()
        except Problem as problem:
            return problem.text
        except Exception as error:
            log.exception("%s: a fault in the certifier itself", about)
            return repr(error)
        return None

    # The attempt

    def attempt(self, holding: Holding) -> None:
        begun = time.monotonic()  # the clock may be set meanwhile
        force, holding.force = holding.force, False
        barred = set() if force else self._barred(holding)
        authority = ca_choice.authority(holding.wanted, holding.record, self._now(), barred)
        holding.record = transitions.started(
            holding.record,
            holding.wanted.names,
            holding.wanted.key_type,
            self._fingerprint(holding),
        )
        challenge: str | None = None
        try:
            with self._alone(holding):
                if self._made_by_somebody_else(holding):
                    return
                self._write_down(holding)
                self.report(holding)
                issued = self._issued(holding, authority, force)
                challenge = issued.challenge
                pair, facts = proven(issued.pair, holding.wanted.names, self._now())
                loadable.demand(pair)
                issued = replace(issued, pair=pair)
                self._use(holding, authority, issued, facts, begun)
        except LinkBroken:
            raise
        except Problem as problem:
            self._failed(holding, authority, problem, problem.challenge or challenge, begun)
        except Exception as error:
            log.exception("%s: a fault in the certifier itself", holding.name)
            self._failed(holding, authority, Problem("internal", repr(error)), challenge, begun)

    def _barred(self, holding: Holding) -> set[str]:
        """The CAs that would make us wait; asked for only where there is another."""
        wanted = holding.wanted
        if not wanted.fallback:
            return set()
        return {
            one.directory
            for one in (wanted.authority, *wanted.fallback)
            if self._ledgers.bars(
                one.directory, wanted.names, renewal=self._renews(holding, one.directory)
            )
        }

    @staticmethod
    def _renews(holding: Holding, directory: str) -> bool:
        """Whether this CA has issued the certificate in use, and for the same names."""
        if holding.facts is None or holding.record.directory != directory:
            return False
        return set(holding.facts.names) == set(map(canonical, holding.wanted.names))

    def _usable(self, holding: Holding, pair: Pair | None, now: float) -> Found | None:
        if pair is None:
            return None
        try:
            found = recovery.examined(pair, holding.wanted.names)
        except Problem:
            return None
        return found if in_its_dates(found.facts, now) else None

    def _issued(self, holding: Holding, authority: Authority, force: bool) -> Issued:
        names, record = holding.wanted.names, holding.record
        ours = holding.facts is not None and record.directory == authority.directory
        renewal = self._renews(holding, authority.directory)
        toll = self._ledgers.toll(authority.directory, names, renewal=renewal, force=force)
        order = Order(
            names=names,
            key_type=holding.wanted.key_type,
            challenges=ca_choice.challenges(holding.wanted, record),
            # Only the CA that issued it can be told which one is replaced.
            replaces=holding.pair.chain_pem if ours and holding.pair else None,
            account=record.account,
            toll=toll,
        )
        try:
            issued = self._issuer(authority).issue(order)
        except Problem as problem:
            toll.settle(problem)
            raise
        toll.settle(None)
        return issued

    @contextlib.contextmanager
    def _alone(self, holding: Holding) -> Iterator[None]:
        try:
            lock = self._shelf.lock(holding.name, LEASE)
        except OSError as error:
            self._demand_disk(holding, error)
            yield
            return
        if lock is None:
            raise Problem(
                "busy",
                "another certifier is at work on it",
                not_before=self._now() + BUSY_PAUSE,
            )
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # a lease ends by itself
                lock.release()

    def _write_down(self, holding: Holding) -> None:
        try:
            self._shelf.keep_record(holding.name, holding.record)
        except OSError as error:
            self._demand_disk(holding, error)

    def _demand_disk(self, holding: Holding, error: OSError) -> None:
        """Without a disk, only who would otherwise be without a certificate gets one."""
        now = self._now()
        if holding.facts is not None and holding.facts.not_after - now > UNKEPT_BELOW:
            raise Problem(
                "disk", f"the state directory cannot be written: {_words(error)}"
            ) from None

    def _made_by_somebody_else(self, holding: Holding) -> bool:
        """After the lock, look again."""
        held = holding.facts.serial if holding.facts else None
        now = self._now()
        try:
            found = self._usable(holding, self._shelf.load_pair(holding.name), now)
            if found is None or found.facts.serial == held:
                return False
            record, _pair = self._shelf.load(holding.name)
        except OSError as error:
            self._demand_disk(holding, error)
            return False
        fresh = record.serial == found.facts.serial and (record.renew_at or 0.0) > now
        if not fresh or not all(covers(found.facts.names, one) for one in holding.wanted.names):
            return False
        log.info("%s: somebody else has obtained the certificate", holding.name)
        self._hold(holding, found)
        holding.record = transitions.found(
            holding.record,
            found.facts,
            record.source or "acme",
            record.directory or "",
            now,
            self._dice,
        )
        self.serve(holding)
        self.report(holding)
        return True

    def _use(
        self,
        holding: Holding,
        authority: Authority,
        issued: Issued,
        facts: Facts,
        begun: float,
    ) -> None:
        now = self._now()
        self._hold(holding, Found(issued.pair, facts))
        holding.record = transitions.obtained(
            holding.record,
            facts,
            source_of(authority.directory),
            authority.directory,
            issued.challenge,
            now,
            self._dice,
            time.monotonic() - begun,
            account=issued.account,
        )
        self.keep_pair(holding)
        self.keep_record(holding)
        self.serve(holding)
        self.report(holding)
        log.info(
            "%s: certificate obtained %s, valid %s, renews about %s",
            holding.name,
            _course("from", authority, issued.challenge, time.monotonic() - begun),
            spell(facts.not_after - now),
            timestamp(holding.record.renew_at),
        )

    def _failed(
        self,
        holding: Holding,
        authority: Authority,
        problem: Problem,
        challenge: str | None,
        begun: float,
    ) -> None:
        now = self._now()
        if problem.kind == "stopped":
            holding.record = transitions.stopped(holding.record)
            log.info("%s: attempt given up: %s", holding.name, problem.text)
        else:
            holding.record = transitions.failed(
                holding.record,
                problem,
                authority.directory,
                challenge,
                now,
                time.monotonic() - begun,
                turn=self._next_turn(holding, authority, problem, now),
            )
            log.warning(
                "%s: %s %s: %s; next attempt at %s",
                holding.name,
                "waits"
                if problem.kind == "limits"
                else f"attempt {holding.record.attempts} failed",
                _course("at", authority, challenge, time.monotonic() - begun),
                problem.text,
                timestamp(holding.record.next_attempt),
            )
        self.keep_record(holding)
        self.report(holding)

    def _next_turn(
        self, holding: Holding, authority: Authority, problem: Problem, now: float
    ) -> Turn:
        """Whose turn is next, now that this one's has come to nothing. What is wrong here is not
        mended by asking somebody else."""
        if problem.what.blame is Blame.OURS:
            return Turn.SAME
        record = transitions.counted(holding.record, problem)
        barred = self._barred(holding)
        other = ca_choice.authority(holding.wanted, record, now, barred)
        if other.directory == authority.directory or other.directory in barred:
            return Turn.SAME
        return Turn.OTHER if ca_choice.has_failed(record, other) else Turn.FIRST


def _words(error: OSError) -> str:
    return error.strerror or str(error)


def _course(word: str, authority: Authority, challenge: str | None, seconds: float) -> str:
    """Of an attempt, for its line in the log: with whom, by what, how long."""
    host = urlsplit(authority.directory).netloc or authority.directory
    way = f" by {challenge}" if challenge else ""
    return f"{word} {host}{way} in {seconds:.1f} s"


def source_of(directory: str) -> str:
    return "internal" if directory == INTERNAL else "acme"


def spell(seconds: float) -> str:
    """A length of time for people: its largest unit that leaves more than one."""
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{round(seconds / unit)} {name}"
    return f"{round(seconds)} seconds"
