"""Obeys the commands that people send: renew, revoke, roll the account key, and a few questions.

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
from ..certificates.managed import ManagedCertificate, Task
from ..link import INTERNAL, REASONS, Command
from ..on_demand.manager import OnDemand
from .replies import Replies
from .tasks import Action, CountCosts, Forget, Report, RollAccountKeys, ShowPersistRecords

log = logging.getLogger("treehouse.certifier")


class Commands:
    """``certificates`` are the scheduler's, and so are the callables: ``touch`` sees what a
    certificate calls for, ``run`` gives it to a thread, ``act`` has anything else done. ``node`` is
    this machine's name; "" where it is alone."""

    def __init__(
        self,
        certificates: dict[str, ManagedCertificate],
        on_demand: OnDemand,
        replies: Replies,
        touch: Callable[[ManagedCertificate], None],
        run: Callable[[Task, ManagedCertificate, str, int], None],
        act: Callable[[Action], None],
        node: str,
    ) -> None:
        self._certificates = certificates
        self._on_demand = on_demand
        self._replies = replies
        self._touch = touch
        self._run = run
        self._act = act
        self._node = node
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

    def answer(self, managed: ManagedCertificate) -> None:
        """Answer those who wait for this certificate."""
        tickets, managed.tickets = managed.tickets, []
        fresh = managed.record.state is State.FRESH
        ok = fresh and managed.served
        why = managed.hindered or managed.record.last_error or "given up"
        if fresh:
            why = "obtained, but not all workers serve it yet; they are told again within a minute"
        value = {
            "ok": ok,
            "error": None if ok else f"{managed.name}: {why}",
            "message": f"renewed: {managed.name}",
            "certificate": managed.status(),
        }
        for ticket in tickets:
            self._replies.give(ticket, value)

    def _called(self, command: Command, name: object) -> list[ManagedCertificate]:
        """Find the certificates that a command is about. It is answered once for all of them; if
        there is none, it has been answered."""
        called = [one for one in self._certificates.values() if one.is_called(name)]
        if not called:
            self._reply(command, self._unknown(name))
        self._replies.expect(command.ticket, len(called))
        return called

    def _unknown(self, name: object) -> dict[str, object]:
        known = ", ".join(sorted(self._certificates)) or "none"
        error = f"no certificate for {name} is wanted here; wanted are: {known}"
        return {"ok": False, "error": error}

    def _renew(self, command: Command) -> None:
        value = command.value
        name, force = (
            (value.get("name"), bool(value.get("force")))
            if isinstance(value, dict)
            else (value, False)
        )
        if not any(one.is_called(name) for one in self._certificates.values()) and (
            self._on_demand.takes(name)
        ):
            self._on_demand.obey(command)
            return
        for managed in self._called(command, name):
            self._renew_one(managed, force, command)

    def _renew_one(self, managed: ManagedCertificate, force: bool, command: Command) -> None:
        if managed.name not in self._certificates:
            self._reply(command, self._unknown(managed.name))
            return
        if managed.busy and not managed.attempted:
            # Something else is being done with it; or the attempt is over, and another is meant.
            managed.postponed.append(lambda: self._renew_one(managed, force, command))
            return
        if command.ticket is not None:
            managed.tickets.append(command.ticket)
        self._on_demand.touched(managed.name)  # it may be dormant, and a person waits for it now
        if not managed.busy:
            managed.force = force
            managed.by_hand, managed.postponed_until = True, 0.0
            managed.record = transitions.on_requested(managed.record)
            self._act(Report(managed.name, managed))
            self._touch(managed)

    def _revoke(self, command: Command) -> None:
        value = command.value if isinstance(command.value, dict) else {}
        reason = REASONS.get(str(value.get("reason", "unspecified")))
        if reason is None:
            error = f"{value.get('reason')!r} is no reason; there are: {', '.join(REASONS)}"
            self._reply(command, {"ok": False, "error": error})
            return
        for managed in self._called(command, value.get("name")):
            self._revoke_one(managed, reason, command)

    def _revoke_one(self, managed: ManagedCertificate, reason: int, command: Command) -> None:
        if managed.name not in self._certificates:
            self._reply(command, self._unknown(managed.name))
        elif managed.busy:
            managed.postponed.append(lambda: self._revoke_one(managed, reason, command))
        else:
            self._revocations[managed.name] = command
            self._run(Task.REVOKE, managed, managed.issued_by, reason)

    def revoked(self, managed: ManagedCertificate, reason: int, error: str | None) -> None:
        """A revocation has ended; where it succeeded, another certificate is wanted."""
        message = "revoked; another one is being ordered"
        if error is None:
            if reason == REASONS["cessationOfOperation"]:
                message = "revoked; it is served until its site is taken out of the configuration"
            else:
                managed.revoked = managed.serial
                managed.postponed_until = 0.0
                managed.record = transitions.on_revoked(managed.record, self._node)
                self._act(Report(managed.name, managed))
                self._run(Task.KEEP_REQUEST, managed, "", 0)
        command = self._revocations.pop(managed.name)
        self._reply(command, {"ok": error is None, "error": error, "message": message})

    def _forget(self, command: Command) -> None:
        """Delete what is kept of a certificate that no site wants any more."""
        name = command.value
        wanted = [one for one in self._certificates.values() if one.is_called(name)]
        if wanted and isinstance(name, str) and name in {one.name for one in wanted}:
            error = f"{name}: a site wants this certificate; take the site out first"
            self._reply(command, {"ok": False, "error": error})
            return
        self._act(Forget(command, str(name), frozenset(self._certificates)))

    def _dns_persist(self, command: Command) -> None:
        """Have the DNS records looked up that each CA wants for a certificate."""
        value = command.value if isinstance(command.value, dict) else {}
        name = value.get("name")
        called = [one.wanted for one in self._certificates.values() if one.is_called(name)]
        if not called:
            self._reply(command, self._unknown(name))
            return
        wanted = called[0]  # a second one has the same names, CAs and records
        authorities = (wanted.authority, *wanted.fallback)
        self._act(ShowPersistRecords(command, authorities, wanted.names))

    def _roll_account_keys(self, command: Command) -> None:
        authorities = {
            one
            for managed in self._certificates.values()
            for one in (managed.wanted.authority, *managed.wanted.fallback)
            if one.directory != INTERNAL
        }
        self._act(RollAccountKeys(command, tuple(sorted(authorities, key=lambda a: a.directory))))


def _orders(value: Any) -> dict[str, list[tuple[str, ...]]]:
    """Read the sets of names, by directory, from the command's value."""
    return {directory: [tuple(names) for names in orders] for directory, orders in value.items()}
