"""One try for one certificate: lock, look again, write down, issue, prove, keep, serve.

The order is what makes it safe to die anywhere in it. The attempt is on disk before the CA hears of
it; the certificate is on disk before anybody is served with it; and the one before it stays there.
A disk that takes nothing keeps nobody from being served: then the new certificate lives in memory
until the disk is well again.

Attempts run in threads of their own. Nothing that happens in one may end the process: every fault
becomes an `IssuanceError` on the record.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import urlsplit

from ..certificates import ca_choice, retry, transitions
from ..certificates.managed import Holding
from ..certificates.recovery import Found
from ..certificates.repository import Shelf
from ..certificates.transitions import Turn
from ..errors import Blame, IssuanceError
from ..issuers.interface import Issued, Issuer, Order
from ..link import Authority, LinkBroken
from ..names import canonical, covers
from ..rate_limits.ledger import Ledgers
from ..text import spell, timestamp
from ..x509 import loadable
from ..x509.verify import CertificateInfo, verified
from .keeper import CertificateKeeper, source_of, words

log = logging.getLogger("treehouse.certifier")

# Longer than an attempt can take (the bounds stand in `issuer`), so that nobody else begins
# meanwhile; short enough that a dead holder is forgotten within the hour.
LEASE = 1800.0
# Somebody else's attempt is usually over by then.
BUSY_PAUSE = 60.0
# With more time than this, a certificate that could not be kept is better not ordered: every start
# would order it anew, against the CA's limits.
UNKEPT_BELOW = 2 * 86400.0


class Obtainer:
    """Makes attempts. ``issuer`` gives the issuer for a CA; ``now`` Unix seconds."""

    def __init__(
        self,
        keeper: CertificateKeeper,
        shelf: Shelf,
        issuer: Callable[[Authority], Issuer],
        ledgers: Ledgers,
        now: Callable[[], float],
        dice: random.Random,
    ) -> None:
        self._keeper = keeper
        self._shelf = shelf
        self._issuer = issuer
        self._ledgers = ledgers
        self._now = now
        self._dice = dice

    def attempt(self, holding: Holding) -> None:
        begun = time.monotonic()  # the clock may be set meanwhile
        force, holding.force = holding.force, False
        barred = set() if force else self._barred(holding)
        authority = ca_choice.authority(holding.wanted, holding.record, self._now(), barred)
        holding.record = transitions.started(
            holding.record,
            holding.wanted.names,
            holding.wanted.key_type,
            self._keeper.fingerprint(holding),
            ca_choice.terms(authority),
        )
        challenge: str | None = None
        try:
            with self._alone(holding):
                if self._made_by_somebody_else(holding):
                    return
                self._write_down(holding)
                self._keeper.report(holding)
                issued = self._issued(holding, authority, force)
                challenge = issued.challenge
                pair, facts = verified(issued.pair, holding.wanted.names, self._now())
                loadable.demand(pair)
                issued = replace(issued, pair=pair)
                self._use(holding, authority, issued, facts, begun)
        except LinkBroken:
            raise
        except IssuanceError as problem:
            self._failed(holding, authority, problem, problem.challenge or challenge, begun)
        except Exception as error:
            log.exception("%s: a fault in the certifier itself", holding.name)
            self._failed(
                holding, authority, IssuanceError("internal", repr(error)), challenge, begun
            )

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

    def _issued(self, holding: Holding, authority: Authority, force: bool) -> Issued:
        names, record = holding.wanted.names, holding.record
        ours = holding.facts is not None and record.directory == authority.directory
        renewal = self._renews(holding, authority.directory)
        reservation = self._ledgers.reservation(
            authority.directory, names, renewal=renewal, force=force
        )
        order = Order(
            names=names,
            key_type=holding.wanted.key_type,
            challenges=ca_choice.challenges(holding.wanted, record),
            # Only the CA that issued it can be told which one is replaced.
            replaces=holding.pair.chain_pem if ours and holding.pair else None,
            account=record.account,
            reservation=reservation,
        )
        try:
            issued = self._issuer(authority).issue(order)
        except IssuanceError as problem:
            if problem.not_before is not None and problem.kind != "limits":
                now = self._now()
                runway = holding.facts.not_after - now if holding.facts else 0.0
                problem.not_before = retry.bounded(problem.not_before, now, runway)
            reservation.commit(problem)
            raise
        reservation.commit(None)
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
            raise IssuanceError(
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
            raise IssuanceError(
                "disk", f"the state directory cannot be written: {words(error)}"
            ) from None

    def _made_by_somebody_else(self, holding: Holding) -> bool:
        """After the lock, look again."""
        held = holding.facts.serial if holding.facts else None
        now = self._now()
        try:
            found = self._keeper.usable(holding, self._shelf.load_pair(holding.name))
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
        self._keeper.hold(holding, found)
        holding.record = transitions.found(
            holding.record,
            found.facts,
            record.source or "acme",
            record.directory or "",
            now,
            self._dice,
        )
        self._keeper.serve_or_log(holding)
        self._keeper.report(holding)
        return True

    def _use(
        self,
        holding: Holding,
        authority: Authority,
        issued: Issued,
        facts: CertificateInfo,
        begun: float,
    ) -> None:
        """Keep the certificate and have it served. Raises `IssuanceError` when workers cannot serve
        it; then everything is as it was before, on the disk too."""
        now, started = self._now(), holding.record
        before = (
            Found(holding.pair, holding.facts, holding.stands_in)
            if holding.pair is not None and holding.facts is not None
            else None
        )
        self._keeper.hold(holding, Found(issued.pair, facts))
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
        self._keeper.keep_pair(holding)
        self._keeper.keep_record(holding)
        try:
            self._keeper.serve(holding)
        except IssuanceError:
            self._keeper.put_back(holding, before)
            holding.record = started
            raise
        self._keeper.report(holding)
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
        problem: IssuanceError,
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
                turn=self._next_turn(holding, authority, problem, challenge, now),
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
        self._keeper.keep_record(holding)
        self._keeper.report(holding)

    def _next_turn(
        self,
        holding: Holding,
        authority: Authority,
        problem: IssuanceError,
        challenge: str | None,
        now: float,
    ) -> Turn:
        """Which CA to try next. After a local failure, stay with the same CA."""
        if problem.what.blame is Blame.OURS:
            return Turn.SAME
        directory = authority.directory
        record = transitions.failed(holding.record, problem, directory, challenge, now)
        barred = self._barred(holding)
        other = ca_choice.authority(holding.wanted, record, now, barred)
        if other.directory == authority.directory or other.directory in barred:
            return Turn.SAME
        return Turn.OTHER if ca_choice.has_failed(record, other) else Turn.FIRST


def _course(word: str, authority: Authority, challenge: str | None, seconds: float) -> str:
    """Of an attempt, for its line in the log: with whom, by what, how long."""
    host = urlsplit(authority.directory).netloc or authority.directory
    way = f" by {challenge}" if challenge else ""
    return f"{word} {host}{way} in {seconds:.1f} s"
