"""What the admin page asks of the supervisor, and what it may do: the words of `AskAdmin`.

A worker has checked who asks. It is not believed more than that: an action is one of a few, each
checked again here, and every document is bounded. A worker that was taken over could reload, renew
or drain this way, if ``admin.actions`` says that somebody may; it could not without.
"""

from __future__ import annotations

from typing import Protocol

from ...ipc.messages import AdminAnswer, AskAdmin
from ...metrics.history import SLOTS
from ..answers import Answer, Reply
from ..lifecycle import Lifecycle
from ..process_table import Child, Processes
from ..spawner import Spawner
from .board import Board

_NOT_ALLOWED: Answer = {"ok": False, "error": "the configuration allows no actions (admin.actions)"}


class Commands(Protocol):
    def hear(self, request: Answer, reply: Reply) -> None: ...

    @property
    def actions_allowed(self) -> bool: ...


class AdminQuestions:
    def __init__(
        self,
        processes: Processes,
        board: Board,
        commands: Commands,
        spawner: Spawner,
        lifecycle: Lifecycle,
    ) -> None:
        self._lifecycle = lifecycle
        self._processes = processes
        self._board = board
        self._commands = commands
        self._spawner = spawner

    def ask(self, child: Child, question: AskAdmin) -> None:
        """Answer a worker's question, at once or later."""

        def reply(document: Answer) -> None:
            self._processes.tell_worker(child, AdminAnswer(question.number, document))

        board, value = self._board, question.value
        name = str(value.get("name", ""))[:1024]
        match question.what:
            case "summary":
                reply(board.summary())
            case "healthz":
                starting = self._lifecycle.starting
                reply({"wants_clients": self._lifecycle.wants_clients, "starting": starting})
            case "points":
                most = value.get("most")
                slots = most if isinstance(most, int) and 0 < most <= SLOTS else SLOTS
                reply({**board.points(str(value.get("kind", "")), name, slots)})
            case "find":
                reply({**board.find(name)})
            case "site":
                reply(board.site(name))
            case "backend":
                reply(board.backend(name))
            case "certificate":
                reply({"certificates": board.certificate(name)})
            case "act":
                self._act(str(value.get("action", "")), name, reply)
            case other:
                reply({"ok": False, "error": f"unknown question {other!r:.100}"})

    def _act(self, action: str, name: str, reply: Reply) -> None:
        if not self._commands.actions_allowed:
            reply(_NOT_ALLOWED)
            return
        match action:
            case "reload":
                self._commands.hear({"command": "reload"}, reply)
            case "renew":
                self._commands.hear({"command": "renew", "value": name}, reply)
            case "drain" | "undrain":
                if not self._board.knows_backend(name):
                    reply({"ok": False, "error": f"no route leads to {name!r:.200}"})
                    return
                self._spawner.drain_backend(name, action == "drain")
                reply({"ok": True})
            case other:
                reply({"ok": False, "error": f"unknown action {other!r:.100}"})
