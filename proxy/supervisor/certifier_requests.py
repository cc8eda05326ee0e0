"""Questions that only the certifier can answer, each answered exactly once.

People ask over the control socket, workers for names on demand. When the certifier ends before it
has answered, everybody who waits is told so: the next certifier knows nothing of the question. A
certifier that rests, because it has nothing to do, is started by the first question.
"""

from __future__ import annotations

import itertools
from typing import Protocol

from ..ipc.messages import CertifierAnswer, CertifierCommand
from .answers import Answer, Reply
from .process_table import Processes

RESTARTING: Answer = {"ok": False, "error": "the certifier is being restarted; ask again"}
ENDED: Answer = {"ok": False, "error": "the certifier ended before it answered; ask again"}


class Starter(Protocol):
    """What starts certifiers: the spawner."""

    @property
    def certifier_rests(self) -> bool: ...

    def wake_certifier(self) -> None: ...


class CertifierRequests:
    """``starter`` is set before the first question."""

    starter: Starter

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._tickets = itertools.count(1)
        self._open: dict[int, Reply] = {}
        self._held: list[tuple[str, object, Reply]] = []  # for the certifier after one that ends

    @property
    def waiting(self) -> bool:
        """Whether a question waits for its answer."""
        return bool(self._open or self._held)

    def ask(self, verb: str, value: object, reply: Reply) -> None:
        """Send a command (`acme_client.link.Command`); ``reply`` is called with its answer, or with
        `RESTARTING` where there is no certifier to ask."""
        certifier = self._processes.certifier()
        if self.starter.certifier_rests:
            if certifier is not None:  # it has been told to end, and hears no questions any more
                self._held.append((verb, value, reply))
                return
            self.starter.wake_certifier()
            certifier = self._processes.certifier()
        if certifier is None:
            reply(RESTARTING)
            return
        ticket = next(self._tickets)
        self._open[ticket] = reply
        self._processes.tell_certifier(certifier, CertifierCommand(verb, value, ticket))

    def answered(self, message: CertifierAnswer) -> None:
        reply = self._open.pop(message.ticket, None)
        if reply is not None:
            reply(message.value)

    def certifier_ended(self) -> None:
        questions, self._open = self._open, {}
        for reply in questions.values():
            reply(ENDED)
        held, self._held = self._held, []
        for verb, value, reply in held:
            self.ask(verb, value, reply)
