"""What a process may be given, as values; and the same in words, for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from acme_client.late_dataclass import dataclass

Role = Literal[
    "supervisor",
    "worker",
    "certifier",
    "hook",
    "dns-provider",
    "exporter",
    "docker",
    "docker-door",
]


@dataclass(frozen=True, slots=True)
class Grant:
    """A path, with all that is below it, and what it is needed for. ``optional``: machines differ
    in whether they have it. ``once``: read when a process starts and not again, or with something
    to fall back on, so that another file there later is no reason to start processes anew."""

    path: Path
    why: str
    optional: bool = False
    once: bool = False


@dataclass(frozen=True, slots=True)
class Port:
    number: int
    why: str


@dataclass(frozen=True, slots=True)
class Policy:
    """What a process keeps. Of ports None means any. ``descriptors`` is RLIMIT_NOFILE.

    ``hidden`` stays out of reach whatever the lists say: a grant that covers it is not made.
    """

    descriptors: int
    read: tuple[Grant, ...] = ()
    write: tuple[Grant, ...] = ()
    append: tuple[Grant, ...] = ()  # directories: files may be made in them and written to
    execute: tuple[Grant, ...] = ()
    connect: tuple[Port, ...] | None = ()
    bind: tuple[Port, ...] | None = ()
    hidden: Path | None = None
    lenient_children: bool = False  # children may raise their descriptor limit again
    # Unix sockets that it opens, for people: Landlock does not know them, the file's mode decides.
    sockets: tuple[Grant, ...] = ()
    abstract_sockets: bool = False  # those of any process may be connected to, unix(7)


# Of a process that has all it needs open already.
NOTHING = Policy(descriptors=64)


def describe(by_role: Mapping[Role, Policy] | Mapping[str, Policy]) -> str:
    """All policies for people, one process after the other, each grant with its reason."""
    return "\n\n".join("\n".join([role, *_lines(policy)]) for role, policy in by_role.items())


def _lines(policy: Policy) -> Iterator[str]:
    for label, grants in (
        ("read", policy.read),
        ("read and write", policy.write),
        ("append", policy.append),
        ("execute", policy.execute),
    ):
        yield from _table(label, [(str(grant.path), grant.why) for grant in grants])
    for label, ports in (("connect (TCP)", policy.connect), ("bind (TCP)", policy.bind)):
        if ports is None:
            yield from _table(label, [("any", "what a later configuration may need")])
        else:
            yield from _table(label, [(str(port.number), port.why) for port in ports])
    for grant in policy.sockets:
        yield from _table("connect (unix)", [(str(grant.path), grant.why)])
    if policy.abstract_sockets:
        yield from _table("connect (unix)", [("@…", "backends that are abstract sockets")])
    yield from _table("descriptors", [(str(policy.descriptors), "at most")])
    if policy.hidden is not None:
        yield from _table("never", [(str(policy.hidden), "")])


def _table(label: str, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    rows = list(rows) or [("nothing", "")]
    width = min(48, max(len(what) for what, _why in rows))
    for number, (what, why) in enumerate(rows):
        yield f"  {'' if number else label:<15} {what:<{width}}  {why}".rstrip()
