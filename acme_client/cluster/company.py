"""The machines of the cluster: which are there, and the challenges that each answers for others.

A thread of its own, because a CA that comes for a challenge cannot wait until thousands of
certificates have been moved.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ..certificates.peers import Member, differences
from ..challenges.document import FOLDER as CHALLENGES
from ..challenges.holders import Holders
from ..link import Link
from ..status import MemberStatus
from ..storage.etcd.passage import steady_time
from ..storage.etcd.store import EtcdStore, Followed
from ..storage.store import Changes
from ..text import timestamp
from .challenges import Answered, ClusterLink, Told
from .clocks import Clocks, answering
from .echo import Echo
from .faults import Faults
from .members import MEMBERS, Said, WishBook, Wishes, read, written_every
from .namesake import Namesake
from .settings import ClusterSettings

log = logging.getLogger("treehouse.certifier")

PART = "challenges and members"

_TELL_EVERY = 5.0
# The thread looks at the engine this often, whether or not the engine has told of a change.
_LOOK_EVERY = 30.0
# Where many machines start together, each hears the clocks of those that start later.
_HEARS_WITHIN = 5.0
# A machine that has not taken certificates for so many seconds says so.
_BEHIND_FOR = 10.0
PAUSES = (0.5, 1.0, 2.0, 5.0)
# More machines than any cluster has: what else lies in that folder is not looked at.
_MOST = 1000
# Certificates that a machine wants otherwise, by name in the status.
_NAMED = 5


class Company:
    """``machine``: this one's `identity`; ``orders``: whether it orders certificates; ``behind``:
    how many it has not taken yet; ``met`` is called when machines have come or gone, want something
    else, or cannot be heard of, and ``told`` when there may be something new to tell, both by the
    thread. ``steady`` gives the seconds of a clock that nobody sets."""

    def __init__(
        self,
        settings: ClusterSettings,
        machine: str,
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
        steady: Callable[[], float] = steady_time,
    ) -> None:
        self._settings = settings
        self._shared = shared
        self._faults = faults
        self._orders = orders
        self._behind = behind
        self._thumbprint = thumbprint
        self.hears = False
        """Whether this machine answers all challenges that there are, and hears of more."""
        self.thumbprint = ""
        """The thumbprint of the account's key that a machine which orders has told; "" while none
        has."""
        self._tell = told
        self._met = met
        self._now = now
        self._steady = steady
        self._since = timestamp(now())
        self._closing = threading.Event()
        self._news = threading.Event()
        self._by_node: dict[str, MemberStatus] = {}
        self._members: dict[str, Member] = {}
        self._seen = 0
        self._looked = 0  # the revision at which challenges were looked at last
        self._put: Said | None = None
        self._put_again_at = 0.0
        self._behind_since = 0.0  # until then, as many certificates were behind as was said
        self._asks = 0
        self._may_ask_at = steady() + _HEARS_WITHIN
        self._asked: dict[str, tuple[str, int]] = {}  # how often the others have, in which session
        self._said: Callable[[], Mapping[str, Followed]] = dict
        self._echo = Echo()
        self._machine = machine
        self._namesake = Namesake(settings.node, machine)
        self._own = "", 0  # our document: the session and the revision in which it was written
        self._wishes = WishBook(shared, settings.node, wishes)
        self._clocks = Clocks()
        holders = Holders()
        self._answered = Answered(link, now, holders)
        self._told = Told(shared, self._not_at, lambda: not faults.text, self._news.set)
        self.link: Link = ClusterLink(link, self._told, holders)

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

    @property
    def namesake(self) -> str:
        """The sentence about another machine that has this machine's name; "" where none has."""
        return self._namesake.text

    @property
    def is_second(self) -> bool:
        """Whether another machine that has this machine's name was there first."""
        return self._namesake.was_first

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
                    self._answer()
                was_set = self._ask_for_clocks()
                self._introduce()
                if not self.hears:
                    # A machine that told a challenge before this one was a member has not waited
                    # for this one to answer it.
                    self._answer()
                    self.hears = due = True
                    self._news.set()  # to say that they are answered
                if members() or due or was_set:
                    self._meet()
                if self._told.delete():
                    self._answer()
                    self._news.set()  # to say that it is answered
                if due:
                    self._echo.written = self._shared.written_last(MEMBERS)
                    look_at = time.monotonic() + _LOOK_EVERY
                failures = 0
                if self._faults.ended(PART):
                    self._met()
            except OSError as error:
                failures += 1
                self.hears = False
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

    def _answer(self) -> None:
        """Answer the challenges that are there. How far this machine is gets told when there are
        any: for one that is over nobody waits."""
        found, self._looked = self._shared.load_alone(CHALLENGES)
        ours = self._told.ours
        others = {token: one for token, one in found.items() if token not in ours}
        self._answered.follow(others)
        if others:
            self._seen = self._looked

    def _ask_for_clocks(self) -> bool:
        """Ask the others for their clocks, if these are not known; returns whether our own was
        set."""
        steady = self._steady()
        was_set = self._clocks.was_set(self._now(), steady)
        if was_set or (steady >= self._may_ask_at and self._clocks.are_wanted()):
            self._asks += 1
            self._may_ask_at = steady + _LOOK_EVERY
        return was_set

    def _introduce(self) -> None:
        """Write this machine's document among the members, if it says something new or is due: its
        role, how far it has come, what it wants, and its clock. Where another machine of its name
        is there, it is not written: the others would take the two for one machine."""
        session = self._shared.session()
        if self._own[0] != session and self._is_taken(session):
            return
        self._wishes.tell(session)
        behind = self._behind()
        said = Said(
            node=self._settings.node,
            program=self._settings.version,
            since=self._since,
            orders=self._orders(),
            seen=self._seen,
            behind=self._behind_to_tell(behind),
            session=session,
            thumbprint=self._thumbprint(),
            wishes=self._wishes.digest,
            asks=self._asks,
            machine=self._machine,
        )
        if said != self._put or self._steady() >= self._put_again_at:
            every = written_every(len(self._said()))
            said = replace(said, behind=behind)
            data = replace(said, clock=self._now(), seen=self._looked, every=every).document()
            self._put_again_at = self._steady() + every
            self._echo.written = self._shared.put_while_here(MEMBERS, self._settings.node, data)
            self._own = session, self._echo.written
            self._put = said

    def _is_taken(self, session: str) -> bool:
        """Whether this machine's name is that of another machine that is there."""
        found = self._said().get(self._settings.node)
        said = None
        if found is not None and not isinstance(found.data, OSError):
            said = read(self._settings.node, found.data)
        if self._namesake.look(said.machine if said else "", said.session if said else "", session):
            log.warning("cluster %s: %s", self._settings.name, self._namesake.text)
        return self._namesake.was_first

    def _behind_to_tell(self, behind: int) -> int:
        """Return how many certificates are to be said to be behind: as many as were said last,
        unless that is no longer so for a while. With each renewal all machines are behind for a
        moment, and if each told that, all others would hear it from all."""
        if self._put is None or behind == self._put.behind:
            self._behind_since = self._steady()
            return behind
        is_news = self._steady() >= self._behind_since + _BEHIND_FOR
        return behind if is_news else self._put.behind

    def _meet(self) -> None:
        found = self._said()
        node, wall, steady = self._settings.node, self._now(), self._steady()
        statuses: dict[str, MemberStatus] = {}
        members: dict[str, Member] = {}
        several = {
            name: (read(name, one.data), one.revision)
            for name, one in list(found.items())[:_MOST]
            if not isinstance(one.data, OSError)
        }
        asking = [one for one, at in several.values() if self._hear(one, at, several)]
        if asking:
            self._put = None
            self._news.set()
        if node in several and not self._namesake.was_first:
            self._hear_own(*several[node])
        self._clocks.keep_only(set(several))
        self._asked = {name: asked for name, asked in self._asked.items() if name in several}
        for name, (said, _revision) in several.items():
            wishes = self._wishes.of(said)
            ahead = self._clocks.ahead(name, wall, steady)
            counts = name == node or self._clocks.counts(name)
            other = differences(self._wishes.ours, wishes)
            self.thumbprint = said.thumbprint or self.thumbprint
            members[name] = Member(said.orders, wishes, ahead if counts else None)
            statuses[name] = {
                "node": name,
                "version": said.program,
                "since": said.since,
                "orders": said.orders,
                "seen": said.seen,
                "behind": said.behind,
                "clock": round(ahead),
                "differs": len(other),
                "otherwise": sorted(other)[:_NAMED],
            }
        self._wishes.keep_only({said.wishes for said, _revision in several.values()})
        if node not in members and self._shared.heard(MEMBERS) >= self._echo.written:
            # The process before this one has taken it away at its end.
            self._put = None
            self._news.set()
        with self._told.changed:
            self._by_node, self._members = statuses, members
            self._told.changed.notify_all()
        self._met()

    def _hear(self, said: Said, revision: int, nodes: Iterable[str]) -> bool:
        """Hear what a machine's clock is; returns whether it has asked just now what ours is."""
        node = self._settings.node
        if said.node == node or self._clocks.has_heard(said.node, revision):
            return False
        age = self._shared.age(revision)
        is_new = self._clocks.hear(said.node, said.clock, revision, age, said.every, self._steady())
        before = self._asked.get(said.node)
        asked = self._asked[said.node] = said.session, said.asks
        has_asked = is_new and asked != before and said.asks > 0
        return has_asked and node in answering(said.node, said.asks, nodes)

    def _hear_own(self, said: Said, revision: int) -> None:
        """Find out whether another machine writes under this one's name."""
        known = said.session, revision, said.every
        if self._namesake.hear(*known, *self._own, self._steady(), said.machine):
            log.warning("cluster %s: %s", self._settings.name, self._namesake.text)

    def _not_at(self, revision: int) -> list[str]:
        """Name the other members that have not come to a revision."""
        return [
            one["node"]
            for one in self._by_node.values()
            if one["node"] != self._settings.node and one["seen"] < revision
        ]
