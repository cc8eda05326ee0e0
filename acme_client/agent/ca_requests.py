"""What is asked of CAs beside orders: when to renew, revocations, account keys, and what limits
allow.

Every method runs in a thread of its own kind (`executors`) and may wait for the CA. A fault becomes
a text for whoever asked.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ..certificates import ca_choice, transitions
from ..certificates.managed import ManagedCertificate
from ..certificates.renewal import ASK_LEAST, Suggestion
from ..errors import IssuanceError
from ..issuers.interface import Issuer
from ..link import Authority
from ..rate_limits.ledger import Ledger
from ..text import timestamp
from .keeper import CertificateKeeper

log = logging.getLogger("treehouse.certifier")


class CaRequests:
    """``issuer`` gives the issuer for a CA; ``has_account``: whether there is an account with it;
    ``now`` gives Unix seconds; ``shared``: other machines have the same certificates."""

    def __init__(
        self,
        keeper: CertificateKeeper,
        issuer: Callable[[Authority], Issuer],
        has_account: Callable[[Authority], bool],
        ledger: Ledger,
        now: Callable[[], float],
        rng: random.Random,
        *,
        shared: bool = False,
    ) -> None:
        self._shared = shared
        self._keeper = keeper
        self._issuer = issuer
        self._has_account = has_account
        self._ledger = ledger
        self._now = now
        self._rng = rng

    def ask(self, managed: ManagedCertificate) -> None:
        """Ask the CA when to renew. One that does not say is asked again all the same: it may
        learn to."""
        record = managed.record
        authority = ca_choice.issued_by(managed.wanted, record)
        suggestion: Suggestion | None = None
        try:
            if authority is not None and managed.pair is not None:
                suggestion = self._issuer(authority).suggestion(managed.pair.chain_pem)
        except IssuanceError as problem:
            managed.record = transitions.on_ari_failed(record, self._now(), problem.not_before)
            log.info("%s: no word on when to renew: %s", managed.name, problem.text)
        except Exception as error:  # renewal goes on without ARI
            managed.record = transitions.on_ari_failed(record, self._now())
            log.exception("%s: a fault in the certifier itself: %r", managed.name, error)
        else:
            now = self._now()
            managed.record = (
                transitions.on_ari(record, suggestion, now, self._rng)
                if suggestion
                else transitions.on_no_ari(record, now)
            )
        if managed.record.window != record.window:
            why = managed.record.window.explanation if managed.record.window else None
            log.info(
                "%s: the CA suggests another time; renews about %s%s",
                managed.name,
                timestamp(managed.record.renew_at),
                f"; why: {why}" if why else "",
            )
            self._keeper.report(managed)
        elif self._shared:
            return  # the others need not hear that nothing is new
        if not self._keeper.keep_record(managed) and self._shared:
            # Another machine is at work on it, and what it writes will be heard.
            managed.record = replace(record, ask_at=self._now() + ASK_LEAST)

    def revoke(self, managed: ManagedCertificate, reason: int) -> str | None:
        """Revoke the certificate; returns why it could not be revoked, None when it was."""
        authority = ca_choice.issued_by(managed.wanted, managed.record)
        pair = managed.pair
        if pair is None or authority is None:
            return "there is no certificate of a CA that is configured"
        issuer = self._issuer(authority)
        error = self._outcome(
            managed.name, lambda: issuer.revoke(pair.chain_pem, pair.key_pem, reason)
        )
        if error is None:
            log.warning("%s: certificate %s was revoked", managed.name, managed.record.serial)
            self._keeper.revoke_order(managed)
        return error

    def show_persist_records(
        self, authorities: tuple[Authority, ...], names: tuple[str, ...]
    ) -> dict[str, Any]:
        """The records of dns-persist-01 at each CA, as lines of a zone file, or why there are none;
        an answer to a command."""
        told = [self._standing_records(one, names) for one in authorities]
        message = "\n".join(text for text, _ok in told)
        ok = any(good for _text, good in told)
        return {"ok": ok, "error": None if ok else message, "message": message}

    def _standing_records(self, authority: Authority, names: tuple[str, ...]) -> tuple[str, bool]:
        """The lines for this CA and True, or why there are none and False."""
        lines = [f"; {authority.directory}"]

        def look() -> None:
            records = self._issuer(authority).standing_records(names)
            lines.extend(f"{one} ; {'stands' if one.stands else 'to be set'}" for one in records)

        error = self._outcome(authority.directory, look)
        return (error, False) if error else ("\n".join(lines), True)

    def roll_account_keys(self, authorities: tuple[Authority, ...]) -> dict[str, Any]:
        """Roll the key at every CA where we have an account; never creates an account. Returns the
        answer to a command."""
        told = {
            one.directory: self._outcome(one.directory, self._issuer(one).roll_account_key)
            for one in authorities
            if self._has_account(one)
        }
        failed = [f"{directory}: {error}" for directory, error in told.items() if error]
        none = (
            "there is no account yet; one is made with the first order"
            if authorities
            else "no CA is configured that has accounts"
        )
        error = "; ".join(failed) or (None if told else none)
        message = f"new account keys at {', '.join(sorted(told))}"
        return {"ok": error is None, "error": error, "message": message}

    def count_costs(self, orders: Mapping[str, list[tuple[str, ...]]]) -> dict[str, Any]:
        """What orders would take of CAs' limits, in words; an answer to a command."""
        lines = [
            line
            for directory, sets in orders.items()
            for line in self._ledger.costs(directory, sets)
        ]
        return {"ok": True, "costs": lines}

    def _outcome(self, about: str, what: Callable[[], None]) -> str | None:
        try:
            what()
        except IssuanceError as problem:
            return problem.text
        except Exception as error:  # told to whoever asked
            log.exception("%s: a fault in the certifier itself", about)
            return repr(error)
        return None
