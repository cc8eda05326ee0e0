"""Decides when this machine begins what other machines may begin as well: attempts and questions.

With no other machine, everything begins at once. Pure: the time is a parameter (Unix seconds).
"""

from __future__ import annotations

from ..certificates import ranks, transitions, wishes
from ..certificates.lifecycle import READY, State
from ..certificates.managed import ManagedCertificate
from ..certificates.peers import Peers

# An attempt that another machine has begun is over by then, or hangs; then the lock decides.
_UNDER_WAY_MOST = 600.0
_UNDER_WAY_PART = 1 / 10
# When the others can be heard again, what was made alone is shared first. That is not more than
# there was time for.
_SHARED_WITHIN = 60.0
_NEVER = float("inf")


class Turns:
    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._away_since: float | None = None
        self._back_at = float("-inf")
        self._shares_until = float("-inf")

    @property
    def peers(self) -> Peers:
        return self._peers

    def meet(self, now: float) -> None:
        """Note that other machines have come or gone, or can be heard again."""
        if self._peers.away:
            self._away_since = now if self._away_since is None else min(self._away_since, now)
        elif self._away_since is not None:
            self._back_at = now
            self._shares_until = now + min(_SHARED_WITHIN, now - self._away_since)
            self._away_since = None

    def begins(self, managed: ManagedCertificate, now: float) -> float:
        """Return when an attempt begins that the certificate calls for since `Turns.calls`;
        infinity: not by time alone."""
        if not self._peers.are_shared:
            return now
        record, facts = managed.record, managed.facts
        since = now if managed.ready_since is None else min(managed.ready_since, now)
        asked = managed.by_hand or managed.is_revoked
        if asked or (managed.tickets and not managed.wanted.on_demand_for):
            return max(since, managed.postponed_until) if not self._peers.away else since
        if managed.tickets and not self._peers.away:
            return since  # of clients: whichever machine has the lock, all wait for it
        wish = record.made.wishes if record.made is not None else ""
        place = self._peers.place(managed.name, wish, record.attempts)
        if place is None:
            return _NEVER
        alone = self._peers.away and not self._peers.is_only
        if alone or self._peers.clock_fault():
            if facts is None:
                return _NEVER
            late = ranks.alone_from(
                place, facts.not_before, facts.not_after, self._peers.alone_below
            )
            return _NEVER if late is None else max(late, since)
        served = facts is not None and facts.not_after > now
        lifetime = facts.not_after - facts.not_before if facts is not None and served else None
        begins = max(since + place * ranks.step(lifetime), managed.postponed_until)
        if self._back_at <= now < self._shares_until:
            begins = max(begins, self._shares_until)
        if managed.under_way and self._peers.lives(managed.under_way):
            most = ranks.within(_UNDER_WAY_MOST, lifetime, _UNDER_WAY_PART)
            begins = max(begins, since + most)
        return begins

    def calls(self, managed: ManagedCertificate, now: float) -> None:
        """Note whether the certificate calls for an attempt, and since when."""
        if managed.record.state not in READY:
            managed.ready_since = None
        elif managed.ready_since is None or managed.ready_since > now:
            managed.ready_since = now

    def contested(self, managed: ManagedCertificate, now: float) -> str:
        """Say why this machine does not order the certificate that it wants; empty where it may."""
        made = managed.record.made
        if managed.braked and now < managed.postponed_until:
            return managed.braked
        if managed.satisfies or made is None:
            return ""
        holders = self._peers.holders(managed.name, made.wishes)
        if holders:
            return wishes.told(managed.name, holders, self._peers.node)
        until = self.replaces_from(managed, now)
        return "" if until is None else wishes.told_to_wait(managed.name, until)

    def replaces_from(self, managed: ManagedCertificate, now: float) -> float | None:
        """Return when this machine may order what it wants in the place of what there is; None
        where it may now, or has it."""
        if not self._peers.are_shared or managed.satisfies or managed.wanted.on_demand_for:
            return None
        return transitions.braked_until(managed.record, now)

    def wants_another(self, managed: ManagedCertificate) -> bool:
        """Whether the certificate is not what this machine wants, and it may order what it
        wants. On demand, what was made is enough until its renewal: no machine tells the others
        what it wants there."""
        return (
            self._peers.are_shared
            and not managed.satisfies
            and not managed.wanted.on_demand_for
            and managed.record.state is State.FRESH
            and not managed.contested
        )

    def asks(self, managed: ManagedCertificate) -> bool:
        """Whether it is this machine that asks the CA when to renew."""
        if not self._peers.are_shared:
            return True
        alone = self._peers.away and not self._peers.is_only
        return not alone and self._peers.place(managed.name) == 0

    def takes_over_asking(self, managed: ManagedCertificate, now: float) -> float | None:
        """Return when this machine asks the CA in the place of another machine that is gone; None
        where nothing has changed. Not at once, because the other machine may only be restarting;
        and not for all certificates at one moment, because when the store is back that all machines
        share, all of them begin."""
        if managed.asks or not self.asks(managed):
            return None
        facts = managed.facts
        step = ranks.step(facts.not_after - facts.not_before if facts is not None else None)
        return now + (ranks.ASKS_AFTER + ranks.part(self._peers.node, managed.name)) * step
