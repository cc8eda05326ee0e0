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
from ..certificates.managed import UNDER_WAY, Holding
from ..link import INTERNAL, REASONS, Authority, Command
from ..on_demand.manager import OnDemand
from ..rate_limits.ledger import Ledgers
from .attempt import Bench
from .executors import Desks
from .replies import Replies

log = logging.getLogger("treehouse.certifier")


class Commands:
    """``holdings`` are the agent's. ``working`` makes work for a desk of what is to be done with
    one of them; ``is_customer``: whether there is an account with a CA."""

    def __init__(
        self,
        holdings: dict[str, Holding],
        bench: Bench,
        desks: Desks,
        ledgers: Ledgers,
        on_demand: OnDemand,
        replies: Replies,
        working: Callable[[Callable[[Holding], None], Holding], Callable[[], None]],
        is_customer: Callable[[Authority], bool],
    ) -> None:
        self._holdings = holdings
        self._bench = bench
        self._desks = desks
        self._ledgers = ledgers
        self._on_demand = on_demand
        self._replies = replies
        self._working = working
        self._is_customer = is_customer

    def obey(self, command: Command) -> None:
        match command.verb:
            case "renew":
                self._renew(command)
            case "revoke":
                self._revoke(command)
            case "dns_persist":
                self._dns_persist(command)
            case "costs":
                self._reply(command, {"ok": True, "costs": self._costs(command.value)})
            case "roll_account_key":
                self._desks.ask("", lambda: self._roll_account_keys(command))  # at any of them
            case _:
                self._reply(command, {"ok": False, "error": f"{command.verb} is not known here"})

    def _reply(self, command: Command, value: dict[str, object]) -> None:
        self._replies.give(command.ticket, value)

    def answer(self, holding: Holding) -> None:
        """Whoever waits for what has just come to its end."""
        tickets, holding.tickets = holding.tickets, []
        ok = holding.record.state is State.FRESH
        value = {
            "ok": ok,
            "error": None if ok else f"{holding.name}: {holding.record.last_error or 'given up'}",
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

    def _costs(self, value: Any) -> list[str]:
        """What orders would take: ``value`` maps directories to sets of names."""
        return [
            line
            for directory, orders in value.items()
            for line in self._ledgers.costs(directory, [tuple(names) for names in orders])
        ]

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
        if holding.busy and holding.record.state not in UNDER_WAY:
            # The attempt is over; what was asked for is another.
            holding.postponed.append(lambda: self._renew_one(holding, force, command))
            return
        if command.ticket is not None:
            holding.tickets.append(command.ticket)
        if not holding.busy:
            holding.force = force
            holding.record = transitions.asked(holding.record)
            self._bench.report(holding)

    def _revoke(self, command: Command) -> None:
        """In a thread, and in the mailbox again as an order for another one."""
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
            holding.busy = True
            work = self._working(lambda one: self._revoked(one, reason, command), holding)
            self._desks.ask(holding.issued_by, work)

    def _revoked(self, holding: Holding, reason: int, command: Command) -> None:
        error = self._bench.revoke(holding, reason)
        message = "revoked; another one is being ordered"
        if error is None:
            log.warning("%s: certificate %s was revoked", holding.name, holding.record.serial)
            if reason == REASONS["cessationOfOperation"]:
                message = "revoked; it is served until its site is taken out of the configuration"
            else:
                holding.record = transitions.asked(holding.record)
                self._bench.keep_record(holding)
                self._bench.report(holding)
        self._reply(command, {"ok": error is None, "error": error, "message": message})

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

        def look() -> None:
            told = [self._bench.standing_records(one, wanted.names) for one in authorities]
            message = "\n".join(text for text, _ok in told)
            ok = any(good for _text, good in told)
            error = None if ok else message
            self._reply(command, {"ok": ok, "error": error, "message": message})

        self._desks.ask(wanted.authority.directory, look)

    def _roll_account_keys(self, command: Command) -> None:
        """With every CA that we are a customer of; for a new key's sake we become nobody's."""
        authorities = {
            one
            for holding in list(self._holdings.values())
            for one in (holding.wanted.authority, *holding.wanted.fallback)
            if one.directory != INTERNAL
        }
        told = {
            one.directory: self._bench.roll_account_key(one)
            for one in authorities
            if self._is_customer(one)
        }
        failed = [f"{directory}: {error}" for directory, error in told.items() if error]
        none = (
            "there is no account yet; one is made with the first order"
            if authorities
            else "no CA is configured that has accounts"
        )
        error = "; ".join(failed) or (None if told else none)
        message = f"new account keys at {', '.join(sorted(told))}"
        self._reply(command, {"ok": error is None, "error": error, "message": message})
