"""What workers must know and the certifier finds out: certificates and challenges in force.

The supervisor keeps the present set, so that a worker can be given it at birth, and passes each
change on to the workers that live. A change is *done* when every one of them has acknowledged it or
died; only then does the certifier hear so, and only then does it let the CA validate. Certificates
stay in their sealed memfds: this process hands descriptors on and never looks into one.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from acme_client.status import CertificateStatus

from ..ipc.messages import (
    CertificateFacts,
    CertifierAnswer,
    CertifierCommand,
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
from .process_table import Child, Processes, Role

log = logging.getLogger("treehouse.supervisor")


_Key = tuple[ChallengeKind, str, str]  # and the host and the token


@dataclass(slots=True, eq=False)
class _Waiting:
    pids: set[int]
    done: Callable[[], None]


class Announcements:
    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._certificates: dict[str, Announced] = {}
        self._challenges: dict[_Key, tuple[ChallengeFacts, int | None]] = {}
        self._statuses: dict[str, CertificateStatus] = {}
        self._reported: set[str] = set()  # by the certifier that lives
        self._tickets = itertools.count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._questions: dict[int, Callable[[dict[str, Any]], None]] = {}
        self.on_change: Callable[[str], None] = lambda _name: None
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

    def close_in_child(self, role: Role, _generation: int) -> None:
        """In a forked child: keys are for workers."""
        if role != "worker":
            for announced in self._certificates.values():
                os.close(announced.bundle)
            for _challenge, bundle in self._challenges.values():
                if bundle is not None:
                    os.close(bundle)

    # From the certifier

    def publish(self, certifier: Child, message: Publish, bundle: int) -> None:
        """Put a certificate in force; ``bundle`` is this object's from now on."""
        self._certificate(message.facts, bundle, self._done(certifier, message.ticket))

    def present(self, certifier: Child, message: Present, bundle: int | None) -> None:
        """Have a challenge answered; ``bundle`` is this object's from now on."""
        self.challenge(message.challenge, bundle, self._done(certifier, message.ticket))

    def _done(self, certifier: Child, ticket: int) -> Callable[[], None]:
        return lambda: self._processes.tell_certifier(certifier, Done(ticket))

    def retract(self, message: Retract) -> None:
        self._drop_challenge((message.kind, message.host, message.token))

    def report(self, name: str, status: CertificateStatus | None) -> None:
        if status is not None:
            self._statuses[name] = status
            self.renewals.reported(name, status)
            self._reported.add(name)
            return
        self._reported.discard(name)
        self.forget(name)

    # From anybody

    def challenge(
        self, challenge: ChallengeFacts, bundle: int | None, done: Callable[[], None]
    ) -> None:
        """Have it answered by every worker; ``bundle`` is this object's from now on."""
        key = challenge.kind, challenge.host, challenge.token
        self._close_challenge(key)
        self._challenges[key] = challenge, bundle
        fds = (bundle,) if bundle is not None else ()
        self._tell(lambda ticket: PutChallenge(challenge, ticket), fds, done)

    def answer_no_more(self, host: str, token: str) -> None:
        """An HTTP-01 token; what else is pending for the host stays."""
        self._drop_challenge(("http-01", host, token))

    def _drop_challenge(self, key: _Key) -> None:
        if key in self._challenges:
            self._close_challenge(key)
            self._tell(lambda ticket: DropChallenge(*key, ticket))

    def _close_challenge(self, key: _Key) -> None:
        _challenge, bundle = self._challenges.pop(key, (None, None))
        if bundle is not None:
            os.close(bundle)

    def from_files(self, certificate: LoadedCertificate) -> None:
        """Put a certificate from files in force; its bundle is this object's from now on."""
        name = certificate.facts.name
        self._statuses[name] = certificate.status
        self.renewals.reported(name, certificate.status)
        self._certificate(certificate.facts, certificate.bundle)

    def _certificate(
        self, facts: CertificateFacts, bundle: int, done: Callable[[], None] | None = None
    ) -> None:
        previous = self._certificates.get(facts.name)
        self._certificates[facts.name] = Announced(facts, bundle)
        self._tell(lambda ticket: PutCertificate(facts, ticket), (bundle,), done)
        self.on_change(facts.name)
        if previous is not None:
            os.close(previous.bundle)

    def loaded(self) -> None:
        """The certifier has said what there is; what only one before it had, nobody wants now."""
        for name, status in list(self._statuses.items()):
            if status["source"] != "file" and name not in self._reported:
                self.forget(name)

    def keep_files(self, names: Collection[str]) -> None:
        """Of the certificates from files only these; the others were another configuration's."""
        for name, status in list(self._statuses.items()):
            if status["source"] == "file" and name not in names:
                self.forget(name)

    def forget(self, name: str) -> None:
        """No longer wanted: not served by any worker from now on."""
        self._statuses.pop(name, None)
        self.renewals.forget(name)
        gone = self._certificates.pop(name, None)
        if gone is not None:
            os.close(gone.bundle)
            site = gone.facts.site
            self._tell(lambda ticket: DropCertificate(site, name, ticket))

    # To the workers, and back

    def repeat(self, child: Child, certificate: Announced) -> None:
        """Tell one worker once more of a certificate in force."""
        message = PutCertificate(certificate.facts, next(self._tickets))
        self._processes.tell_worker(child, message, (certificate.bundle,))

    def _tell(
        self,
        message: Callable[[int], ToWorker],
        fds: tuple[int, ...] = (),
        done: Callable[[], None] | None = None,
    ) -> None:
        """Send every worker the message with a ticket; ``done`` once all have acknowledged it."""
        workers = self._processes.workers()
        ticket = next(self._tickets)
        waiting = _Waiting({one.pid for one in workers}, done or (lambda: None))
        self._waiting[ticket] = waiting
        for child in workers:
            self._processes.tell_worker(child, message(ticket), fds)
        self._settle(ticket, waiting)

    def acknowledged(self, pid: int, ticket: int) -> None:
        waiting = self._waiting.get(ticket)
        if waiting is not None:
            waiting.pids.discard(pid)
            self._settle(ticket, waiting)

    def settle(self, pid: int) -> None:
        """A child has ended: nothing waits for it any more."""
        for ticket, waiting in list(self._waiting.items()):
            waiting.pids.discard(pid)
            self._settle(ticket, waiting)

    def _settle(self, ticket: int, waiting: _Waiting) -> None:
        if not waiting.pids and self._waiting.pop(ticket, None) is not None:
            waiting.done()

    # Questions of people, passed on to the certifier

    def ask(
        self,
        certifier: Child,
        verb: str,
        request: dict[str, Any],
        reply: Callable[[dict[str, Any]], None],
    ) -> None:
        ticket = next(self._tickets)
        self._questions[ticket] = reply
        command = CertifierCommand(verb, request.get("value"), ticket)
        self._processes.tell_certifier(certifier, command)

    def answered(self, message: CertifierAnswer) -> None:
        reply = self._questions.pop(message.ticket, None)
        if reply is not None:
            reply(message.value)

    def certifier_ended(self) -> None:
        """Whoever waits for its answer hears that it is gone; its challenges went with it."""
        self._reported.clear()
        for key in list(self._challenges):
            self._drop_challenge(key)
        questions, self._questions = self._questions, {}
        for reply in questions.values():
            reply({"ok": False, "error": "the certifier ended before it answered; ask again"})
