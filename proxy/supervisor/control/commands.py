"""The commands of the control socket, and which part answers each.

A command is one JSON object, ``{"command": VERB, …}``, and so is its answer: ``{"ok": true, …}``,
or ``{"ok": false, "error": WHY}``; a status is the document itself. What the certifier knows is
asked of the certifier, and its answer is handed on as it is. A question with ``config`` is about
that file: a server that was started with another one refuses it.
"""

from __future__ import annotations

import logging
import os

from ...config.syntax.faults import ConfigurationFaults
from ...exit_status import CANNOT_BIND, USAGE
from ...system.certificate_files import CertificateUnusable
from ...system.config_process import ReadingEnded
from ...system.listeners import CannotBind
from ..answers import Answer, Reply
from ..certifier_requests import CertifierRequests
from ..operations import Operations
from ..registry import Registry
from ..reload import plan
from ..reload.generations import Generations
from ..reload.reload import Reloader
from .board import Board
from .overview import Overview
from .probe_tokens import ProbeTokens

log = logging.getLogger("treehouse.supervisor")

_DRAINS_AT_MOST = 86400
_WHY = "asked on the control socket"
# The certifier's, by the names under which it knows them.
_CERTIFIERS = frozenset(
    {"renew", "revoke", "forget", "roll_account_key", "refusal", "look", "dns_persist"}
)


class Commands:
    def __init__(
        self,
        requests: CertifierRequests,
        registry: Registry,
        overview: Overview,
        board: Board,
        generations: Generations,
        probe_tokens: ProbeTokens,
        reloader: Reloader,
        operations: Operations,
    ) -> None:
        self._requests = requests
        self._registry = registry
        self._overview = overview
        self._board = board
        self._generations = generations
        self._probe_tokens = probe_tokens
        self._reloader = reloader
        self._operations = operations

    def hear(self, request: Answer, reply: Reply) -> None:
        file = request.get("config")
        if isinstance(file, str) and (other := self._other_than(file)):
            error = (
                f"the server on this state directory was started with {other}, and not with {file}:"
                " nothing was done (name what it was started with, or restart it with this file)"
            )
            reply({"ok": False, "error": error, "status": USAGE})
            return
        match request.get("command"):
            case "alive":
                reply({"ok": True})
            case "status":
                self._overview.ask(lambda status: reply({**status}))
            case "top":
                self._overview.counting = True
                self._overview.refresh(lambda: reply({**self._board.top()}))
            case "reload":
                self._operations.reload(_WHY, reply)
            case "upgrade":
                self._operations.upgrade(_WHY, reply)
            case "plan":
                self._plan(reply)
            case "probe" | "knock":  # the second is its name of earlier versions
                self._probe_tokens.begin(request, self._generations.serving.config, reply)
            case "drain":
                self._drain(request, reply)
            case "stop":
                self._operations.stop(_WHY)
                reply({"ok": True})
            case str() as verb if verb in _CERTIFIERS:
                self._requests.ask(verb, request.get("value"), reply)
            case other:
                reply({"ok": False, "error": f"unknown command {other!r}"})

    def _other_than(self, file: str) -> str | None:
        """Say what a reload would read, where that is not ``file``, an absolute path. Two spellings
        that lead to one file are the same."""
        own = self._generations.serving.config.source
        if own is None:
            return "flags and no file"
        same = str(own) == file or os.path.realpath(own) == os.path.realpath(file)
        return None if same else str(own)

    def _drain(self, request: Answer, reply: Reply) -> None:
        if request.get("cancel") is True:
            self._operations.undrain(reply)
            return
        seconds = request.get("seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            reply({"ok": False, "error": "drain takes seconds, a number"})
        elif not 0 <= seconds <= _DRAINS_AT_MOST:
            reply({"ok": False, "error": f"seconds are 0 to {_DRAINS_AT_MOST}"})
        else:
            seen = self._generations.serving.config.admin is not None
            self._operations.drain(float(seconds), lambda told: reply({**told, "seen": seen}))

    @property
    def actions_allowed(self) -> bool:
        """Whether the admin page may do more than look."""
        admin = self._generations.serving.config.admin
        return admin is not None and admin.actions

    def _plan(self, reply: Reply) -> None:
        """Reply with what a reload would change, and change nothing."""
        try:
            config = self._reloader.rehearse()
        except (ConfigurationFaults, CertificateUnusable, ReadingEnded) as error:
            reply({"ok": False, "error": str(error), "status": USAGE})
            return
        except CannotBind as error:
            reply({"ok": False, "error": str(error), "status": CANNOT_BIND})
            return
        except Exception as error:  # a fault of our own: what serves is not to end by a question
            log.exception("the configuration on disk cannot be read")
            reply({"ok": False, "error": f"it cannot be read: {error!r}"})
            return
        certified = frozenset(
            (frozenset(one["names"]), one["directory"], one["key_type"])
            for one in self._registry.statuses()
            if one["served"]
        )
        serving = self._generations.serving.config
        certified = plan.kept(serving, config, certified)
        found = plan.changes(serving, config, certified)
        orders = [one for one, _key in plan.orders(config, certified) if not one.internal]
        notices = list(config.notices)
        if not orders:
            reply({"ok": True, "changes": found, "notices": notices})
            return
        value = {config.acme.directory: [list(one.names) for one in orders]}
        # Without a certifier to ask, the plan is without costs.
        self._requests.ask(
            "costs",
            value,
            lambda told: reply(
                {"ok": True, "changes": [*found, *told.get("costs", ())], "notices": notices}
            ),
        )
