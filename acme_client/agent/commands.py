"""What people ask of the certifier: renew, revoke, roll the account key, and a few questions.

An order, a revocation or a look at the DNS takes its time, so that a command is begun here and
answered when what it began has come to its end, by whichever thread that is. Of a certificate that
is busy nothing can be asked in between: the command waits until the attempt is over (`postponed`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ..certificates import transitions
from ..certificates.lifecycle import State
from ..certificates.managed import Holding, Task
from ..link import INTERNAL, REASONS, Command
from ..on_demand.manager import OnDemand
from .replies import Replies
from .tasks import Action, CountCosts, Forget, Report, RollAccountKeys, ShowPersistRecords

log = logging.getLogger("treehouse.certifier")


class Commands:
    """``holdings`` are the scheduler's, and so are the callables: ``touch`` sees what a certificate
    calls for, ``run`` gives it to a thread, ``act`` has anything else done."""

    def __init__(
        self,
        holdings: dict[str, Holding],
        on_demand: OnDemand,
        replies: Replies,
        touch: Callable[[Holding], None],
        run: Callable[[Task, Holding, str, int], None],
        act: Callable[[Action], None],
    ) -> None:
        self._holdings = holdings
        self._on_demand = on_demand
        self._replies = replies
        self._touch = touch
        self._run = run
        self._act = act
        self._revocations: dict[str, Command] = {}

    def obey(self, command: Command) -> None:
        match command.verb:
            case "renew":
                self._renew(command)
            case "revoke":
                self._revoke(command)
            case "forget":
                self._forget(command)
            case "dns_persist":
                self._dns_persist(command)
            case "costs":
                self._act(CountCosts(command, _orders(command.value)))
            case "roll_account_key":
                self._roll_account_keys(command)
            case _:
                self._reply(command, {"ok": False, "error": f"{command.verb} is not known here"})

    def _reply(self, command: Command, value: dict[str, object]) -> None:
        self._replies.give(command.ticket, value)

    def answer(self, holding: Holding) -> None:
        """Whoever waits for what has just come to its end."""
        tickets, holding.tickets = holding.tickets, []
        fresh = holding.record.state is State.FRESH
        ok = fresh and holding.served
        why = holding.record.last_error or "given up"
        if fresh:
            why = "obtained, but not all workers serve it yet; they are told again within a minute"
        value = {
            "ok": ok,
            "error": None if ok else f"{holding.name}: {why}",
            "message": f"renewed: {holding.name}",
            "certificate": holding.status(),
        }
        for ticket in tickets:
            self._replies.give(ticket, value)

    def _called(self, command: Command, name: object) -> list[Holding]:
        """The certificates that a command is about; it will be answered once for all of them, and
        has been if there is none."""
        called = [one for one in self._holdings.values() if one.is_called(name)]
        if not called:
            self._reply(command, self._unknown(name))
        self._replies.expect(command.ticket, len(called))
        return called

    def _unknown(self, name: object) -> dict[str, object]:
        known = ", ".join(sorted(self._holdings)) or "none"
        error = f"no certificate for {name} is wanted here; wanted are: {known}"
        return {"ok": False, "error": error}

    def _renew(self, command: Command) -> None:
        value = command.value
        name, force = (
            (value.get("name"), bool(value.get("force")))
            if isinstance(value, dict)
            else (value, False)
        )
        if not any(one.is_called(name) for one in self._holdings.values()) and (
            self._on_demand.takes(name)
        ):
            self._on_demand.obey(command)
            return
        for holding in self._called(command, name):
            self._renew_one(holding, force, command)

    def _renew_one(self, holding: Holding, force: bool, command: Command) -> None:
        if holding.name not in self._holdings:
            self._reply(command, self._unknown(holding.name))
            return
        if holding.busy and not holding.attempted:
            # Something else is being done with it; or the attempt is over, and another is meant.
            holding.postponed.append(lambda: self._renew_one(holding, force, command))
            return
        if command.ticket is not None:
            holding.tickets.append(command.ticket)
        if not holding.busy:
            holding.force = force
            holding.record = transitions.asked(holding.record)
            self._act(Report(holding.name, holding))
            self._touch(holding)

    def _revoke(self, command: Command) -> None:
        value = command.value if isinstance(command.value, dict) else {}
        reason = REASONS.get(str(value.get("reason", "unspecified")))
        if reason is None:
            error = f"{value.get('reason')!r} is no reason; there are: {', '.join(REASONS)}"
            self._reply(command, {"ok": False, "error": error})
            return
        for holding in self._called(command, value.get("name")):
            self._revoke_one(holding, reason, command)

    def _revoke_one(self, holding: Holding, reason: int, command: Command) -> None:
        if holding.name not in self._holdings:
            self._reply(command, self._unknown(holding.name))
        elif holding.busy:
            holding.postponed.append(lambda: self._revoke_one(holding, reason, command))
        else:
            self._revocations[holding.name] = command
            self._run(Task.REVOKE, holding, holding.issued_by, reason)

    def revoked(self, holding: Holding, reason: int, error: str | None) -> None:
        """A revocation has come to its end; where it succeeded, another certificate is wanted."""
        message = "revoked; another one is being ordered"
        if error is None:
            if reason == REASONS["cessationOfOperation"]:
                message = "revoked; it is served until its site is taken out of the configuration"
            else:
                holding.record = transitions.asked(holding.record)
                self._act(Report(holding.name, holding))
                self._run(Task.KEEP_RECORD, holding, "", 0)
        command = self._revocations.pop(holding.name)
        self._reply(command, {"ok": error is None, "error": error, "message": message})

    def _forget(self, command: Command) -> None:
        """Delete what is kept of a certificate that no site wants any more."""
        name = command.value
        wanted = [one for one in self._holdings.values() if one.is_called(name)]
        if wanted and isinstance(name, str) and name in {one.name for one in wanted}:
            error = f"{name}: a site wants this certificate; take the site out first"
            self._reply(command, {"ok": False, "error": error})
            return
        self._act(Forget(command, str(name), frozenset(self._holdings)))

    def _dns_persist(self, command: Command) -> None:
        """What is to stand in the DNS for a certificate, at each of its CAs."""
        value = command.value if isinstance(command.value, dict) else {}
        name = value.get("name")
        called = [one.wanted for one in self._holdings.values() if one.is_called(name)]
        if not called:
            self._reply(command, self._unknown(name))
            return
        wanted = called[0]  # a second one has the same names, CAs and records
        authorities = (wanted.authority, *wanted.fallback)
        self._act(ShowPersistRecords(command, authorities, wanted.names))

    def _roll_account_keys(self, command: Command) -> None:
        authorities = {
            one
            for holding in self._holdings.values()
            for one in (holding.wanted.authority, *holding.wanted.fallback)
            if one.directory != INTERNAL
        }
        self._act(RollAccountKeys(command, tuple(sorted(authorities, key=lambda a: a.directory))))


def _orders(value: Any) -> dict[str, list[tuple[str, ...]]]:
    """Sets of names by directory, from the command's value."""
    return {directory: [tuple(names) for names in orders] for directory, orders in value.items()}
