"""The certificates and challenges in force, and how each certificate stands.

The certifier finds them out, files of the operator's bring more. The registry keeps the present
set, so that a worker can be given it at its start, and has each change delivered to the workers
that run (`deliveries`). Only when all of them have acknowledged it is the certifier told, and only
then does it let the CA validate. A certificate that a worker cannot serve takes no other one's
place: the one before it is put in force again everywhere, and the certifier is told. Certificates
stay in their sealed memfds: this process hands descriptors on and never looks into one.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path

from acme_client.certificates.repository import CertificateRepository
from acme_client.status import CertificateStatus
from acme_client.storage.directory import open_store

from ..ipc.messages import (
    CertificateFacts,
    ChallengeFacts,
    ChallengeKind,
    Done,
    DropCertificate,
    DropChallenge,
    Present,
    Publish,
    PutCertificate,
    PutChallenge,
    Retract,
    ToWorker,
)
from ..metrics.renewals import Renewals
from ..system.certificate_files import LoadedCertificate
from ..worker.startup import Announced
from .deliveries import Deliveries
from .process_table import Child, Processes
from .roles import AnyRole

log = logging.getLogger("treehouse.supervisor")

_Key = tuple[ChallengeKind, str, str]  # and the host and the token
_Composed = tuple[ToWorker, tuple[int, ...]]


class Registry:
    def __init__(self, processes: Processes, deliveries: Deliveries) -> None:
        self._processes = processes
        self._deliveries = deliveries
        self._changed: dict[str, float] = {}  # when a certificate was put in force, monotonic
        self._certificates: dict[str, Announced] = {}
        self._replaced: set[int] = set()  # bundles that may be put in force again
        self._challenges: dict[_Key, tuple[ChallengeFacts, int | None]] = {}
        self._statuses: dict[str, CertificateStatus] = {}
        self._reported: set[str] = set()  # by the certifier that runs
        self._complete = False  # whether it has reported all
        self.renewals = Renewals()

    def certificates(self) -> tuple[Announced, ...]:
        return tuple(self._certificates.values())

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
            kept = CertificateRepository(open_store(state)).names()
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
            for announced in self._certificates.values():
                os.close(announced.bundle)
            for replaced in self._replaced:
                os.close(replaced)
            for _challenge, bundle in self._challenges.values():
                if bundle is not None:
                    os.close(bundle)

    # From the certifier

    def publish(self, certifier: Child, message: Publish, bundle: int) -> None:
        """Put a certificate in force; ``bundle`` is this object's from now on."""
        self._put(message.facts, bundle, self._done(certifier, message.ticket))

    def present(self, certifier: Child, message: Present, bundle: int | None) -> None:
        """Have a challenge answered; ``bundle`` is this object's from now on."""
        self.challenge(message.challenge, bundle, self._done(certifier, message.ticket))

    def _done(self, certifier: Child, ticket: int) -> Callable[[str | None], None]:
        return lambda refusal: self._processes.tell_certifier(certifier, Done(ticket, refusal))

    def retract(self, message: Retract) -> None:
        self._drop_challenge((message.kind, message.host, message.token))

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

    def certifier_ended(self) -> None:
        """Its challenges ended with it."""
        self._reported.clear()
        self._complete = False
        for key in list(self._challenges):
            self._drop_challenge(key)

    # Challenges

    def challenge(
        self, challenge: ChallengeFacts, bundle: int | None, done: Callable[[str | None], None]
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

    def from_files(self, certificate: LoadedCertificate) -> None:
        """Put a certificate from files in force; its bundle is this object's from now on."""
        name = certificate.facts.name
        self._statuses[name] = certificate.status
        self.renewals.reported(name, certificate.status)
        self._put(certificate.facts, certificate.bundle)

    def retain_file_certificates(self, names: Collection[str]) -> None:
        """Forget the certificates from files that have other names: those were another
        configuration's."""
        for name, status in list(self._statuses.items()):
            if status["source"] == "file" and name not in names:
                self.forget(name)

    def _put(
        self,
        facts: CertificateFacts,
        bundle: int,
        done: Callable[[str | None], None] = lambda _refusal: None,
    ) -> None:
        name = facts.name
        previous = self._certificates.get(name)
        announced = self._certificates[name] = Announced(facts, bundle)
        if previous is not None:
            self._replaced.add(previous.bundle)

        def delivered(refusal: str | None) -> None:
            is_in_force = self._certificates.get(name) is announced
            if refusal is not None and is_in_force:
                self._put_back(name, previous, refusal)
            elif previous is not None:
                self._replaced.discard(previous.bundle)
                os.close(previous.bundle)
            done(refusal)

        self._changed[name] = time.monotonic()
        self._deliveries.to_all(lambda ticket: self._composed(name, ticket), delivered)

    def _put_back(self, name: str, previous: Announced | None, refusal: str) -> None:
        """Have the certificate before served again: a worker cannot serve the present one."""
        log.error(
            "%s: a worker cannot serve the certificate (%s); %s",
            name,
            refusal,
            "the one before it stays in force" if previous else "nothing is served",
        )
        os.close(self._certificates.pop(name).bundle)
        self._changed.pop(name, None)
        if previous is not None:
            self._replaced.discard(previous.bundle)
            self._certificates[name] = previous
            self._changed[name] = time.monotonic()
            self._deliveries.to_all(lambda ticket: self._composed(name, ticket))

    def _composed(self, name: str, ticket: int) -> _Composed | None:
        present = self._certificates.get(name)
        if present is None:
            return None
        return PutCertificate(present.facts, ticket), (present.bundle,)

    def repeat(self, child: Child, name: str) -> None:
        """Tell one worker once more of a certificate in force."""
        self._deliveries.to_one(child, lambda ticket: self._composed(name, ticket))

    def forget(self, name: str) -> None:
        """Have a certificate served by no worker from now on: it is no longer wanted."""
        self._statuses.pop(name, None)
        self.renewals.forget(name)
        gone = self._certificates.pop(name, None)
        if gone is not None:
            os.close(gone.bundle)
            site = gone.facts.site
            self._deliveries.to_all(lambda ticket: (DropCertificate(site, name, ticket), ()))
