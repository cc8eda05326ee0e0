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
from collections.abc import Mapping
from dataclasses import field

from ..late_dataclass import dataclass
from ..text import spell
from .ranks import places

# A clock that is further from the middle of the members' clocks than this orders nothing: the
# limits of CAs are counted in moments.
CLOCK_APART = 60.0


@dataclass(frozen=True, slots=True)
class Member:
    """A machine that lives. ``wishes``: by the name of each certificate that it wants, a hash of
    what it is to be (`wishes.of`). ``clock``: seconds by which its clock is ahead of ours."""

    orders: bool = True
    wishes: Mapping[str, str] = field(default_factory=dict)
    clock: float = 0.0


Members = Mapping[str, Member]


class Peers:
    """``node``: this machine's name; "" where it is alone."""

    def __init__(self, node: str = "", *, orders: bool = True) -> None:
        self.node = node
        self._orders = orders
        self._members: Members = {node: Member(orders)}
        self._away = bool(node)
        self._known = not node  # whether `told` has been called
        self._places: dict[tuple[str, int], list[str]] = {}
        self._offset = 0.0
        self._differ = False  # whether two members differ in what they want

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
        self._places = {}
        self._members, self._away, self._known = dict(members), away, True
        self._places = {}  # what was worked out in between may be of the members before
        wishes = [one.wishes for one in members.values()]
        self._differ = any(one != wishes[0] for one in wishes[1:])
        clocks = [one.clock for one in members.values()]
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
        return max(sum(one.orders for one in self._members.values()), 1)

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
        known, members = self._places, self._members  # another thread may replace both
        # Both certificates of a site have one order: there is one answer to TLS-ALPN-01 for a name.
        site = name.partition("/")[0]
        found = known.get((site, turn))
        if found is None:
            ordering = [node for node, one in members.items() if one.orders]
            found = known[site, turn] = places(site, {*ordering, self.node}, turn)
        if made_for and self._differ and any(self._wish(node, name) != made_for for node in found):
            found = sorted(found, key=lambda node: self._wish(node, name) != made_for)
        return found.index(self.node)

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


def no_peers() -> Peers:
    """Return the peers of a machine alone."""
    return Peers()
