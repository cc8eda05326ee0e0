"""The machines of the cluster: which are there, and the challenges that each answers for others.

A thread of its own, because a CA that comes for a challenge cannot wait until thousands of
certificates have been moved.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from ..certificates.peers import Member, differences
from ..challenges.document import FOLDER as CHALLENGES
from ..link import Link
from ..status import MemberStatus
from ..storage.etcd.store import EtcdStore
from ..storage.store import Changes, Unreadable
from ..text import timestamp
from .challenges import Answered, ClusterLink, Told
from .echo import Echo
from .faults import Faults
from .members import MEMBERS, WRITTEN_EVERY, Clocks, Said, WishBook, Wishes, read
from .settings import ClusterSettings

log = logging.getLogger("treehouse.certifier")

PART = "challenges and members"

_TELL_EVERY = 5.0
PAUSES = (0.5, 1.0, 2.0, 5.0)
# More machines than any cluster has: what else lies in that folder is not looked at.
_MOST = 1000


class Company:
    """``orders``: whether this machine orders certificates; ``behind``: how many it has not taken
    yet; ``met`` is called when machines have come or gone, want something else, or cannot be heard
    of, and ``told`` when there may be something new to tell, both by the thread."""

    def __init__(
        self,
        settings: ClusterSettings,
        shared: EtcdStore,
        link: Link,
        faults: Faults,
        wishes: Wishes,
        orders: Callable[[], bool],
        behind: Callable[[], int],
        thumbprint: Callable[[], str],
        told: Callable[[], object],
        met: Callable[[], object],
        now: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._shared = shared
        self._faults = faults
        self._orders = orders
        self._behind = behind
        self._thumbprint = thumbprint
        self.thumbprint = ""
        """Of the account's key, as told by a machine that orders; "" while none has told it."""
        self._tell = told
        self._met = met
        self._now = now
        self._since = timestamp(now())
        self._closing = threading.Event()
        self._news = threading.Event()
        self._by_node: dict[str, MemberStatus] = {}
        self._members: dict[str, Member] = {}
        self._seen = 0
        self._put: Said | None = None
        self._said: Callable[[], Mapping[str, bytes | Unreadable]] = dict
        self._echo = Echo()
        self._wishes = WishBook(shared, settings.node, wishes)
        self._clocks = Clocks()
        self._answered = Answered(link, now)
        self._told = Told(shared, self._not_at, lambda: not faults.text, self._news.set)
        self.link: Link = ClusterLink(link, self._told)

    def start(self) -> None:
        threading.Thread(target=self._keep, name="cluster-members", daemon=True).start()

    def stir(self) -> None:
        """Have what this machine says of itself told anew; any thread may."""
        self._news.set()

    def prove(self) -> None:
        """Find out whether the engine takes what is written; any thread may."""
        self._put = None
        self._news.set()

    def close(self) -> None:
        self._closing.set()
        self._news.set()

    def members(self) -> list[MemberStatus]:
        found = self._by_node
        return [found[one] for one in sorted(found)]

    def unheard(self) -> int:
        """Return by how many of the engine's revisions this machine does not hear of it."""
        return self._echo.behind(self._shared.heard(MEMBERS), time.monotonic())

    def peers(self) -> dict[str, Member]:
        """Return the machines that are there, this one among them; none while that is not known."""
        return self._members

    # In the thread

    def _keep(self) -> None:
        challenges: Changes | None = None
        members: Changes | None = None
        failures = 0
        look_at = 0.0
        while not self._closing.is_set():
            try:
                if challenges is None or members is None:
                    challenges = self._shared.watch(CHALLENGES, self._news.set)
                    members, self._said = self._shared.follow(MEMBERS, self._news.set)
                due = time.monotonic() >= look_at
                if challenges() or due:
                    self._answer(again=due)
                self._introduce(again=due)
                if members() or due:
                    self._meet()
                while self._told.over:
                    token = self._told.over.pop()
                    self._shared.delete(CHALLENGES, token)
                    self._told.ours.discard(token)
                if due:
                    look_at = time.monotonic() + WRITTEN_EVERY
                failures = 0
                if self._faults.ended(PART):
                    self._met()
            except OSError as error:
                failures += 1
                self._faults.begun(PART, error)
                if failures == 1:
                    self._met()
                look_at = 0.0
            except Exception:  # the thread must live, or no challenge is answered for others
                failures += 1
                log.exception("a fault in the certifier itself")
            self._tell()
            if failures:
                self._closing.wait(PAUSES[min(failures, len(PAUSES)) - 1])
            else:
                self._news.wait(_TELL_EVERY)
                self._news.clear()

    def _answer(self, *, again: bool) -> None:
        """Answer the challenges that are there. How far this machine is gets told when there are
        any: for one that is over nobody waits."""
        found, revision = self._shared.load_alone(CHALLENGES)
        ours = self._told.ours
        others = {token: one for token, one in found.items() if token not in ours}
        self._answered.follow(others)
        if others or again:
            self._seen = revision

    def _introduce(self, *, again: bool) -> None:
        """Write this machine's document among the members: its role, how far it has come, and
        what it wants."""
        session = self._shared.session()
        self._wishes.tell(session)
        said = Said(
            node=self._settings.node,
            program=self._settings.version,
            since=self._since,
            orders=self._orders(),
            seen=self._seen,
            behind=self._behind(),
            session=session,
            thumbprint=self._thumbprint(),
            wishes=self._wishes.digest,
        )
        if said != self._put or again:
            data = replace(said, clock=self._now()).document()
            self._echo.written = self._shared.put_while_here(MEMBERS, self._settings.node, data)
            self._put = said

    def _meet(self) -> None:
        found = self._said()
        node, now = self._settings.node, self._now()
        statuses: dict[str, MemberStatus] = {}
        members: dict[str, Member] = {}
        digests: set[str] = set()
        for name, data in list(found.items())[:_MOST]:
            if isinstance(data, OSError):
                continue
            said = read(name, data)
            wishes = self._wishes.of(said)
            ahead = 0.0 if name == node else self._clocks.hear(name, said.clock, now)
            digests.add(said.wishes)
            self.thumbprint = said.thumbprint or self.thumbprint
            members[name] = Member(said.orders, wishes, ahead)
            statuses[name] = {
                "node": name,
                "version": said.program,
                "since": said.since,
                "orders": said.orders,
                "seen": said.seen,
                "behind": said.behind,
                "clock": round(ahead),
                "differs": len(differences(self._wishes.ours, wishes)),
            }
        self._wishes.keep_only(digests)
        self._clocks.keep_only(set(members))
        if node not in members and self._shared.heard(MEMBERS) >= self._echo.written:
            # The process before this one has taken it away at its end.
            self._put = None
            self._news.set()
        with self._told.changed:
            self._by_node, self._members = statuses, members
            self._told.changed.notify_all()
        self._met()

    def _not_at(self, revision: int) -> list[str]:
        """Name the other members that have not come to a revision."""
        return [
            one["node"]
            for one in self._by_node.values()
            if one["node"] != self._settings.node and one["seen"] < revision
        ]
