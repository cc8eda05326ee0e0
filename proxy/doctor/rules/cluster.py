"""What a look at the cluster's engine means. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence

from acme_client.late_dataclass import dataclass
from acme_client.storage.etcd import remedies

from ..findings import Finding

# What etcd holds by default before it takes nothing more (`--quota-backend-bytes`).
_QUOTA = 2 << 30
_NEARLY = 0.7
# With so many changes, all of them kept, etcd has not been told to compact its history.
_HISTORY = 50_000
_OLD = (3, 5)
_ABOUT = "cluster"


@dataclass(frozen=True, slots=True)
class MemberFacts:
    """``error``: why the member gave no answer. ``size`` of its database, in bytes."""

    url: str
    error: str = ""
    version: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Machine:
    """One that runs at the moment; ``orders``: whether it orders certificates."""

    name: str
    orders: bool


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """``order``: whether this machine is to order; ``error``: why the cluster's own keys cannot be
    read; ``secret``: why what is there cannot be opened; ``machines``: those that run; ``history``:
    changes that etcd keeps; ``newer``: the format of what lies there, where a newer program wrote
    it. ``fault``: why nothing can be asked at all; ``denied``: ``error`` is that etcd's rules
    forbid it; ``open_to_all``: the file of the secret, where everybody may read it; ``others``:
    clusters of other names in the same etcd; ``namesake``: since when another machine runs that has
    this one's name."""

    name: str
    node: str
    order: bool
    members: Sequence[MemberFacts]
    error: str = ""
    secret: str = ""
    machines: Sequence[Machine] = ()
    alarms: Sequence[str] = ()
    history: int = 0
    certificates: int = 0
    milliseconds: float = 0.0
    newer: int | None = None
    fault: str = ""
    denied: bool = True
    open_to_all: str = ""
    others: Sequence[str] = ()
    namesake: str = ""


def findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield the findings: the members, the engine's health, and which machine orders."""
    reached = [one for one in facts.members if not one.error]
    if facts.fault:
        yield Finding("wrong", _ABOUT, facts.fault, "mend that, and reload")
        yield Finding("attention", _ABOUT, "what is on the disk is served meanwhile")
        return
    for error, members in _together((one.error, one.url) for one in facts.members if one.error):
        yield Finding(
            "attention" if reached else "wrong",
            _ABOUT,
            f"{_listed(members)} {_give(members)} no answer: {error}",
            remedies.of_member(error),
        )
    old = ((one.version, one.url) for one in facts.members if _is_old(one))
    for version, members in _together(old):
        yield Finding(
            "attention",
            _ABOUT,
            f"{_listed(members)} {'are' if len(members) > 1 else 'is'} etcd {version}, which its "
            "makers support no more",
            "plan for a newer etcd; it works with this one",
        )
    if not reached:
        yield Finding("attention", _ABOUT, "what is on the disk is served meanwhile")
        return
    if len(facts.members) < 3:
        yield Finding(
            "attention",
            _ABOUT,
            f"cluster.etcd names {len(facts.members)} member"
            f"{'s' if len(facts.members) > 1 else ''}: with less than three, the loss of one stops "
            "the engine",
            "run etcd on three machines, and name all of them",
        )
    if facts.error and remedies.is_gateway_cut_off(facts.error):
        yield Finding(
            "wrong",
            _ABOUT,
            f"etcd's gateway is refused by etcd itself: {facts.error}",
            "have etcd's certificate (ETCD_CERT_FILE) made for servers and clients "
            "(extendedKeyUsage serverAuth, clientAuth): the gateway shows it as a client",
        )
        return
    if facts.error and not facts.denied:
        yield Finding(
            "wrong",
            _ABOUT,
            f"etcd does not answer for the cluster: {facts.error}",
            remedies.of_member(facts.error),
        )
        return
    if facts.error:
        yield Finding(
            "wrong",
            _ABOUT,
            f"etcd does not let {facts.node} read /treehouse/{facts.name}/: {facts.error}",
            "see cluster.user and its role: read and write below that prefix",
        )
        return
    yield from _health(facts, reached)
    if facts.secret:
        yield Finding(
            "wrong",
            _ABOUT,
            f"what lies in etcd cannot be opened: {facts.secret}",
            "copy the file that cluster.secret_file names from another machine",
        )
        return
    if facts.open_to_all:
        yield Finding(
            "attention",
            _ABOUT,
            f"everybody on this machine may read the cluster's secret, {facts.open_to_all}",
            f"sudo chmod o-rwx {shlex.quote(facts.open_to_all)}",
        )
    if facts.others and not facts.machines and not facts.certificates:
        yield Finding(
            "attention",
            _ABOUT,
            f"{facts.name} has nothing in etcd, where there is {_listed(facts.others)}",
            "see that cluster.name is the same on every machine",
        )
    if facts.newer is not None:
        yield Finding(
            "attention",
            _ABOUT,
            f"{facts.name} has format {facts.newer}, which this program does not write: it takes "
            "certificates and orders none",
            "upgrade the program here",
        )
    if facts.namesake:
        yield Finding(
            "wrong",
            _ABOUT,
            f"{facts.node} is the name of another machine, too, which runs since {facts.namesake}",
            "give each machine a name of its own: cluster.node",
        )
        return
    yield _who_orders(facts)


