"""This machine in its cluster: what it shares with the others, and whether the engine can be asked.

A machine that may order (`ClusterSettings.order`) does so like every other: which of them makes an
attempt is decided for each certificate (`certificates.ranks`), and made right by a lock in the
engine. What the lifecycle needs for that is here (`Shared`): the engine as a store, the
certificates and accounts that are everybody's, and what is known of the machines that live
(`others`). A machine that orders nothing takes certificates (`replica`).

Nothing here is in a request's way, and nothing runs in the thread whose silence is taken for a
hang: one thread looks at the engine, and `company` has another one. Every fault of the engine ends
in a pause and another try; what is served goes on being served.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from ..certificates import wishes
from ..certificates.copies import Copies, is_much
from ..certificates.folder_names import FOLDER as CERTIFICATES
from ..certificates.folder_names import names_of
from ..certificates.peers import Peers
from ..certificates.shared_repository import SharedRepository
from ..late_dataclass import dataclass
from ..link import INTERNAL, CertificateSpec, Link
from ..rate_limits.shared_ledger import SharedLedger
from ..status import ClusterStatus
from ..storage import documents
from ..storage.etcd.figures import EngineFigures
from ..storage.etcd.sealing import SecretFault
from ..storage.etcd.store import EtcdStore
from ..storage.etcd.watch import Watch
from ..storage.store import Changes, Store
from . import identity
from .accounts import ACCOUNTS, ROOT, SharedFiles
from .bookmark import Bookmark
from .company import PAUSES, Company
from .faults import Faults
from .gate import Gate
from .others import Met, Others
from .replica import Replica
from .reporter import Reporter
from .settings import VERSION, ClusterSettings
from .shared_names import SharedNames
from .unheard import Unheard

log = logging.getLogger("treehouse.certifier")

# The folder of the cluster's own documents in the engine.
OWN = "cluster"
FORMAT, FORMAT_FILE = "cluster/format", "format.json"
PART, PART_FORMAT = "certificates", "format"

# Everything is looked at this often, whether or not the engine has told of a change.
_LOOK_EVERY = 30.0
# A node that orders waits for so long to learn what the engine has, before it orders anything.
_LEARNS_WITHIN = 20.0


@dataclass(frozen=True, slots=True)
class Shared:
    """The parts that a machine which may order shares with the others: the engine's ``store``,
    certificates, the ``ledger`` of what is counted at CAs, its own ``files``, whose accounts and
    root are everybody's, and ``names`` that come on demand."""

    store: Gate
    repository: SharedRepository
    ledger: SharedLedger
    files: SharedFiles
    names: SharedNames


