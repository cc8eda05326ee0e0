"""Makes one attempt for one certificate: lock, look again, record, order, verify, keep, serve.

The order of these steps makes it safe to die between any two. The attempt is on disk before the CA
hears of it, the certificate is on disk before a client gets it, and the certificate before it stays
there. When the disk takes nothing, the new certificate is served from memory until the disk does.

Attempts run in threads of their own. No fault in an attempt ends the process: every fault
becomes an `IssuanceError` on the record.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from urllib.parse import urlsplit

from ..certificates import ca_choice, retry, transitions
from ..certificates.managed import ManagedCertificate
from ..certificates.recovery import Found
from ..certificates.repository import CertificateRepository
from ..certificates.shared_repository import LOST
from ..certificates.transitions import Turn
from ..errors import Blame, IssuanceError
from ..issuers.interface import Issued, Issuer, Order
from ..link import Authority, LinkBroken
from ..names import canonical, covers
from ..rate_limits.ledger import Claim, Ledger, LedgerReservation
from ..storage.store import Lock
from ..text import spell, timestamp
from ..x509 import loadable
from ..x509.verify import CertificateInfo, verified
from .keeper import CertificateKeeper, source_of, words
from .stored_note import StoredNote
from .together import Together, Unlocked, WhileHeld

log = logging.getLogger("treehouse.certifier")

# The lock on a certificate lasts longer than an attempt can take (`issuers` has the bounds), so
# that nobody else begins meanwhile, and not so long that a dead holder is remembered for an hour.
LEASE = 1800.0
# The pause when another certifier is at work on the certificate.
BUSY_PAUSE = 60.0
# A CA that did not answer is not asked for another certificate so soon, if there is another CA and
# nothing is served meanwhile: a hundred new names must not wait for a hundred time-outs.
SILENT_FOR = 60.0
_NOTED_WITHIN = 1.0  # seconds between threads that look at the clock and note what they saw
# With more runway than this, no certificate is ordered that could not be kept on disk: every start
# would order it again, against the CA's limits.
UNKEPT_BELOW = 2 * 86400.0


class Obtainer:
    """Makes attempts. ``issuer`` gives the issuer for a CA; ``now`` Unix seconds; ``together``:
    where other machines have the same certificates."""

    def __init__(
        self,
        keeper: CertificateKeeper,
        repository: CertificateRepository,
        issuer: Callable[[Authority], Issuer],
        ledger: Ledger,
        now: Callable[[], float],
        rng: random.Random,
        together: Together | None = None,
    ) -> None:
        self._keeper = keeper
        self._repository = repository
        self._issuer = issuer
        self._ledger = ledger
        self._together = together
        self._now = now
        self._rng = rng
        self._silent_since: dict[str, float] = {}  # by the directory of a CA

    def attempt(self, managed: ManagedCertificate) -> None:
        if self._together is None:
            self._attempt(managed, self._alone(managed))
            return
        authority = ca_choice.authority(managed.wanted, managed.record, self._now())
        with self._together.turn(managed, authority.directory) as lock:
            if lock is not None:
                self._attempt(managed, contextlib.nullcontext(), lock)

    def share(self, managed: ManagedCertificate) -> None:
        """Share a certificate that was made while the other machines could not be told."""
        if self._together is not None:
            self._together.share(managed)

    def _attempt(
        self,
        managed: ManagedCertificate,
        alone: AbstractContextManager[None],
        lock: Lock | None = None,
    ) -> None:
        begun = time.monotonic()  # the clock may be set meanwhile
        force, managed.force = managed.force, False
        managed.by_hand = False
        avoided = set() if force else self._avoided(managed)
        authority = ca_choice.authority(managed.wanted, managed.record, self._now(), avoided)
        managed.record = transitions.on_started(
            managed.record,
            managed.wanted.names,
            managed.wanted.key_type,
            self._keeper.fingerprint(managed),
            ca_choice.terms(authority),
        )
        if self._together is not None:
            managed.record = transitions.on_shared_start(managed.record, self._together.node)
        challenge: str | None = None
        try:
            with alone:
                if self._together is None and self._made_by_somebody_else(managed):
                    return
                self._write_down(managed)
                self._keeper.report(managed)
                reservation = self._ledger.reservation(
                    authority.directory,
                    managed.wanted.names,
                    renewal=self._renews(managed, authority.directory),
                    force=force,
                    claim=Claim(managed.name, None if isinstance(lock, Unlocked) else lock),
                )
                note = StoredNote(
                    self._repository,
                    managed,
                    authority.directory,
                    reservation,
                    self._now,
                    functools.partial(self._demand_disk, managed),
                    anew=force,
                )
                issued = self._issued(managed, authority, reservation, note, lock)
                challenge = issued.challenge
                try:
                    pair, facts = verified(issued.pair, managed.wanted.names, self._now())
                    loadable.demand(pair)
                except IssuanceError:
                    note.erase()
                    raise
                issued = replace(issued, pair=pair)
                self._use(managed, authority, issued, facts, begun, note)
        except LinkBroken:
            raise
        except LOST as fault:
            if self._together is None:
                raise
            self._together.lost(managed, fault)
        except IssuanceError as problem:
            self._failed(managed, authority, problem, problem.challenge or challenge, begun)
        except Exception as error:  # an attempt always ends in its record
            log.exception("%s: a fault in the certifier itself", managed.name)
            self._failed(
                managed, authority, IssuanceError("internal", repr(error)), challenge, begun
            )

    def _avoided(self, managed: ManagedCertificate) -> set[str]:
        """Return the directories of CAs that lose their turn while another can be asked: their
        limits would make us wait, or, where nothing is served, they did not answer a moment ago.
        Empty where there is one CA only."""
        wanted, now = managed.wanted, self._now()
        if not wanted.fallback:
            return set()
        unfinished = self._unfinished_at(managed)
        return {
            one.directory
            for one in (wanted.authority, *wanted.fallback)
            if (
                one.directory != unfinished
                and self._ledger.must_wait(
                    one.directory, wanted.names, renewal=self._renews(managed, one.directory)
                )
            )
            or (not managed.usable(now) and self._is_silent(one.directory, now))
        }

    def _is_silent(self, directory: str, now: float) -> bool:
        """Whether the CA did not answer an attempt for any certificate in the last minute."""
        since = self._silent_since.get(directory)
        # Another thread may note a silence while this one looks: then it lies a moment ahead.
        return since is not None and since - _NOTED_WITHIN <= now < since + SILENT_FOR

    def _unfinished_at(self, managed: ManagedCertificate) -> str | None:
        """Return the directory of the CA that has an order for it already, which costs nothing
        more."""
        try:
            order = self._repository.unfinished_order(managed.name)
        except OSError:
            return None
        return None if order is None else order.directory

    @staticmethod
    def _renews(managed: ManagedCertificate, directory: str) -> bool:
        """Whether this CA has issued the certificate in use, and for the same names."""
        if managed.facts is None or managed.record.directory != directory:
            return False
        return set(managed.facts.names) == set(map(canonical, managed.wanted.names))

    def _issued(
        self,
        managed: ManagedCertificate,
        authority: Authority,
        reservation: LedgerReservation,
        note: StoredNote,
        lock: Lock | None,
    ) -> Issued:
        names, record = managed.wanted.names, managed.record
        ours = managed.facts is not None and record.directory == authority.directory
        order = Order(
            name=managed.name,
            names=names,
            key_type=managed.wanted.key_type,
            challenges=ca_choice.challenges(managed.wanted, record),
            # Only the CA that issued it can be told which one is replaced.
            replaces=managed.pair.chain_pem if ours and managed.pair else None,
            account=record.account,
            reservation=reservation if lock is None else WhileHeld(reservation, lock),
            note=note,
        )
        try:
            issued = self._issuer(authority).issue(order)
        except IssuanceError as problem:
            if problem.not_before is not None and problem.kind != "limits":
                now = self._now()
                runway = managed.facts.not_after - now if managed.facts else 0.0
                problem.not_before = retry.bounded(problem.not_before, now, runway)
            note.failed(problem)
            reservation.commit(problem)
            raise
        except (LinkBroken, *LOST):
            raise
        except Exception as error:  # a fault of ours that comes with this very order, perhaps
            note.failed(IssuanceError("internal", repr(error)))
            raise
        reservation.commit(None)
        return issued

    @contextlib.contextmanager
    def _alone(self, managed: ManagedCertificate) -> Iterator[None]:
        try:
            lock = self._repository.lock(managed.name, LEASE)
        except OSError as error:
            self._demand_disk(managed, error)
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

    def _write_down(self, managed: ManagedCertificate) -> None:
        try:
            self._repository.keep_record(managed.name, managed.record)
        except LOST:
            raise
        except OSError as error:
            self._demand_disk(managed, error)

    def _demand_disk(self, managed: ManagedCertificate, error: OSError) -> None:
        """Without a disk, go on only if the certificate in use is about to expire."""
        now = self._now()
        if managed.facts is not None and managed.facts.not_after - now > UNKEPT_BELOW:
            raise IssuanceError(
                "disk", f"the state directory cannot be written: {words(error)}"
            ) from None

    def _made_by_somebody_else(self, managed: ManagedCertificate) -> bool:
        """Whether another process has obtained the certificate before we got the lock. Then use
        it."""
        held = managed.serial
        now = self._now()
        try:
            found = self._keeper.usable(managed, self._repository.load_pair(managed.name))
            if found is None or found.facts.serial == held:
                return False
            record, _pair = self._repository.load(managed.name)
        except OSError as error:
            self._demand_disk(managed, error)
            return False
        fresh = record.serial == found.facts.serial and (record.renew_at or 0.0) > now
        if not fresh or not all(covers(found.facts.names, one) for one in managed.wanted.names):
            return False
        log.info("%s: somebody else has obtained the certificate", managed.name)
        self._keeper.hold(managed, found)
        managed.record = transitions.on_found(
            managed.record,
            found.facts,
            record.source or "acme",
            record.directory or "",
            now,
            self._rng,
        )
        self._keeper.serve_again([managed])
        self._keeper.report(managed)
        return True

    def _use(
        self,
        managed: ManagedCertificate,
        authority: Authority,
        issued: Issued,
        facts: CertificateInfo,
        begun: float,
        note: StoredNote,
    ) -> None:
        """Keep the certificate and have it served. Raises `IssuanceError` when workers cannot serve
        it; then everything is as it was before, on the disk too."""
        now, started = self._now(), managed.record
        before = (
            Found(managed.pair, managed.facts, managed.is_fallback)
            if managed.pair is not None and managed.facts is not None
            else None
        )
        self._keeper.hold(managed, Found(issued.pair, facts))
        managed.record = transitions.on_obtained(
            managed.record,
            facts,
            source_of(authority.directory),
            authority.directory,
            issued.challenge,
            now,
            self._rng,
            time.monotonic() - begun,
            account=issued.account,
            remark=issued.remark,
        )
        if self._together is None:
            self._keeper.keep_pair(managed)
            # Before the record: who is killed in between finds there that an attempt was cut off,
            # and takes the note away.
            self._erase_if_saved(managed, note)
            self._keeper.keep_record(managed)
        else:
            self._together.keep(managed, now)
            self._erase_if_saved(managed, note)
        try:
            self._keeper.serve(managed)
        except IssuanceError:
            note.erase()
            self._keeper.put_back(managed, before)
            managed.record = started
            raise
        self._keeper.report(managed)
        log.info(
            "%s: certificate obtained %s, valid %s, renews about %s",
            managed.name,
            _course("from", authority, issued.challenge, time.monotonic() - begun),
            spell(facts.not_after - now),
            timestamp(managed.record.renew_at),
        )

    @staticmethod
    def _erase_if_saved(managed: ManagedCertificate, note: StoredNote) -> None:
        """Forget the order of a certificate that is on disk: else the next start needs it."""
        if managed.saved:
            note.erase()

    def _failed(
        self,
        managed: ManagedCertificate,
        authority: Authority,
        problem: IssuanceError,
        challenge: str | None,
        begun: float,
    ) -> None:
        now, took = self._now(), time.monotonic() - begun
        if problem.kind == "unreachable":
            self._silent_since[authority.directory] = now
        if problem.kind == "stopped":
            managed.record = transitions.on_stopped(managed.record)
        else:
            managed.record = transitions.on_failed(
                managed.record,
                problem,
                authority.directory,
                challenge,
                now,
                took,
                turn=self._next_turn(managed, authority, problem, challenge, now),
            )
        self._keeper.keep_record(managed)
        self._keeper.report(managed)
        # Whoever reads the line finds in the status what it says.
        if problem.kind == "stopped":
            log.info("%s: attempt given up: %s", managed.name, problem.text)
        else:
            log.warning(
                "%s: %s %s: %s; next attempt at %s",
                managed.name,
                "waits"
                if problem.kind == "limits"
                else f"attempt {managed.record.attempts} failed",
                _course("at", authority, challenge, took),
                problem.text,
                timestamp(managed.record.next_attempt),
            )

    def _next_turn(
        self,
        managed: ManagedCertificate,
        authority: Authority,
        problem: IssuanceError,
        challenge: str | None,
        now: float,
    ) -> Turn:
        """Which CA to try next. After a local failure, stay with the same CA."""
        if problem.what.blame is Blame.OURS:
            return Turn.SAME
        directory = authority.directory
        record = transitions.on_failed(managed.record, problem, directory, challenge, now)
        avoided = self._avoided(managed)
        other = ca_choice.authority(managed.wanted, record, now, avoided)
        if other.directory == authority.directory or other.directory in avoided:
            return Turn.SAME
        return Turn.OTHER if ca_choice.has_failed(record, other) else Turn.FIRST


def _course(word: str, authority: Authority, challenge: str | None, seconds: float) -> str:
    """Describe an attempt for the log: the CA, the challenge, how long it took."""
    host = urlsplit(authority.directory).netloc or authority.directory
    way = f" by {challenge}" if challenge else ""
    return f"{word} {host}{way} in {seconds:.1f} s"
