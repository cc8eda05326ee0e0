"""What can be asked on the control socket, and who answers it.

A command is one JSON object, ``{"command": VERB, …}``, and so is its answer: ``{"ok": true, …}``,
or ``{"ok": false, "error": WHY}``; a status is the document itself. What the certifier knows is
asked of the certifier, and its answer is handed on as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ...config.model import Config
from ...config.syntax.faults import ConfigurationFaults
from ...exit_status import CANNOT_BIND, USAGE
from ...system.certificate_files import CertificateUnusable
from ...system.listeners import CannotBind
from ..process_table import Processes
from ..registry import Announcements
from ..reload import plan
from .overview import Overview
from .probe_tokens import Knocking
from .server import Reply

log = logging.getLogger("treehouse.supervisor")

_WHY = "asked on the control socket"
# The certifier's, by the names under which it knows them.
_CERTIFIERS = frozenset({"renew", "revoke", "roll_account_key", "refusal", "look", "dns_persist"})


class Commands:
    """``serving`` gives the configuration in force, ``read`` the one on disk (or raises
    `ConfigurationFaults`). ``reload`` and ``upgrade`` reply themselves, when they are through."""

    def __init__(
        self,
        processes: Processes,
        announcements: Announcements,
        overview: Overview,
        knocking: Knocking,
        *,
        serving: Callable[[], Config],
        read: Callable[[], Config],
        reload: Callable[[str, Reply], None],
        upgrade: Callable[[str, Reply], None],
        stop: Callable[[str], None],
    ) -> None:
        self._processes = processes
        self._announcements = announcements
        self._overview = overview
        self._knocking = knocking
        self._serving = serving
        self._read = read
        self._reload = reload
        self._upgrade = upgrade
        self._stop = stop

    def hear(self, request: dict[str, Any], reply: Reply) -> None:
        match request.get("command"):
            case "status":
                self._overview.ask(lambda status: reply({**status}))
            case "reload":
                self._reload(_WHY, reply)
            case "upgrade":
                self._upgrade(_WHY, reply)
            case "plan":
                self._plan(reply)
            case "knock":
                self._knocking.begin(request, self._serving(), reply)
            case "stop":
                self._stop(_WHY)
                reply({"ok": True})
            case str() as verb if verb in _CERTIFIERS:
                self._ask_certifier(verb, request, reply)
            case other:
                reply({"ok": False, "error": f"unknown command {other!r}"})

    def _ask_certifier(self, verb: str, request: dict[str, Any], reply: Reply) -> None:
        certifier = self._processes.certifier()
        if certifier is None:
            reply({"ok": False, "error": "the certifier is being restarted; ask again"})
        else:
            self._announcements.ask(certifier, verb, request, reply)

    def _plan(self, reply: Reply) -> None:
        """What a reload would change; nothing is changed by asking."""
        try:
            config = self._read()
        except (ConfigurationFaults, CertificateUnusable) as error:
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
            for one in self._announcements.statuses()
            if one["served"]
        )
        certified = plan.kept(self._serving(), config, certified)
        found = plan.changes(self._serving(), config, certified)
        orders = [one for one, _key in plan.orders(config, certified) if not one.internal]
        certifier = self._processes.certifier()
        if not orders or certifier is None:
            reply({"ok": True, "changes": found})
            return
        value = {config.acme.directory: [list(one.names) for one in orders]}
        self._announcements.ask(
            certifier,
            "costs",
            {"value": value},
            lambda told: reply({"ok": True, "changes": [*found, *told.get("costs", ())]}),
        )
