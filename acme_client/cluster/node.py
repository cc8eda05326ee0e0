"""This machine in its cluster: what it shares with the others, and whether the engine can be asked.

A machine that may order (`ClusterSettings.order`) does so like every other: which of them makes an
attempt is decided for each certificate (`certificates.ranks`), and made right by a lock in the
engine. What the lifecycle needs for that is here (`Shared`): the engine as a store, the
certificates and accounts that are everybody's, and what is known of the machines that live
(`peers`). A machine that orders nothing takes certificates (`replica`).

Who the others are is on the local disk too, for a start without the engine: a machine that orders
alone has to know its place among them.

Nothing here is in a request's way, and nothing runs in the thread whose silence is taken for a
hang: one thread looks at the engine, and `company` has another one. Every fault of the engine ends
in a pause and another try; what is served goes on being served.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from ..certificates import wishes
from ..certificates.copies import Copies
from ..certificates.folder_names import FOLDER as CERTIFICATES
from ..certificates.folder_names import names_of
from ..certificates.peers import Member, Peers
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
from . import recollection
from .accounts import ACCOUNTS, ROOT, SharedFiles
from .bookmark import Bookmark
from .company import PAUSES, Company
from .faults import Faults
from .gate import Gate
from .replica import Replica
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
# So many certificates are read one by one at a start.
_ONE_BY_ONE = 20
# Clocks that have come or gone apart by less than this are no news.
_CLOCK_NEWS = 5.0


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
        self._tell_status = tell
        self._tell_engine = tell_engine
        self._unwritten = unwritten
        self._begun = time.monotonic()
        self._closing = threading.Event()
        self._telling = threading.Lock()
        self._told: ClusterStatus | None = None
        self._is_clock_told = False
        self._counted: EngineFigures | None = None  # as told last
        self._look: Callable[[], object] = lambda: None
        self._meet: Callable[[], object] = lambda: None
        self._faults = Faults(settings.name, settings.fault)
        self._wishes = {one.name: wishes.of(one) for one in wanted}
        self.peers = Peers(settings.node, orders=settings.order, alone_below=settings.order_below)
        """What the scheduler knows of the other machines."""
        self._members: Mapping[str, Member] = {}
        self._told_away: bool | None = None
        self._meeting = threading.Lock()
        self._learnt = threading.Event()  # what the engine has, or that it cannot be asked
        self._stir = threading.Event()
        self._lock = threading.Lock()
        self._to_take: set[str] = set()
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
        self.link: Link = link
        """The link by which challenges are answered on every machine."""
        if self._shared is not None:
            self._company = Company(
                settings, self._shared, link, self._faults, self._wishes, self.orders,
                self._behind, self._unheard.own_thumbprint, self._tell, self._met, now,
            )  # fmt: skip
            self.link = self._company.link

    # For the agent

    def start(self, look: Callable[[], object], meet: Callable[[], object]) -> None:
        """Begin. ``look``: have the stores looked at; ``meet``: `peers` have changed; both are
        called by any thread."""
        self._look, self._meet = look, meet
        self._members = recollection.recall(self._local, self._settings, self._wishes)
        if self._members:  # until they can be heard; nobody was away for that
            self.peers.told(self._members, away=True)
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
                    self._take(certificates, again=is_learnt, due=due)
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
        if not certificates.goes_on or _is_much(doubtful, self._wishes):
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
            does = "orders certificates" if self._settings.order else "takes certificates"
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
        self._see_peers()
        self._unheard.see(hears=self._company is not None and self._company.hears)

    def _see_peers(self) -> None:
        """Tell the scheduler who is there, what they want, and whether they can be heard. Any
        thread may."""
        with self._meeting:
            away = bool(self._faults.text)
            found = {} if self._company is None or away else self._company.peers()
            members = found if self._settings.node in found else self._members
            if not members:
                return
            others, rest = _news(self._members, members)
            heard = "" if self._company is None else self._company.thumbprint
            if others or heard not in ("", self._unheard.told):
                self._unheard.told = heard or self._unheard.told
                recollection.remember(
                    self._local, self._settings, members, self._wishes, self._unheard.told
                )
            if others or rest or away != self._told_away:
                is_back = self.peers.away and not away
                if away != self._told_away:
                    self._stir.set()
                self._members, self._told_away = members, away
                self.peers.told(members, away=away)
                self._meet()
                if is_back:
                    self._look()  # what was made alone is shared
                if self._company is not None:
                    self._company.stir()  # it may be that this machine orders from now on

    def _take(self, certificates: Watch, *, again: bool, due: bool) -> None:
        """Take what has changed in the engine, on a machine that orders nothing."""
        replica = self._replica
        if replica is None:
            return
        taken = False
        with self._lock:
            self._to_take |= replica.hear(certificates.changed)
            if due:
                self._to_take |= replica.refused_folders()
            to_take, self._to_take = self._to_take, set()
        try:
            if not again:
                doubtful = replica.doubtful_folders()
                if not certificates.goes_on or _is_much(doubtful, replica.wanted):
                    taken, to_take = replica.take_all(), set()
                else:
                    to_take |= doubtful
            while to_take and not self._closing.is_set():
                taken |= replica.take(next(iter(to_take)))
                to_take.pop()
        finally:
            with self._lock:
                self._to_take |= to_take
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
            found |= self._replica.behind(tuple(self._to_take))
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
        namesake = "" if self._company is None else self._company.namesake
        status: ClusterStatus = {
            "name": self._name,
            "node": self._settings.node,
            "orders": self.orders(),
            "ordering": self._ordering(),
            "connected": not self._fault,
            "fault": "; ".join(filter(None, (self._fault, clock, namesake))) or None,
            "alone": bool(self._fault) and self.peers.away and self.orders(),
            "refused": self._refused(),
            "behind": self._behind(),
            "revision_behind": 0 if self._company is None else self._company.unheard(),
            "members": [] if self._company is None else self._company.members(),
        }
        with self._telling:
            if bool(clock) != self._is_clock_told:
                self._is_clock_told = bool(clock)
                if clock:
                    log.warning("cluster %s: %s", self._name, clock)
                else:
                    log.info("cluster %s: this machine's clock is right again", self._name)
            if status != self._told:
                self._told = status
                self._tell_status(status)
            counted = None if self._shared is None else self._shared.api.figures.document()
            if counted != self._counted and counted is not None:
                self._counted = counted
                self._tell_engine(counted)


def _is_much(doubtful: Collection[str], wanted: Collection[str]) -> bool:
    """Whether so many certificates have to be read that reading all takes fewer calls."""
    return len(doubtful) > max(_ONE_BY_ONE, len(wanted) // 4)


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
