"""This machine in its cluster: who orders certificates, and what moves between disk and engine.

One machine at a time orders certificates. It claims that in the engine, and the claim stays its own
until it is given to another: so nothing has to be decided when the engine is away. Whoever is to
order as well (`order`) takes the claim when its owner has been no member for a while, and is known
to be none by the engine, which alone ends sessions; the owner is fenced off from that moment.

What the engine was seen to say last is on the local disk too. Without the engine the machine that
ordered goes on, and no other begins. If another one might have taken over unheard, it waits until a
certificate has little of its life left (`Peers.away`): whoever can be asked has renewed it by then.

Nothing here is in a request's way, and nothing runs in the thread whose silence is taken for a
hang: one thread moves certificates, and `company` has another one. Every fault of the engine ends
in a pause and another try; what is served goes on being served.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from ..certificates.folder_names import FOLDER as CERTIFICATES
from ..certificates.peers import Member, Peers
from ..link import Link
from ..status import ClusterStatus
from ..storage import documents
from ..storage.etcd.sealing import SecretFault
from ..storage.etcd.store import EtcdStore
from ..storage.store import Changes, Fenced, Lock, Store
from . import recollection
from .accounts import ACCOUNTS, Accounts
from .company import MEMBERS, PAUSES, Company
from .faults import Faults
from .recollection import Recollection
from .replica import Replica
from .settings import VERSION, ClusterSettings

log = logging.getLogger("treehouse.certifier")

# The folder of the cluster's own documents in the engine, and the claim to order certificates.
OWN = "cluster"
ORDERER = "cluster/orderer"
# The claim's owner after a person has taken the claim from a machine: no machine takes it until a
# person gives it to a machine.
NOBODY = "-"
FORMAT, FORMAT_FILE = "cluster/format", "format.json"
PART = "certificates"

# Everything is looked at this often, whether or not the engine has told of a change.
_LOOK_EVERY = 30.0
# The claim of a machine that is gone is taken after so many seconds, or so much of the shortest
# life: a restart is over by then.
_TAKES_OVER_AFTER = 30.0
_TAKES_OVER_PART = 1 / 30
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
        self._begun = time.monotonic()
        self._closing = threading.Event()
        self._telling = threading.Lock()
        self._told: ClusterStatus | None = None
        self._look: Callable[[], object] = lambda: None
        self._faults = Faults(settings.name, settings.fault)
        known = recollection.recall(local, settings)
        self._known_orderer, self._has_rivals = known.orderer, known.rivals
        self._gone_since: float | None = None  # when its claim's owner was seen to be gone
        self._meet: Callable[[], object] = lambda: None
        self.peers = Peers(settings.node)
        """What the scheduler knows of other machines: that there is none, since only the owner of
        the claim has certificates ordered; and while it cannot be known whether this machine is the
        owner still, `Peers.away`."""
        self._claim: Lock | None = None
        # Set when the engine's certificates have been taken, or the engine cannot be asked.
        self._learnt = threading.Event()
        self._reached = threading.Event()
        self._stir = threading.Event()
        self._lock = threading.Lock()
        self._to_offer: set[str] = set()
        self._to_take: set[str] = set()
        self._replica: Replica | None = None
        self._accounts: Accounts | None = None  # where this machine may order
        self._company: Company | None = None
        self._shared: EtcdStore | None = None
        self.link: Link = link
        """The link by which challenges are answered on every machine."""
        if settings.fault:
            return
        try:
            self._shared = settings.store()
        except SecretFault as why:
            self._faults.last(f"cluster.secret_file: {why}")
            return
        self._replica = Replica(self._shared, local, wanted, now)
        if settings.order:
            self._accounts = Accounts(self._shared, local)
        self._company = Company(
            settings, self._shared, link, self._faults, self.orders, self._behind, self._tell,
            self._stir.set, now,
        )  # fmt: skip
        self.link = self._company.link

    # For the agent

    def start(self, look: Callable[[], object], meet: Callable[[], object]) -> None:
        """Begin. ``look``: have the local store looked at; ``meet``: `peers` have changed; both are
        called by any thread."""
        self._look, self._meet = look, meet
        self._see_peers()
        if self._company is None:
            log.error("cluster %s: %s; what is on the disk is served", self._name, self._fault)
            self._learnt.set()
            self._tell()
            return
        self._company.start()
        work = threading.Thread(target=self._work, name="cluster-certificates", daemon=True)
        work.start()

    def orders(self) -> bool:
        return not self.refusal()

    def refusal(self) -> str:
        """Say why this node orders no certificates; empty where it does."""
        if not self._settings.order:
            who = self._known_orderer or "another machine of the cluster"
            return f"this node orders no certificates (cluster.order: false); {who} does"
        if self._known_orderer is None:
            if self._reached.is_set():
                return (
                    "no machine of the cluster orders certificates; "
                    "to have this one do it: treehouse-proxy cluster join --take-over"
                )
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
        if self._company is not None:
            self._company.close()
        if self._shared is not None:
            self._shared.close()

    # In the thread

    def _work(self) -> None:
        shared, replica = self._of_the_engine()
        changes: Changes | None = None
        due = False
        failures = 0
        while not self._closing.is_set():
            try:
                if changes is None:
                    changes = shared.watch(CERTIFICATES, self._stir.set)
                    shared.watch_claims(self._stir.set)
                    shared.watch(OWN, self._stir.set)
                    if self._accounts is not None:
                        shared.watch(ACCOUNTS, self._stir.set)
                    self._begin(shared, replica)
                else:
                    with self._lock:
                        self._to_take |= changes()
                        if due:
                            self._to_take |= replica.refused_folders()
                    self._demand_format(shared)
                    self._confirm(shared)
                    self._share_accounts()
                    self._take_over(shared, replica)
                    self._move(replica)
                failures = 0
                if self._faults.ended(PART):
                    self._look()
                self._see_peers()
                self._tell()
            except Fenced:
                log.error(
                    "cluster %s: another machine has been made the one that orders", self._name
                )
                self._claim = None
            except OSError as error:
                failures += 1
                self._gone_since = None
                self._missed(error)
                self._see_peers()
            except Exception:  # the thread must live, or nothing moves until the next start
                failures += 1
                log.exception("a fault in the certifier itself")
            if failures:
                self._closing.wait(PAUSES[min(failures, len(PAUSES)) - 1])
            else:
                pause = _LOOK_EVERY
                if self._gone_since is not None:
                    pause = max(self._gone_since + self._patience(replica) - time.monotonic(), 0.1)
                due = not self._stir.wait(min(pause, _LOOK_EVERY))
                self._stir.clear()

    def _begin(self, shared: EtcdStore, replica: Replica) -> None:
        """Learn what the engine has; then it is known who orders, and from when on."""
        self._demand_format(shared)
        self._confirm(shared)
        if self._accounts is not None:
            self._accounts.take(orders=self._claim is not None)
        self._share_accounts()
        replica.take_all(orders=self._claim is not None)
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
        """See that what lies in the engine is for this version of the program, and that our secret
        opens it. Raises OSError."""
        data = shared.load(FORMAT).get(FORMAT_FILE, b"")
        later = documents.newer(data, VERSION) if data else None
        if later is not None:
            raise OSError(
                f"the cluster is used by a newer version of this program (format {later}); "
                "this one takes nothing and gives nothing"
            )
        if not data and self._settings.order:
            shared.store(FORMAT, {FORMAT_FILE: documents.write({}, VERSION)})

    def _confirm(self, shared: EtcdStore) -> None:
        """See who orders; claim it where nobody does and this node is to."""
        claim: Lock | None = None
        orderer: str | None
        if self._settings.order:
            claim, orderer = shared.claim(ORDERER, self._settings.node)
        else:
            orderer = shared.owner(ORDERER)
            if orderer == self._settings.node:  # from when it was to order: it gives that back
                claim, orderer = shared.claim(ORDERER, orderer)
                if claim is not None:
                    claim.release()
                claim, orderer = None, None
        if orderer == NOBODY:
            orderer = None
        self._claim = claim
        self._reached.set()
        if orderer != self._known_orderer:
            if self._settings.order and orderer is not None and claim is None:
                log.info(
                    "cluster %s: %s orders certificates; this node takes them, and orders when %s "
                    "is gone",
                    self._name,
                    orderer,
                    orderer,
                )
            self._known_orderer = orderer
            self._remember()
            self._look()

    def _share_accounts(self) -> None:
        if self._accounts is None:
            return
        if self._claim is not None:
            self._accounts.offer(self._claim)
        else:
            self._accounts.take(orders=False)

    def _take_over(self, shared: EtcdStore, replica: Replica) -> None:
        """Take the claim of a machine that is gone for good, as far as can be known."""
        owner, claim = self._known_orderer, self._claim
        if not self._settings.order or owner is None or claim is not None:
            self._gone_since = None
            return
        if shared.is_there(MEMBERS, owner):
            self._gone_since = None
            return
        now = time.monotonic()
        if self._gone_since is None:
            self._gone_since = now
        if now < self._gone_since + self._patience(replica):
            return
        self._gone_since = None
        if shared.take(ORDERER, owner, self._settings.node):
            log.warning(
                "cluster %s: %s is gone; this node orders certificates now", self._name, owner
            )
            self._confirm(shared)

    def _patience(self, replica: Replica) -> float:
        return min(_TAKES_OVER_AFTER, max(replica.shortest_life * _TAKES_OVER_PART, 1.0))

    def _see_peers(self) -> None:
        """Tell the scheduler whether another machine may order without being heard of."""
        if self._company is not None and not self._faults.of(PART) and self._reached.is_set():
            rivals = any(
                one["candidate"] and one["node"] != self._settings.node
                for one in self._company.members()
            )
            if rivals != self._has_rivals:
                self._has_rivals = rivals
                self._remember()
        away = self._has_rivals and bool(self._faults.text)
        if away != self.peers.away or not self.peers.is_known:
            self.peers.told({self._settings.node: Member()}, away=away)
            self._meet()

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
                if self._company is not None:
                    self._company.stir()

    # Others

    @property
    def _name(self) -> str:
        return self._settings.name

    @property
    def _fault(self) -> str:
        return self._faults.text

    def _behind(self) -> int:
        return len(self._to_take)

    def _of_the_engine(self) -> tuple[EtcdStore, Replica]:
        if self._shared is None or self._replica is None:
            raise ValueError("there is no engine to ask")
        return self._shared, self._replica

    def _missed(self, error: OSError) -> None:
        self._faults.begun(PART, error)
        if not self._learnt.is_set():
            self._learnt.set()
            self._look()

    def _remember(self) -> None:
        known = Recollection(self._known_orderer, self._has_rivals)
        recollection.remember(self._local, self._settings, known)

    def _tell(self) -> None:
        status: ClusterStatus = {
            "name": self._name,
            "node": self._settings.node,
            "orders": self.orders(),
            "orderer": self._known_orderer,
            "connected": not self._fault,
            "fault": self._fault or None,
            "refused": dict(self._replica.refused) if self._replica is not None else {},
            "behind": self._behind(),
            "members": [] if self._company is None else self._company.members(),
        }
        with self._telling:
            if status != self._told:
                self._told = status
                self._tell_status(status)
