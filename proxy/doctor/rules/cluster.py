"""What a look at the cluster's engine means. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from acme_client.late_dataclass import dataclass

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
    it."""

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


def findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield the findings: the members, the engine's health, and which machine orders."""
    reached = [one for one in facts.members if not one.error]
    for one in facts.members:
        if one.error:
            yield Finding(
                "wrong" if not reached else "attention",
                _ABOUT,
                f"{one.url} gives no answer: {one.error}",
                "see that etcd runs there, and that a firewall lets this machine to it",
            )
        elif one.version and _number(one.version) < _OLD:
            yield Finding(
                "attention",
                _ABOUT,
                f"{one.url} is etcd {one.version}, which its makers support no more",
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
    if facts.newer is not None:
        yield Finding(
            "attention",
            _ABOUT,
            f"{facts.name} has format {facts.newer}, which this program does not write: it takes "
            "certificates and orders none",
            "upgrade the program here",
        )
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
    elif facts.order:
        text = f"{who or 'nobody'} orders; this node will too when it runs and has a right clock"
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


def _number(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(int(one) for one in parts if one.isdigit())
