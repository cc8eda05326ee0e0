"""By how much the clocks of the other machines are ahead of ours.

A machine says what its clock is when it writes of itself, and that is seldom: the more machines
there are, the more seldom each writes, because all others hear of it. So a document is judged by
how old it can be. Of one that was written within seconds it is known how the clocks stand; any
other bounds it, because its writer promised to write again by then.

What was heard stays true for as long as the clocks run alike. What is kept is the other clock's
distance from our steady clock, which nobody sets; so when our own wall clock is set, the distance
from the others is known at once. After that, or at a start, a machine asks, and a few of the others
say what their clocks are.

Pure: each moment is a parameter. ``wall``: Unix seconds by our clock; ``steady``: `steady_time`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..certificates.ranks import places

# A document that is at most so many seconds old tells its writer's clock.
_JUST = 10.0
# A document comes here at most so many seconds after its writer had to write it.
_HEARD_WITHIN = 5.0
# A busy machine may hear of a document so many seconds late: that casts no doubt on a clock.
_LATE = 60.0
# So many clocks that are known make a middle: of one or two, the wrong one could be all there is.
_ENOUGH = 3
# So many machines are asked at a time: one may be on its way out, and two may be wrong.
_ASKED = 5
# Our own clock was set if it has moved by so many seconds.
_SET = 2.0


class _Distance(NamedTuple):
    """Between which bounds another clock is ahead of our steady clock. ``is_known``: they are as
    close as they can be."""

    revision: int
    least: float
    most: float
    is_known: bool

    def confirmed(self, least: float, most: float) -> bool:
        """Whether the clock is known, and can be what it was by what was heard now."""
        return self.is_known and least <= self.least <= most


class Clocks:
    """Keeps the clocks of the other machines, and notices when this machine's own was set."""

    def __init__(self) -> None:
        self._distances: dict[str, _Distance] = {}
        self._own: float | None = None

    def has_heard(self, node: str, revision: int) -> bool:
        """Whether what the machine wrote at this revision has been looked at."""
        one = self._distances.get(node)
        return one is not None and one.revision == revision

    def hear(
        self,
        node: str,
        written: float | None,
        revision: int,
        age: float | None,
        every: float,
        steady: float,
    ) -> bool:
        """Look at a document that a machine wrote at this revision, when its clock was at
        ``written``. ``age``: at most so many seconds ago, None: unknown; ``every``: its writer
        writes anew after so many. Returns whether it was written just now."""
        most = every + _HEARD_WITHIN if age is None else min(age, every + _HEARD_WITHIN)
        is_new = age is not None and age <= _JUST
        if written is None:
            self._distances.pop(node, None)
            return is_new
        least = written - steady
        before = self._distances.get(node)
        if is_new:
            self._distances[node] = _Distance(revision, least, least, True)
        elif before is not None and most <= _LATE and before.confirmed(least, least + most):
            self._distances[node] = before._replace(revision=revision)
        else:
            self._distances[node] = _Distance(revision, least, least + most, False)
        return is_new

    def keep_only(self, nodes: set[str]) -> None:
        for node in self._distances.keys() - nodes:
            del self._distances[node]

    def ahead(self, node: str, wall: float, steady: float) -> float:
        """Return the seconds by which a machine's clock is ahead of ours, at least: 0.0 where it
        may be right, or has not been told."""
        one = self._distances.get(node)
        if one is None:
            return 0.0
        own = wall - steady
        return max(one.least - own, 0.0) or min(one.most - own, 0.0)

    def counts(self, node: str) -> bool:
        """Whether a machine's clock is to be counted for the middle of all. While few are known,
        all are."""
        one = self._distances.get(node)
        return self.are_wanted() or (one is not None and one.is_known)

    def are_wanted(self) -> bool:
        """Whether fewer clocks are known than are enough."""
        known = sum(one.is_known for one in self._distances.values())
        return known < min(_ENOUGH, len(self._distances))

    def was_set(self, wall: float, steady: float) -> bool:
        """Whether our own clock has been set since the last call. Then no clock is known any more:
        it may be that this whole machine stood still, and that its clock is right now."""
        before, self._own = self._own, wall - steady
        if before is None:
            return False
        if abs(self._own - before) <= _SET:
            self._own = before  # a clock that runs away slowly is noticed as well
            return False
        self._distances = {
            node: one._replace(is_known=False) for node, one in self._distances.items()
        }
        return True


def answering(asker: str, asks: int, nodes: Iterable[str]) -> list[str]:
    """Name the machines that tell their clocks where one of these ``nodes`` asks for them: others
    with each time that it asks."""
    return places(asker, set(nodes) - {asker}, (asks - 1) * _ASKED)[:_ASKED]
