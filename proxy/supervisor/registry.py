"""The certificates and challenges in force, and how each certificate stands.

The certifier finds them out, files of the operator's bring more. The registry keeps the present
set, so that a worker can be given it at its start, and has each change delivered to the workers
that run (`deliveries`). Only when all of them have acknowledged it is the certifier told, and only
then does it let the CA validate. A certificate that a worker cannot serve takes no other one's
place: the one before it is put in force again everywhere, and the certifier is told. Certificates
stay in shared memory (`ipc.packs`): this process hands descriptors on and never looks into one.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

from acme_client.certificates.folder_names import kept_names
from acme_client.link import ANY, HEARD, SPARE
from acme_client.status import CertificateStatus, ClusterStatus
from acme_client.storage.directory import open_store

from ..ipc.messages import (
    CertificateFacts,
    ChallengeFacts,
    ChallengeKind,
    Done,
    DropCertificate,
    DropChallenge,
    PackedCertificate,
    Present,
    Publish,
    PutCertificates,
    PutChallenge,
    Retract,
    ToWorker,
)
from ..ipc.packs import MOST, Bundle, NotInPack, Pack, repacked
from ..metrics.engine import EngineCounts
from ..metrics.renewals import Renewals
from ..name_table import wildcard_of
from ..system.certificate_files import LoadedCertificate
from ..worker.startup import Announced
from .deliveries import Deliveries, Refusals
from .process_table import Child, Processes
from .roles import AnyRole

log = logging.getLogger("treehouse.supervisor")

# Packs beside those that would be needed at the least, before they are put together.
_SCATTERED = 32

_Key = tuple[ChallengeKind, str, str]  # and the host and the token
_HEARD: _Key = "http-01", ANY, HEARD
_SPARE: _Key = "http-01", ANY, SPARE
_Composed = tuple[ToWorker, tuple[int, ...]]


class Registry:
    def __init__(self, processes: Processes, deliveries: Deliveries) -> None:
        self._processes = processes
        self._deliveries = deliveries
        self._changed: dict[str, float] = {}  # when a certificate was put in force, monotonic
        self._certificates: dict[str, Announced] = {}
        self._unsettled: Counter[str] = Counter()  # on their way to the workers
        self._packs: set[Pack] = set()
        self._challenges: dict[_Key, tuple[ChallengeFacts, int | None]] = {}
        self._hushed = False  # the certifier has heard of all challenges, and is silent
        self._statuses: dict[str, CertificateStatus] = {}
        self._reported: set[str] = set()  # by the certifier that runs
        self._complete = False  # whether it has reported all
        self.renewals = Renewals()
        self.cluster: ClusterStatus | None = None  # as the certifier has reported it last
        self.engine = EngineCounts()

    def certificates(self) -> tuple[Announced, ...]:
        return tuple(self._certificates.values())

    def related(self, names: Collection[str]) -> list[Announced]:
        """Return the certificates that are called so, and all others for one of their names or for
        the wildcard that covers it."""
        found = [self._certificates[name] for name in names if name in self._certificates]
        hosts = {host for one in found for host in one.facts.names}
        hosts |= set(map(wildcard_of, hosts))
        return [one for one in self._certificates.values() if not hosts.isdisjoint(one.facts.names)]

    def challenges(self) -> tuple[tuple[ChallengeFacts, int | None], ...]:
        return tuple(self._challenges.values())

    def statuses(self) -> list[CertificateStatus]:
        """The ``certificates`` of ``status --json``, in order of name."""
        return [
            {**status, "served": name in self._certificates}
            for name, status in sorted(self._statuses.items())
        ]

    def unwanted(self, state: Path) -> list[str]:
        """The certificates that the state directory keeps and that are not in `statuses`; none
        while the certifier has not reported all that it has."""
        if not self._complete:
            return []
        try:
            kept = kept_names(open_store(state))
        except OSError:
            return []
        return [name for name in kept if name not in self._statuses]

    def take_changes(self, before: float) -> set[str]:
        """The certificates that were put in force up to a moment and not taken yet, by name."""
        taken = {name for name, moment in self._changed.items() if moment <= before}
        for name in taken:
            del self._changed[name]
        return taken

    def close_in_child(self, role: AnyRole, _generation: int) -> None:
        if "certificates" not in role.inherits:
            for pack in self._packs:
                pack.close()
            for _challenge, bundle in self._challenges.values():
                if bundle is not None:
                    os.close(bundle)

    # From the certifier

    def publish(self, certifier: Child, message: Publish, fd: int) -> None:
        """Put certificates in force; the descriptor is this object's from now on. Raises
        `NotInPack`, when none is. What is in force already costs nobody anything: a certifier that
        comes back says all that it has."""
        pack = Pack(fd)
        try:
            bundles = [pack.bundle(one.offset, one.length) for one in message.certificates]
        except NotInPack:
            pack.close()
            raise
        put: dict[str, Announced] = {}
        for one, bundle in zip(message.certificates, bundles, strict=True):
            if self._is_in_force(one.facts) or one.facts.name in put:
                bundle.release()
            else:
                put[one.facts.name] = Announced(one.facts, bundle)
        if not bundles:
            pack.close()
        done = self._done(certifier, message.ticket)
        self._put([*put.values()], done, try_out=message.try_out)

    def _is_in_force(self, facts: CertificateFacts) -> bool:
        """Whether every worker has acknowledged this very certificate."""
        present = self._certificates.get(facts.name)
        return (
            present is not None
            and bool(facts.digest)
            and present.facts == facts
            and not self._unsettled[facts.name]
        )

    def present(self, certifier: Child, message: Present, bundle: int | None) -> None:
        """Have a challenge answered; ``bundle`` is this object's from now on."""
        self.challenge(message.challenge, bundle, self._done(certifier, message.ticket))

    @property
    def has_heard(self) -> bool:
        """Whether the certifier knows which challenges other machines want answered."""
        return _HEARD in self._challenges

    def _done(self, certifier: Child, ticket: int) -> Callable[[Refusals], None]:
        return lambda refusals: self._processes.tell_certifier(
            certifier, Done(ticket, dict(refusals))
        )

    def retract(self, message: Retract) -> None:
        key = message.kind, message.host, message.token
        self._hushed = self._hushed and key != _HEARD
        self._drop_challenge(key)

    def hush(self, *, on: bool) -> None:
        """Have those wait who ask for challenges that are not known, while the certifier is silent
        (``on``), though it had heard of all that there were."""
        if on and self.has_heard:
            self._hushed = True
            self._drop_challenge(_HEARD)
        elif not on and self._hushed:
            self._hushed = False
            self.challenge(ChallengeFacts(*_HEARD, ""), None, lambda _refusals: None)

    def report(self, name: str, status: CertificateStatus | None) -> None:
        """Keep how a certificate stands; None: it is no longer wanted."""
        if status is not None:
            self._statuses[name] = status
            self.renewals.reported(name, status)
            self._reported.add(name)
            return
        self._reported.discard(name)
        self.forget(name)

    def loaded(self) -> None:
        """The certifier has reported all that it has. Forget what only an earlier one had."""
        self._complete = True
        for name, status in list(self._statuses.items()):
            if status["source"] != "file" and name not in self._reported:
                self.forget(name)

    def certifier_ended(self, *, rests: bool = False) -> None:
        """Drop the challenges of a certifier that has ended, but not what answers while nothing is
        heard. ``rests``: it had nothing to do, and what it has reported still holds."""
        self._hushed = False
        self._reported.clear()
        self.engine.certifier_ended()
        self._complete = self._complete and rests
        for key in list(self._challenges):
            if key != _SPARE:
                self._drop_challenge(key)

    # Challenges

    def challenge(
        self, challenge: ChallengeFacts, bundle: int | None, done: Callable[[Refusals], None]
    ) -> None:
        """Have it answered by every worker; ``bundle`` is this object's from now on."""
        key = challenge.kind, challenge.host, challenge.token
        self._close_challenge(key)
        self._challenges[key] = challenge, bundle

        def compose(ticket: int) -> _Composed | None:
            if key not in self._challenges:
                return None
            present, fd = self._challenges[key]
            return PutChallenge(present, ticket), (fd,) if fd is not None else ()

        self._deliveries.to_all(compose, done)

    def answer_no_more(self, host: str, token: str) -> None:
        """Withdraw an HTTP-01 token; what else is pending for the host stays."""
        self._drop_challenge(("http-01", host, token))

    def _drop_challenge(self, key: _Key) -> None:
        if key in self._challenges:
            self._close_challenge(key)
            self._deliveries.to_all(lambda ticket: (DropChallenge(*key, ticket), ()))

    def _close_challenge(self, key: _Key) -> None:
        _challenge, bundle = self._challenges.pop(key, (None, None))
        if bundle is not None:
            os.close(bundle)

    # Certificates

    def from_files(self, certificates: Iterable[LoadedCertificate]) -> None:
        """Put certificates from files in force; their bundles are this object's from now on."""
        put = []
        for one in certificates:
            self._statuses[one.facts.name] = one.status
            self.renewals.reported(one.facts.name, one.status)
            if self._is_in_force(one.facts):
                one.bundle.release()
            else:
                put.append(Announced(one.facts, one.bundle))
        for several in _by_pack(put):
            self._put(several)

    def retain_file_certificates(self, names: Collection[str]) -> None:
        """Forget the certificates from files that have other names: those were another
        configuration's."""
        for name, status in list(self._statuses.items()):
            if status["source"] == "file" and name not in names:
                self.forget(name)

    def _put(
        self,
        several: Sequence[Announced],
        done: Callable[[Refusals], None] = lambda _refusals: None,
        *,
        try_out: bool = True,
    ) -> None:
        """Put these in force, all in one pack."""
        if not several:
            done({})
            return
        before = {one.facts.name: self._certificates.get(one.facts.name) for one in several}
        sent = [(one, one.bundle.again()) for one in several]  # wherever they are moved meanwhile
        now = time.monotonic()
        for one in several:
            name = one.facts.name
            self._certificates[name] = one
            self._unsettled[name] += 1
            self._packs.add(one.bundle.pack)
            if try_out:  # others have been served before, and are looked at in their turn
                self._changed[name] = now

        def compose(ticket: int) -> _Composed | None:
            packed = tuple(
                PackedCertificate(one.facts, bundle.offset, bundle.length)
                for one, bundle in sent
                if self._certificates.get(one.facts.name) is one
            )
            fd = sent[0][1].pack.fd
            return (PutCertificates(packed, ticket, try_out), (fd,)) if packed else None

        def delivered(refusals: Refusals) -> None:
            for one, bundle in sent:
                self._settle(one, before[one.facts.name], refusals.get(one.facts.name))
                self._release(bundle)
            done(refusals)
            self._repack_if_scattered()

        self._deliveries.to_all(compose, delivered)

    def _settle(self, one: Announced, previous: Announced | None, refusal: str | None) -> None:
        """Note that all workers have acknowledged a certificate, or that one of them cannot serve
        it."""
        name = one.facts.name
        self._unsettled[name] -= 1
        if not self._unsettled[name]:
            del self._unsettled[name]
        if refusal is not None and self._certificates.get(name) is one:
            self._put_back(one, previous, refusal)
        elif previous is not None:
            self._release(previous.bundle)

    def _put_back(self, one: Announced, previous: Announced | None, refusal: str) -> None:
        """Have the certificate before served again: a worker cannot serve the present one."""
        name = one.facts.name
        log.error(
            "%s: a worker cannot serve the certificate (%s); %s",
            name,
            refusal,
            "the one before it stays in force" if previous else "nothing is served",
        )
        del self._certificates[name]
        self._changed.pop(name, None)
        self._release(one.bundle)
        if previous is not None:
            self._certificates[name] = previous
            self._changed[name] = time.monotonic()
            self._deliveries.to_all(lambda ticket: self._composed([name], ticket))

    def _release(self, bundle: Bundle) -> None:
        bundle.release()
        if bundle.pack.fd < 0:
            self._packs.discard(bundle.pack)

    def _composed(self, names: Sequence[str], ticket: int) -> _Composed | None:
        """Compose a message with the certificates in force of these names, as far as they lie in
        the pack of the first."""
        present = [self._certificates[name] for name in names if name in self._certificates]
        if not present:
            return None
        pack = present[0].bundle.pack
        packed = tuple(
            PackedCertificate(one.facts, one.bundle.offset, one.bundle.length)
            for one in present
            if one.bundle.pack is pack
        )
        return PutCertificates(packed, ticket, try_out=False), (pack.fd,)

    def repeat(self, child: Child, name: str) -> None:
        """Tell one worker once more of a certificate in force."""
        self._deliveries.to_one(child, lambda ticket: self._composed([name], ticket))

    def _repack_if_scattered(self) -> None:
        """Put the certificates of packs that are nearly empty together. Workers that have them are
        told where they are now: renewals must not take a descriptor each, anywhere."""
        most = _SCATTERED + 2 * len(self._certificates) // MOST
        if len(self._packs) <= most or self._unsettled:
            return
        scattered = [
            one for one in self._certificates.values() if one.bundle.pack.bundles < MOST // 2
        ]
        for at in range(0, len(scattered), MOST):
            several = scattered[at : at + MOST]
            try:
                made = repacked([one.bundle for one in several])
            except OSError as error:
                log.warning("certificates cannot be put together in memory: %s", error.strerror)
                return
            self._packs.add(made[0].pack)
            for one, bundle in zip(several, made, strict=True):
                before, one.bundle = one.bundle, bundle
                self._release(before)
            names = [one.facts.name for one in several]
            # mypy infers no type of a lambda with a default.
            self._deliveries.to_all(lambda ticket, names=names: self._composed(names, ticket))  # type: ignore[misc]

    def forget(self, name: str) -> None:
        """Have a certificate served by no worker from now on: it is no longer wanted."""
        self._statuses.pop(name, None)
        self.renewals.forget(name)
        gone = self._certificates.pop(name, None)
        if gone is not None:
            self._release(gone.bundle)
            site = gone.facts.site
            self._deliveries.to_all(lambda ticket: (DropCertificate(site, name, ticket), ()))


def _by_pack(several: Iterable[Announced]) -> Iterator[list[Announced]]:
    """Yield the certificates of each pack."""
    packs: dict[Pack, list[Announced]] = {}
    for one in several:
        packs.setdefault(one.bundle.pack, []).append(one)
    yield from packs.values()