def _health(facts: ClusterFacts, reached: Sequence[MemberFacts]) -> Iterator[Finding]:
    for alarm in facts.alarms:
        yield Finding(
            "wrong",
            _ABOUT,
            f"etcd has an alarm: {alarm}",
            "etcdctl compact REVISION; etcdctl defrag; etcdctl alarm disarm",
        )
    size = max(one.size for one in reached)
    if size > _NEARLY * _QUOTA:
        yield Finding(
            "attention",
            _ABOUT,
            f"etcd's database has {size >> 20} MiB, and takes {_QUOTA >> 20} MiB by default",
            "compact its history and defragment it, or raise --quota-backend-bytes",
        )
    if facts.history > _HISTORY:
        yield Finding(
            "attention",
            _ABOUT,
            f"etcd keeps its whole history, {facts.history} changes, until its quota is used up",
            "start etcd with --auto-compaction-retention=1",
        )


def _who_orders(facts: ClusterFacts) -> Finding:
    has = f"{facts.certificates} certificates, answer in {facts.milliseconds:.1f} ms"
    ordering = [one.name for one in facts.machines if one.orders]
    who = ", ".join(ordering)
    if facts.order and facts.node in ordering:
        others = [one for one in ordering if one != facts.node]
        beside = f" beside {', '.join(others)}" if others else ""
        text = f"this node orders certificates{beside}"
    elif facts.order and facts.node in (one.name for one in facts.machines):
        return Finding(
            "attention",
            _ABOUT,
            f"{facts.name}: {facts.node} runs and orders nothing; {who or 'no machine'} "
            f"{'order' if len(ordering) > 1 else 'orders'}; {has}",
            "treehouse-proxy status --cluster says why, on that machine",
        )
    elif facts.order:
        do = "order" if len(ordering) > 1 else "orders"
        text = f"{who or 'nobody'} {do}; this node will too when it runs and has a right clock"
    elif ordering:
        text = f"{who} order{'' if len(ordering) > 1 else 's'}, this node takes"
    else:
        return Finding(
            "attention",
            _ABOUT,
            f"{facts.name}: no machine orders certificates; {has}",
            "start a machine that has cluster without order: false",
        )
    return Finding("ok", _ABOUT, f"{facts.name}: {text}; {has}")


def _together(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, list[str]]]:
    """Yield what is said, and of which members."""
    found: dict[str, list[str]] = {}
    for said, url in pairs:
        found.setdefault(said, []).append(url)
    yield from found.items()


def _listed(several: Sequence[str]) -> str:
    return ", ".join(several[:-1]) + (" and " if several[:-1] else "") + several[-1]


def _give(members: Sequence[str]) -> str:
    return "each gives" if len(members) > 1 else "gives"


def _is_old(one: MemberFacts) -> bool:
    return not one.error and bool(one.version) and _number(one.version) < _OLD


def _number(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(int(one) for one in parts if one.isdigit())
