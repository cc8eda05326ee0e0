"""Holds what this machine knows of its peers, the machines that have the same certificates: which
of them live, and what certificates each wants.

A machine without peers has the first place for every certificate. With peers, every machine has a
copy of a certificate's record, and only the holder of the certificate's lock writes the record. So
a machine cannot note its own decisions in the record (when it begins an attempt, whether it may):
it decides from what is known here.

This module asks no machine and no store anything: the thread that follows the cluster replaces what
is known, by `Peers.told`; any thread may do so.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import field

from ..late_dataclass import dataclass
from ..text import spell
from .ranks import ALONE_BELOW, places, weight

# A clock that is further from the middle of the members' clocks than this orders nothing: the
# limits of CAs are counted in moments.
CLOCK_APART = 60.0


@dataclass(frozen=True, slots=True)
class Member:
    """A machine that lives. ``wishes``: by the name of each certificate that it wants, a hash of
    what it is to be (`wishes.of`). ``clock``: seconds by which its clock is ahead of ours; None
    where that is not known well enough to count."""

    orders: bool = True
    wishes: Mapping[str, str] = field(default_factory=dict)
    clock: float | None = 0.0


Members = Mapping[str, Member]


class Peers:
    """``node``: this machine's name; "" where it is alone. ``alone_below``: the part of a
    certificate's life below which it is ordered though the others cannot be heard."""

    def __init__(
        self, node: str = "", *, orders: bool = True, alone_below: float = ALONE_BELOW
    ) -> None:
        self.node = node
        self.alone_below = alone_below
        self._orders = orders
        self._members: Members = {node: Member(orders)}
        self._away = bool(node)
        self._known = not node  # whether `told` has been called
        self._order = _Order(node, self._members)
        self._offset = 0.0
        self._contested: set[str] = set()  # certificates that two members want to be different

    @property
    def are_shared(self) -> bool:
        """Whether other machines may have the same certificates."""
        return bool(self.node)

    @property
    def away(self) -> bool:
        """Whether the store that the machines share cannot be reached. What this object says of the
        members is then what the store said last."""
        return self._away

    @property
    def is_known(self) -> bool:
        """Whether it is known who the members are, or were."""
        return self._known

    def told(self, members: Members, *, away: bool) -> None:
        """Replace what is known. ``members``: every member that lives, this machine among them;
        ``away``: whether the shared store cannot be reached."""
        self._members, self._away, self._known = dict(members), away, True
        self._order = self._order.after(self._members)
        self._contested = _contested(one.wishes for one in members.values())
        clocks = [one.clock for one in members.values() if one.clock is not None]
        self._offset = -statistics.median(clocks) if clocks else 0.0

    @property
    def is_only(self) -> bool:
        """Whether no other machine orders, as far as is known."""
        return self._known and not any(
            one.orders for node, one in self._members.items() if node != self.node
        )

    def lives(self, node: str) -> bool:
        return node in self._members

    def ordering(self) -> int:
        """Count the members that order, this machine among them."""
        return self._order.count

    @property
    def clock_offset(self) -> float:
        """Seconds by which this machine's clock is ahead of the middle of all."""
        return self._offset

    def clock_fault(self) -> str:
        """Say why this machine's clock keeps it from ordering; empty where it does not."""
        if abs(self._offset) <= CLOCK_APART:
            return ""
        way = "ahead of" if self._offset > 0 else "behind"
        return (
            f"this machine's clock is {spell(abs(self._offset))} {way} those of the others, so it "
            "orders nothing: set the clock (NTP)"
        )

    def place(self, name: str, made_for: str = "", turn: int = 0) -> int | None:
        """Return this machine's place in the order for a certificate; None where it never orders.
        The members that want the certificate to be what it was made for come first."""
        if not self.node:
            return 0
        if not self._orders or not self._known:
            return None
        order = self._order  # another thread may replace it
        # Both certificates of a site have one order: there is one answer to TLS-ALPN-01 for a name.
        site = name.partition("/")[0]
        if not made_for or name not in self._contested:
            return (order.place(site) - turn) % order.count
        found = places(site, order.nodes, turn)
        return sorted(found, key=lambda node: self._wish(node, name) != made_for).index(self.node)

    def _wish(self, node: str, name: str) -> str | None:
        one = self._members.get(node)
        return one.wishes.get(name) if one is not None else None

    def holders(self, name: str, made_for: str) -> list[str]:
        """Name the other members that want a certificate to be what it was made for."""
        return sorted(
            node
            for node, one in self._members.items()
            if node != self.node and one.wishes.get(name) == made_for
        )


class _Order:
    """The members that order, and one machine's place among them for each certificate that it was
    asked about. With each member that comes or goes a place changes by one at most, so that a
    thousand members are not ordered anew for ten thousand certificates."""

    def __init__(self, node: str, members: Members) -> None:
        self._node = node
        self.nodes = {node, *(one for one, member in members.items() if member.orders)}
        self.count = len(self.nodes)
        self._before: dict[str, tuple[bytes, int]] = {}  # own weight, and how many are lighter

    def place(self, site: str) -> int:
        known = self._before.get(site)
        if known is None:
            own = weight(self._node, site)
            lighter = sum(weight(one, site) < own for one in self.nodes)
            known = self._before[site] = (own, lighter)
        return known[1]

    def after(self, members: Members) -> _Order:
        """Return the order with these members."""
        new = _Order(self._node, members)
        come, gone = new.nodes - self.nodes, self.nodes - new.nodes
        if len(come) + len(gone) < new.count:
            for site, (own, lighter) in list(self._before.items()):
                lighter += sum(weight(one, site) < own for one in come)
                lighter -= sum(weight(one, site) < own for one in gone)
                new._before[site] = (own, lighter)
        return new


def differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> dict[str, str | None]:
    """Return what another machine wants otherwise than we do; None: not at all. Most machines share
    one table."""
    if theirs is ours or theirs == ours:
        return {}
    return {
        name: theirs.get(name)
        for name in ours.keys() | theirs.keys()
        if theirs.get(name) != ours.get(name)
    }


def _contested(several: Iterable[Mapping[str, str]]) -> set[str]:
    """Name the certificates that are wanted to be different."""
    tables = list({id(one): one for one in several}.values())
    return set().union(*(differences(tables[0], one) for one in tables[1:]))


def no_peers() -> Peers:
    """Return the peers of a machine alone."""
    return Peers()
