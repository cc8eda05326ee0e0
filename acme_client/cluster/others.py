"""The other machines, as this one knows them: told to the scheduler (`certificates.peers`) when
something about them is new, and noted on the local disk.

The note is for a start without the engine: a machine that orders alone has to know its place among
the others. While the engine cannot be asked, they are whom it has named last.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..certificates.peers import Member, Peers
from ..storage.store import Store
from . import recollection
from .members import Wishes
from .settings import ClusterSettings
from .unheard import Unheard

# Clocks that have come or gone apart by less than this are no news.
_CLOCK_NEWS = 5.0


class Met(NamedTuple):
    """The result of a look at the members. ``found``: the machines that are there, this machine
    among them, or none; ``thumbprint``: of their account's key, "" while none has told it;
    ``away``: whether the engine cannot be asked."""

    found: Mapping[str, Member]
    thumbprint: str
    away: bool


class Others:
    """``wishes``: of this machine; ``unheard`` answers by the thumbprint that the others tell;
    ``turned`` is called when there is something new, with whether they were away, and whether they
    are. Any thread may call."""

    def __init__(
        self,
        settings: ClusterSettings,
        local: Store,
        wishes: Wishes,
        peers: Peers,
        unheard: Unheard,
        turned: Callable[[bool, bool], object],
    ) -> None:
        self._settings = settings
        self._local = local
        self._wishes = wishes
        self._peers = peers
        self._unheard = unheard
        self._turned = turned
        self._lock = threading.Lock()
        self._members: Mapping[str, Member] = {}
        self._told_away: bool | None = None

    def recall(self) -> None:
        """Begin with what is noted, until the others can be heard; nobody was away for that."""
        self._members = recollection.recall(self._local, self._settings, self._wishes)
        if self._members:
            self._peers.told(self._members, away=True)

    def see(self, look: Callable[[], Met]) -> None:
        """Take what ``look`` returns, if it is new."""
        with self._lock:
            found, thumbprint, away = look()
            members = found if self._settings.node in found else self._members
            if not members:
                return
            others, rest = _news(self._members, members)
            if others or thumbprint not in ("", self._unheard.told):
                self._unheard.told = thumbprint or self._unheard.told
                recollection.remember(
                    self._local, self._settings, members, self._wishes, self._unheard.told
                )
            if others or rest or away != self._told_away:
                was_away = self._peers.away
                self._members, self._told_away = members, away
                self._peers.told(members, away=away)
                self._turned(was_away, away)


def _news(before: Mapping[str, Member], now: Mapping[str, Member]) -> tuple[bool, bool]:
    """Whether machines have come or gone, order or want something else than before; and whether a
    clock is another one."""
    if before.keys() != now.keys():
        return True, True
    pairs = [(before[node], now[node]) for node in now]
    others = any(
        one.orders != other.orders
        or (one.wishes is not other.wishes and one.wishes != other.wishes)
        for one, other in pairs
    )
    return others, any(_is_another(one.clock, other.clock) for one, other in pairs)


def _is_another(before: float | None, now: float | None) -> bool:
    if before is None or now is None:
        return before is not now
    return abs(before - now) > _CLOCK_NEWS
