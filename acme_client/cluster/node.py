"""This machine in its cluster: who orders, which machines are there, and what they have to be told.

One machine orders certificates. It claims that in the engine, and the claim stays its own until a
person gives it back: so nothing has to be decided when the engine or a machine is away. What the
engine was seen to say last is on the local disk too: the machine that orders goes on ordering
without the engine, and no other begins.

Nothing here is in a request's way, and nothing runs in the thread whose silence is taken for a
hang: one thread moves certificates, another one is for members and challenges, which cannot wait
for thousands of certificates. Every fault of the engine ends in a pause and another try; what is
served goes on being served.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from ..link import Link
from ..status import ClusterStatus, MemberStatus
from ..storage import documents
from ..storage.etcd.sealing import SecretFault
from ..storage.etcd.store import EtcdStore
from ..storage.store import Changes, Fenced, Lock, Store
from ..text import timestamp
from .challenges import FOLDER as CHALLENGES
from .challenges import Answered, ClusterLink, Told
from .replica import FOLDER as CERTIFICATES
from .replica import Replica
from .settings import ClusterSettings

log = logging.getLogger("treehouse.certifier")

# What is claimed, and the folder of what is known of the cluster, here and in the engine.
ORDERER = "cluster/orderer"
FORMAT = "cluster/format"
MEMBERS = "members"
KNOWN, _KNOWN_FILE = "cluster", "cluster.json"
VERSION = 1

# Everything is looked at this often, whether or not the engine has told of a change.
_LOOK_EVERY = 30.0
_TELL_EVERY = 5.0
_PAUSES = (0.5, 1.0, 2.0, 5.0)
# A node that orders waits for so long to learn what the engine has, before it orders anything.
_LEARNS_WITHIN = 20.0


class Node:
    """``wanted``: the names that each certificate is wanted for, by its name; ``tell`` takes the
    status whenever it has changed, and is called by any thread."""

    def __init__(
        self,
        settings: ClusterSettings,
        local: Store,
        link: Link,
        wanted: Mapping[str, tuple[str, ...]],
        tell: Callable[[ClusterStatus], object],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._local = local
        self._tell_status = tell
        self._now = now
        self._begun = time.monotonic()
        self._since = timestamp(now())
        self._closing = threading.Event()
        self._told: ClusterStatus | None = None
        self._look: Callable[[], object] = lambda: None
        self._fault = settings.fault
        self._shared: EtcdStore | None = None
        if not self._fault:
            try:
                self._shared = settings.store()
            except SecretFault as why:
                self._fault = f"cluster.secret_file: {why}"
        self._known_orderer = self._recalled()
        self._claim: Lock | None = None
        self._learnt = threading.Event()  # what the engine has, or that it cannot be asked
        # Of the thread that moves certificates.
        self._stir = threading.Event()
        self._lock = threading.Lock()
        self._to_offer: set[str] = set()
        self._to_take: set[str] = set()
        # Of the one for members and challenges.
        self._news = threading.Event()
        self._members: dict[str, MemberStatus] = {}
        self._seen = 0
        self._put: object = None
        self._replica: Replica | None = None
        self._link: Link = link
        if self._shared is not None:
            self._replica = Replica(self._shared, local, wanted, now)
            self._answered = Answered(link, now)
            self._told_others = Told(
                self._shared, self._not_at, lambda: not self._fault, self._news.set
            )
            self._link = ClusterLink(link, self._told_others, self.orders)

    # For the agent

    @property
    def link(self) -> Link:
        """The link by which challenges are answered on every machine."""
        return self._link

    def start(self, look: Callable[[], object]) -> None:
        """Begin. ``look``: have the local store looked at; called by any thread."""
        self._look = look
        if self._shared is None:
            log.error("cluster %s: %s; what is on the disk is served", self._name, self._fault)
            self._learnt.set()
            self._tell()
            return
        for work, name in (
            (self._move_certificates, "cluster-certificates"),
            (self._keep_company, "cluster-members"),
        ):
            threading.Thread(target=work, name=name, daemon=True).start()

    def orders(self) -> bool:
        return not self.refusal()

    def refusal(self) -> str:
        """Say why this node orders no certificates; empty where it does."""
        if not self._settings.order:
            who = self._known_orderer or "another machine of the cluster"
            return f"this node orders no certificates (cluster.order: false); {who} does"
        if self._known_orderer is None:
            return "the cluster has not been reached yet, and may have certificates already"
        if self._known_orderer != self._settings.node:
            return (
                f"{self._known_orderer} orders the certificates of this cluster; "
                "to have this node do it: treehouse-proxy cluster join --take-over"
            )
        if not self._learnt.is_set() and time.monotonic() < self._begun + _LEARNS_WITHIN:
            return "what the cluster has is being read"
        return ""

    def changed(self, names: Iterable[str]) -> None:
        """Certificates on the local disk may have changed; called by any thread."""
        with self._lock:
            self._to_offer.update(names)
        self._stir.set()

    def close(self) -> None:
        self._closing.set()
        self._stir.set()
        self._news.set()
        if self._shared is not None:
            self._shared.close()

    # Certificates

    def _move_certificates(self) -> None:
        shared, replica = self._of_the_engine()
        changes: Changes | None = None
        failures = 0
        while not self._closing.is_set():
            try:
                if changes is None:
                    changes = shared.watch(CERTIFICATES, self._stir.set)
                    shared.watch_claims(self._stir.set)
                    self._begin(shared, replica)
                else:
                    with self._lock:
                        self._to_take |= changes()
                    self._confirm(shared)
                    self._move(replica)
                failures = 0
                self._reached()
            except Fenced:
                log.error(
                    "cluster %s: another machine has been made the one that orders", self._name
                )
                self._claim = None
            except OSError as error:
                failures += 1
                self._missed(error)
            except Exception:
                failures += 1
                log.exception("a fault in the certifier itself")
            if failures:
                self._closing.wait(_PAUSES[min(failures, len(_PAUSES)) - 1])
            else:
                self._stir.wait(_LOOK_EVERY)
                self._stir.clear()

    def _begin(self, shared: EtcdStore, replica: Replica) -> None:
        """Learn what the engine has; then it is known who orders, and from when on."""
        self._demand_format(shared)
        self._confirm(shared)
        if replica.take_all(orders=self._claim is not None):
            self._look()
        self._learnt.set()
        log.info(
            "cluster %s: reached; this node is %s, and %s orders certificates",
            self._name,
            self._settings.node,
            "it" if self._claim is not None else self._known_orderer or "nobody",
        )
        self._look()
        with self._lock:
            self._to_offer.update(replica.wanted)
        self._move(replica)

    def _demand_format(self, shared: EtcdStore) -> None:
        data = shared.load(FORMAT).get("format.json", b"")
        later = documents.newer(data, VERSION) if data else None
        if later is not None:
            raise OSError(
                f"the cluster is used by a newer version of this program (format {later}); "
                "this one takes nothing and gives nothing"
            )
        if not data and self._settings.order:
            shared.store(FORMAT, {"format.json": documents.write({}, VERSION)})

    def _confirm(self, shared: EtcdStore) -> None:
        """See who orders; claim it where nobody does and this node is to."""
        claim: Lock | None = None
        orderer: str | None
        if self._settings.order:
            claim, orderer = shared.claim(ORDERER, self._settings.node)
        else:
            orderer = shared.owner(ORDERER)
            if orderer == self._settings.node:  # from when it was to order: it gives that back
                shared.disown(ORDERER)
                orderer = None
        self._claim = claim
        if orderer != self._known_orderer:
            if self._settings.order and claim is None:
                log.warning(
                    "cluster %s: %s orders certificates; this node, which has order: true as well, "
                    "takes them",
                    self._name,
                    orderer,
                )
            self._known_orderer = orderer
            self._recall(orderer)
            self._look()

    def _move(self, replica: Replica) -> None:
        with self._lock:
            to_take, self._to_take = self._to_take, set()
            to_offer, self._to_offer = self._to_offer, set()
        taken = False
        claim = self._claim
        try:
            while to_take and claim is None and not self._closing.is_set():
                taken |= replica.take(next(iter(to_take)), orders=False)
                to_take.pop()
            while to_take and claim is not None and not self._closing.is_set():
                name = replica.differs(next(iter(to_take)))
                to_take.pop()
                if name is not None:
                    to_offer.add(name)
            while to_offer and claim is not None and not self._closing.is_set():
                replica.offer(next(iter(to_offer)), claim)
                to_offer.pop()
        finally:
            with self._lock:
                self._to_take |= to_take
                if claim is not None:
                    self._to_offer |= to_offer
            if taken:
                self._look()
                self._news.set()

    # Members and challenges

    def _keep_company(self) -> None:
        shared, _replica = self._of_the_engine()
        challenges: Changes | None = None
        members: Changes | None = None
        failures = 0
        look_at = 0.0
        while not self._closing.is_set():
            try:
                if challenges is None:
                    challenges = shared.watch(CHALLENGES, self._news.set)
                    members = shared.watch(MEMBERS, self._news.set)
                due = time.monotonic() >= look_at
                if challenges() or due:
                    self._answer(shared)
                self._introduce(shared, again=due)
                if members is not None and (members() or due):
                    self._meet(shared)
                while self._told_others.over:
                    shared.delete(CHALLENGES, self._told_others.over.pop())
                if due:
                    look_at = time.monotonic() + _LOOK_EVERY
                failures = 0
                self._reached()
            except OSError as error:
                failures += 1
                self._missed(error)
                look_at = 0.0
            except Exception:
                failures += 1
                log.exception("a fault in the certifier itself")
            self._tell()
            if failures:
                self._closing.wait(_PAUSES[min(failures, len(_PAUSES)) - 1])
            else:
                self._news.wait(_TELL_EVERY)
                self._news.clear()

    def _answer(self, shared: EtcdStore) -> None:
        found, revision = shared.load_alone(CHALLENGES)
        if not self.orders():
            self._answered.follow(found)
        self._seen = revision

    def _introduce(self, shared: EtcdStore, *, again: bool) -> None:
        """Say that this machine is there, and how far it is."""
        said = {
            "node": self._settings.node,
            "program": self._settings.version,
            "since": self._since,
            "orders": self.orders(),
            "seen": self._seen,
            "behind": len(self._to_take),
            "session": shared.session(),
        }
        if said != self._put or again:
            data = documents.write(said, VERSION)
            shared.put_while_here(MEMBERS, self._settings.node, data)
            self._put = said

    def _meet(self, shared: EtcdStore) -> None:
        found, _revision = shared.load_alone(MEMBERS)
        members: dict[str, MemberStatus] = {}
        for node, data in found.items():
            if not isinstance(data, OSError):
                said = documents.read(data, VERSION)
                members[node] = {
                    "node": node,
                    "version": str(said.get("program", "")),
                    "since": str(said["since"]) if said.get("since") else None,
                    "orders": said.get("orders") is True,
                    "seen": _whole(said.get("seen")),
                    "behind": _whole(said.get("behind")),
                }
        with self._told_others.changed:
            self._members = members
            self._told_others.changed.notify_all()

    def _not_at(self, revision: int) -> list[str]:
        """Name the other members that have not come to a revision."""
        return [
            one["node"]
            for one in self._members.values()
            if one["node"] != self._settings.node and one["seen"] < revision
        ]

    # Others

    @property
    def _name(self) -> str:
        return self._settings.name

    def _of_the_engine(self) -> tuple[EtcdStore, Replica]:
        if self._shared is None or self._replica is None:
            raise ValueError("there is no engine to ask")
        return self._shared, self._replica

    def _reached(self) -> None:
        if self._fault:
            log.info("cluster %s: the engine can be asked again", self._name)
            self._fault = ""
            self._look()

    def _missed(self, error: OSError) -> None:
        words = error.strerror or str(error)
        if not self._fault:
            log.warning(
                "cluster %s: the engine cannot be asked, what is on the disk is served: %s",
                self._name,
                words,
            )
        self._fault = words
        if not self._learnt.is_set():
            self._learnt.set()
            self._look()

    def _recalled(self) -> str | None:
        """Who ordered, when the engine was asked last."""
        try:
            data = self._local.load(KNOWN).get(_KNOWN_FILE, b"")
        except OSError:
            return None
        known = documents.read(data, VERSION)
        orderer = known.get("orderer")
        same = known.get("cluster") == self._name and known.get("node") == self._settings.node
        return orderer if same and isinstance(orderer, str) else None

    def _recall(self, orderer: str | None) -> None:
        document = {"cluster": self._name, "node": self._settings.node, "orderer": orderer}
        try:
            self._local.store(KNOWN, {_KNOWN_FILE: documents.write(document, VERSION)})
        except OSError as error:
            log.warning("who orders cannot be written down: %s", error.strerror or error)

    def _tell(self) -> None:
        status: ClusterStatus = {
            "name": self._name,
            "node": self._settings.node,
            "orders": self.orders(),
            "orderer": self._known_orderer,
            "connected": not self._fault,
            "fault": self._fault or None,
            "refused": dict(self._replica.refused) if self._replica is not None else {},
            "members": [self._members[one] for one in sorted(self._members)],
        }
        if status != self._told:
            self._told = status
            self._tell_status(status)


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