class Node:
    """``wanted``: the certificates that this machine wants; ``tell`` takes the status whenever it
    has changed, ``tell_engine`` what was counted of the engine; ``unwritten`` names certificates
    that this machine's disk has not taken. All are called by any thread."""

    def __init__(
        self,
        settings: ClusterSettings,
        local: Store,
        link: Link,
        wanted: Sequence[CertificateSpec],
        tell: Callable[[ClusterStatus], object],
        now: Callable[[], float] = time.time,
        tell_engine: Callable[[EngineFigures], object] = lambda figures: None,
        unwritten: Callable[[], set[str]] = set,
    ) -> None:
        self._settings = settings
        self._local = local
        self._reporter = Reporter(settings.name, tell, tell_engine)
        self._unwritten = unwritten
        self._begun = time.monotonic()
        self._closing = threading.Event()
        self._is_second = False  # another machine of its name was there first
        self._look: Callable[[], object] = lambda: None
        self._meet: Callable[[], object] = lambda: None
        self._faults = Faults(settings.name, settings.fault)
        self._wishes = {one.name: wishes.of(one) for one in wanted}
        self.peers = Peers(settings.node, orders=settings.order, alone_below=settings.order_below)
        """What the scheduler knows of the other machines."""
        self._learnt = threading.Event()  # what the engine has, or that it cannot be asked
        self._stir = threading.Event()
        self._company: Company | None = None
        self._replica: Replica | None = None
        self._shared: EtcdStore | None = None
        try:
            self._shared = None if settings.fault else settings.store()
        except SecretFault as why:
            self._faults.last(f"cluster.secret_file: {why}")
        names = {one.name: one.names for one in wanted}
        self._bookmark: Bookmark | None = None
        if self._shared is not None:
            self._bookmark = Bookmark(local, settings, self._shared.fingerprint())
        noted = {} if self._bookmark is None else self._bookmark.noted
        self.shared: Shared | None = None
        """What the lifecycle works on; None where this machine orders nothing."""
        if settings.order:
            gate = Gate(self._shared, self._failed, lambda: self._look())
            repository = SharedRepository(local, gate, settings.node, names, now, noted)
            ledger = SharedLedger(local, gate, self.peers, now)
            names_on_demand = SharedNames(gate, repository, self.peers, now)
            files = SharedFiles(local, gate)
            self.shared = Shared(gate, repository, ledger, files, names_on_demand)
        elif self._shared is not None:
            self._replica = Replica(self._shared, local, names, now, noted)
        directories = Counter(one.authority.directory for one in wanted)
        directories.pop(INTERNAL, None)
        directory = directories.most_common(1)[0][0] if directories else ""
        self._unheard = Unheard(settings, local, link, self.peers, self._faults, directory)
        self._others = Others(
            settings, local, self._wishes, self.peers, self._unheard, self._turned
        )  # fmt: skip
        self.link: Link = link
        """The link by which challenges are answered on every machine."""
        if self._shared is not None:
            self._company = Company(
                settings, identity.own(local, settings.host), self._shared, link, self._faults,
                self._wishes, self.orders, self._behind, self._unheard.own_thumbprint, self._tell,
                self._met, now,
            )  # fmt: skip
            self.link = self._company.link

    # For the agent

    def start(self, look: Callable[[], object], meet: Callable[[], object]) -> None:
        """Begin. ``look``: have the stores looked at; ``meet``: `peers` have changed; both are
        called by any thread."""
        self._look, self._meet = look, meet
        self._others.recall()
        self._unheard.begin()
        if self._company is None:
            log.error("cluster %s: %s; what is on the disk is served", self._name, self._fault)
            self._learnt.set()
            self._tell()
            return
        self._company.start()
        work = threading.Thread(target=self._work, name="cluster-certificates", daemon=True)
        work.start()

    def orders(self) -> bool:
        """Whether this machine orders, as the others have to know it."""
        if self.refusal() or self.peers.clock_fault():
            return False
        return self.shared is not None and not self.shared.store.read_only

    def refusal(self) -> str:
        """Say why this node orders no certificates; empty where it does."""
        if not self._settings.order:
            ordering = self._ordering()
            who = ", ".join(ordering) or "another machine of the cluster"
            do = "do" if len(ordering) > 1 else "does"
            if not ordering and self._company is not None and self._company.members():
                who, do = "no machine of the cluster does", "(take order: false out of one of them)"
            return f"this node orders no certificates (cluster.order: false); {who} {do}"
        if self._company is not None and self._company.is_second and not self._fault:
            return self._company.namesake
        if not self.peers.is_known:
            return "the cluster has not been reached yet, and may have certificates already"
        if not self._learnt.is_set() and time.monotonic() < self._begun + _LEARNS_WITHIN:
            return "what the cluster has is being read"
        return ""

    def close(self) -> None:
        self._unheard.close()
        self._closing.set()
        self._stir.set()
        if self._company is not None:
            self._company.close()
        if self._shared is not None:
            self._shared.close()

    # In the thread

    def _work(self) -> None:
        shared = self._of_the_engine()
        certificates: Watch | None = None
        own: Changes | None = None
        is_learnt = False
        due = True
        failures = 0
        while not self._closing.is_set():
            try:
                if certificates is None:
                    certificates = self._watch(shared)
                if own is None:
                    own = shared.watch(OWN, self._stir.set)
                    if self.shared is not None:
                        shared.watch(ACCOUNTS, self._stir.set)
                        shared.watch(ROOT, self._stir.set)
                self._see_format(shared)
                if self.shared is not None:
                    self._open(self.shared, certificates, again=is_learnt)
                else:
                    self._follow(certificates, again=is_learnt, due=due)
                is_learnt = True
                if self._bookmark is not None and self._copies is not None:
                    self._bookmark.keep(certificates, self._copies)
                self._learn()
                failures = 0
                if self._faults.ended(PART):
                    self._look()
            except OSError as error:
                failures += 1
                self._close_for(error)
                self._learn()
            except Exception:  # the thread must live, or nothing moves until the next start
                failures += 1
                log.exception("a fault in the certifier itself")
            self._met()
            self._tell()
            if failures:
                self._closing.wait(PAUSES[min(failures, len(PAUSES)) - 1])
            else:
                due = not self._stir.wait(_LOOK_EVERY)
                self._stir.clear()

    def _watch(self, shared: EtcdStore) -> Watch:
        """Watch certificates, from where this machine has come to before it was started, if the
        engine knows that. Raises OSError."""
        place = None if self._bookmark is None else self._bookmark.place
        wake = self._stir.set if self.shared is None else self._look
        watch = shared.watch_from(CERTIFICATES, wake, place)
        if not watch.goes_on and self._copies is not None:
            self._copies.doubt_all()
        if self.shared is not None:  # before it looks by itself
            self.shared.repository.hear(watch.changed)
        return watch

    def _open(self, shared: Shared, certificates: Watch, *, again: bool) -> None:
        """See that the engine can be asked, and let the lifecycle ask it; at first, have what it
        has, or what of it has changed since this machine's disk was the same."""
        shared.store.closed = ""
        shared.files.level()
        if again:
            return
        repository = shared.repository
        doubtful = repository.doubtful()
        if not certificates.goes_on or is_much(doubtful, self._wishes):
            repository.catch_up(self._of_the_engine().load_all(CERTIFICATES))
        else:
            repository.catch_up_with(doubtful, names_of(certificates.folders()))

    @property
    def _copies(self) -> Copies | None:
        if self.shared is not None:
            return self.shared.repository.copies
        return None if self._replica is None else self._replica.copies

    def _close_for(self, error: OSError) -> None:
        self._faults.begun(PART, error)
        if self.shared is not None:
            self.shared.store.closed = error.strerror or str(error)

    def _learn(self) -> None:
        if self._learnt.is_set():
            return
        self._learnt.set()
        if not self._fault:
            is_second = self._company is not None and self._company.is_second
            orders = self._settings.order and not is_second and not self.peers.clock_fault()
            does = "orders certificates" if orders else "takes certificates"
            log.info(
                "cluster %s: reached; this node is %s, and %s",
                self._name,
                self._settings.node,
                does,
            )
        self._look()
        if self._company is not None:
            self._company.stir()

    def _see_format(self, shared: EtcdStore) -> None:
        """See that what lies in the engine is in a form that this program writes. Raises
        OSError."""
        data = shared.load(FORMAT).get(FORMAT_FILE, b"")
        later = documents.newer(data, VERSION) if data else None
        why = ""
        if later is not None:
            why = (
                f"the cluster is used by a newer version of this program (format {later}); "
                "this one takes certificates, and orders and writes nothing"
            )
        if self.shared is not None:
            self.shared.store.read_only = why
        if why:
            self._faults.begun(PART_FORMAT, OSError(why))
        elif self._faults.ended(PART_FORMAT):
            self._look()
        if not data and self._settings.order:
            shared.store(FORMAT, {FORMAT_FILE: documents.write({}, VERSION)})

    def _met(self) -> None:
        """Do what follows from who is there, and from whether they can be heard. Any thread
        may."""
        self._others.see(self._met_now)
        self._unheard.see(hears=self._company is not None and self._company.hears)

    def _met_now(self) -> Met:
        away, company = bool(self._faults.text), self._company
        if company is None:
            return Met({}, "", away)
        return Met({} if away else company.peers(), company.thumbprint, away)

    def _turned(self, before: bool, now: bool) -> None:
        """The others are other ones than they were, or are away ``now`` and were not ``before``, or
        the other way round."""
        if before != now:
            self._stir.set()
        self._meet()
        if before and not now:
            self._look()  # what was made alone is shared
        if self._company is not None:
            self._company.stir()  # it may be that this machine orders from now on

    def _follow(self, certificates: Watch, *, again: bool, due: bool) -> None:
        if self._replica is not None:
            over = self._closing.is_set
            self._replica.follow(certificates, self._took, over, again=again, due=due)

    def _took(self) -> None:
        """A machine that orders nothing has taken certificates."""
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

    def _failed(self) -> None:
        """The engine has not done what the lifecycle asked it for: see what it does."""
        self._stir.set()
        if self._company is not None:
            self._company.prove()

    def _behind(self) -> int:
        """Count the certificates of which the engine has another one than this machine's disk."""
        found = self._unwritten()
        if self.shared is not None:
            found |= self.shared.repository.behind()
        elif self._replica is not None:
            found |= self._replica.behind()
        return len(found)

    def _ordering(self) -> list[str]:
        found = [] if self._company is None else self._company.members()
        return [one["node"] for one in found if one["orders"]]

    def _refused(self) -> dict[str, str]:
        if self.shared is not None:
            return dict(self.shared.repository.refused)
        return dict(self._replica.refused) if self._replica is not None else {}

    def _of_the_engine(self) -> EtcdStore:
        if self._shared is None:
            raise ValueError("there is no engine to ask")
        return self._shared

    def _tell(self) -> None:
        clock = self.peers.clock_fault() if self._settings.order else ""
        namesake, is_second = "", False
        if self._company is not None:
            namesake, is_second = self._company.namesake, self._company.is_second
        status: ClusterStatus = {
            "name": self._name,
            "node": self._settings.node,
            "orders": self.orders(),
            "ordering": self._ordering(),
            "connected": not self._fault,
            "fault": "; ".join(filter(None, (self._fault, clock, namesake))) or None,
            "alone": bool(self._fault) and self.peers.away and self.orders(),
            "order_below": self._settings.order_below,
            "refused": self._refused(),
            "behind": self._behind(),
            "revision_behind": 0 if self._company is None else self._company.unheard(),
            "members": [] if self._company is None else self._company.members(),
        }
        if is_second != self._is_second:
            self._is_second = is_second
            self._look()  # what it did not order until then
        figures = None if self._shared is None else self._shared.api.figures.document()
        self._reporter.tell(status, figures, clock)
