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

from ..ipc.channel import Message
from ..metrics.renewals import Renewals
from ..worker.startup import Announced
from .process_table import Child, Processes, Role

log = logging.getLogger("treehouse.supervisor")


@dataclass(slots=True, eq=False)
class _Waiting:
    pids: set[int]
    done: Callable[[], None]


class Announcements:
    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._certificates: dict[str, Announced] = {}
        self._challenges: dict[tuple[str, str], tuple[Message, int | None]] = {}
        self._statuses: dict[str, dict[str, Any]] = {}
        self._reported: set[str] = set()  # by the certifier that lives
        self._tickets = itertools.count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._questions: dict[int, Callable[[dict[str, Any]], None]] = {}
        self.on_change: Callable[[str], None] = lambda _name: None
        self.renewals = Renewals()

    def certificates(self) -> tuple[Announced, ...]:
        return tuple(self._certificates.values())

    def challenges(self) -> tuple[tuple[Message, int | None], ...]:
        return tuple(self._challenges.values())

    def statuses(self) -> list[dict[str, Any]]:
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
            for _message, bundle in self._challenges.values():
                if bundle is not None:
                    os.close(bundle)

    # From the certifier

    def hear(self, certifier: Child, kind: str, message: Message, fds: list[int]) -> None:
        def done() -> None:
            self._processes.send(certifier, {"type": "done", "ticket": message["ticket"]})

        match kind:
            case "certificate":
                self.certificate(message["facts"], fds.pop(0), done)
            case "challenge":
                self.challenge(message["challenge"], fds.pop(0) if fds else None, done)
            case "challenge_over":
                self._drop_challenge((message["host"], message["token"]))
                self._tell(message, (), None)
            case "report":
                self._report(message["name"], message["status"])

    def challenge(self, about: Message, bundle: int | None, done: Callable[[], None]) -> None:
        """Have it answered by every worker; ``bundle`` is this object's from now on."""
        key = about["host"], about["token"]
        self._drop_challenge(key)
        message = {"type": "challenge", "challenge": about}
        self._challenges[key] = message, bundle
        self._tell(message, (bundle,) if bundle is not None else (), done)

    def answer_no_more(self, host: str, token: str) -> None:
        """An HTTP-01 token; what else is pending for the host stays."""
        if (host, token) in self._challenges:
            self._drop_challenge((host, token))
            over = {"type": "challenge_over", "host": host, "token": token, "kind": "http-01"}
            self._tell(over, (), None)

    def _drop_challenge(self, key: tuple[str, str]) -> None:
        _message, bundle = self._challenges.pop(key, (None, None))
        if bundle is not None:
            os.close(bundle)

    def certificate(
        self, facts: Message, bundle: int, done: Callable[[], None] | None = None
    ) -> None:
        """Put a certificate in force; ``bundle`` is this object's from now on."""
        previous = self._certificates.get(facts["name"])
        self._certificates[facts["name"]] = Announced(facts, bundle)
        if facts["status"]:
            self._statuses[facts["name"]] = facts["status"]
            self.renewals.reported(facts["name"], facts["status"])
        self._tell({"type": "certificate", "facts": facts}, (bundle,), done)
        self.on_change(facts["name"])
        if previous is not None:
            os.close(previous.bundle)

    def _report(self, name: str, status: dict[str, Any] | None) -> None:
        if status is not None:
            self._statuses[name] = status
            self.renewals.reported(name, status)
            self._reported.add(name)
            return
        self._reported.discard(name)
        self.forget(name)

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
            site = gone.facts["site"]
            self._tell({"type": "certificate_gone", "site": site, "name": name}, (), None)

    # To the workers, and back

    def _tell(
        self, message: Message, fds: tuple[int, ...], done: Callable[[], None] | None
    ) -> None:
        workers = self._processes.workers()
        ticket = next(self._tickets)
        waiting = _Waiting({one.pid for one in workers}, done or (lambda: None))
        self._waiting[ticket] = waiting
        for child in workers:
            self._processes.send(child, {**message, "ticket": ticket}, fds)
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
        value = request.get("value")
        self._processes.send(
            certifier, {"type": "command", "verb": verb, "value": value, "ticket": ticket}
        )

    def answered(self, message: Message) -> None:
        reply = self._questions.pop(message["ticket"], None)
        if reply is not None:
            reply(message["value"])

    def certifier_ended(self) -> None:
        """Whoever waits for its answer hears that it is gone; its challenges went with it."""
        self._reported.clear()
        for host, token in list(self._challenges):
            self._drop_challenge((host, token))
            self._tell({"type": "challenge_over", "host": host, "token": token}, (), None)
        questions, self._questions = self._questions, {}
        for reply in questions.values():
            reply({"ok": False, "error": "the certifier ended before it answered; ask again"})
