"""What the machine's facts mean: clock, state directory, ports. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from acme_client.late_dataclass import dataclass

from ..findings import Finding

# CAs date certificates back by an hour, and refuse what is signed for another time by more than
# that; log lines and renewals are wrong long before.
CLOCK_GOOD = 5.0
CLOCK_BEARABLE = 60.0
# A certificate with its key and record takes 12 KiB, and two versions of it are kept.
SPACE_LEAST = 10 * 1024 * 1024
INODES_LEAST = 1000


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """``ahead``: seconds that our clock is ahead of the CA's, None where no CA was reached.
    ``synchronised``: what the kernel was told by whoever keeps its time (adjtimex)."""

    ahead: float | None
    who: str
    synchronised: bool | None


def clock(facts: ClockFacts) -> Iterator[Finding]:
    about = "clock"
    step = "timedatectl set-ntp true, or set it by hand"
    if facts.ahead is None:
        if facts.synchronised:
            yield Finding("ok", about, "kept by a time service, says the kernel")
        else:
            yield Finding("unknown", about, "no CA could be asked for the time", "date -u")
        return
    off = abs(facts.ahead)
    way = "ahead of" if facts.ahead > 0 else "behind"
    if off <= CLOCK_GOOD:
        yield Finding("ok", about, f"within {CLOCK_GOOD:.0f} s of that of {facts.who}")
    elif off <= CLOCK_BEARABLE:
        yield Finding("attention", about, f"{off:.0f} s {way} that of {facts.who}", step)
    else:
        yield Finding(
            "wrong", about,
            f"{off:.0f} s {way} that of {facts.who}: certificates seem expired, or not valid yet",
            step,
        )  # fmt: skip
    if facts.synchronised is False:
        yield Finding("attention", about, "no time service keeps it, says the kernel", step)


@dataclass(frozen=True, slots=True)
class StateFacts:
    """``exists`` None: it cannot be seen from here. ``owner`` is a uid. ``open_to``: processes
    of other programs that run as the server's user, and so may read what lies there."""

    path: Path
    exists: bool | None
    owner: int = 0
    mode: int = 0o700
    free: int = 0
    inodes: int | None = None  # None: the file system has no such limit
    writable: bool = True
    parent_usable: bool = True
    open_to: tuple[str, ...] = ()


def state(facts: StateFacts, uid: int, started_as: int) -> Iterator[Finding]:
    """``uid``: who the server is or will be; ``started_as``: who asks."""
    about, path = "state directory", facts.path
    if facts.exists is None:
        yield Finding("unknown", about, f"{path} cannot be seen as uid {started_as}", "ask as root")
        return
    if not facts.exists:
        if facts.parent_usable:
            yield Finding("ok", about, f"{path} will be made at the first start")
        else:
            yield Finding(
                "wrong", about, f"{path} does not exist and cannot be made as uid {started_as}",
                f"install -d -m 700 -o {uid} {path}   (as root)",
            )  # fmt: skip
        return
    sound = True
    if facts.owner != uid:
        sound = False
        mended = started_as == 0
        yield Finding(
            "attention" if mended else "wrong", about,
            f"{path} belongs to uid {facts.owner}, not to uid {uid}"
            + (" (put right at the next start as root)" if mended else ""),
            f"chown -R {uid} {path}",
        )  # fmt: skip
    if facts.mode & 0o077:
        sound = False
        yield Finding(
            "attention", about, f"{path} can be entered by others (mode {facts.mode:o})",
            f"chmod 700 {path}",
        )  # fmt: skip
    if not facts.writable:
        sound = False
        yield Finding("wrong", about, f"{path} cannot be written to", "see mount, and its owner")
    if facts.free < SPACE_LEAST or (facts.inodes is not None and facts.inodes < INODES_LEAST):
        sound = False
        what = f"{facts.free // 1024} KiB" if facts.free < SPACE_LEAST else f"{facts.inodes} files"
        yield Finding(
            "wrong", about, f"only {what} more fit on the file system of {path}",
            f"df -h {path}; df -i {path}",
        )  # fmt: skip
    if facts.open_to:
        shown, more = ", ".join(facts.open_to[:3]), len(facts.open_to) - 3
        yield Finding(
            "attention", about,
            f"other programs run as uid {uid}, like this server, and may read the keys in {path}: "
            f"{shown}" + (f" and {more} more" if more > 0 else ""),
            "give the server a user of its own: sudo useradd --system treehouse, then "
            "user: treehouse, and group: for what a group may read or connect to",
        )  # fmt: skip
    if sound:
        yield Finding("ok", about, f"{path}: its owner, mode and room are right")


@dataclass(frozen=True, slots=True)
class PortFacts:
    """One configured address. ``holder``: who listens there, None if nobody does; ``ours``: it is
    the running server. ``may_bind``: we could. ``handed_over``: systemd holds it for its unit."""

    kind: Literal["http", "https"]
    address: str
    port: int
    holder: str | None
    ours: bool
    may_bind: bool
    handed_over: bool = False


def ports(
    facts: tuple[PortFacts, ...], *, running: bool | None, http_01: bool, public: bool
) -> Iterator[Finding]:
    """``running`` None: there may be a server, which this user may not ask; ``public``: a CA on the
    internet has to reach it."""
    for one in facts:
        yield _port(one, running)
    for kind, number in (("http", 80), ("https", 443)):
        mine = [one.port for one in facts if one.kind == kind]
        if public and mine and number not in mine and (kind == "https" or http_01):
            listed = ", ".join(map(str, mine))
            yield Finding(
                "attention", "ports",
                f"{kind} is served on {listed}, and CAs and visitors come to {number}",
                f"have {number} forwarded there (router, container, or nftables redirect)",
            )  # fmt: skip


def _port(one: PortFacts, running: bool | None) -> Finding:
    about = "ports"
    if one.handed_over:
        return Finding("ok", about, f"{one.address} is bound by systemd, which hands it over")
    if one.ours:
        return Finding("ok", about, f"{one.address}: this server listens")
    if one.holder is not None and running is None:
        return Finding(
            "unknown", about, f"{one.address} is held by {one.holder}; perhaps it is this server",
            "ask as root",
        )  # fmt: skip
    if one.holder is not None and running:
        return Finding(
            "wrong", about, f"{one.address} is held by {one.holder}, not by the running server",
            "stop that one, or set listen, then treehouse-proxy reload",
        )  # fmt: skip
    if one.holder is not None and one.holder.startswith("treehouse-proxy:"):
        return Finding(
            "wrong", about,
            f"{one.address} is held by {one.holder}, which has another state directory, or whose "
            "own was removed",
            "ask that one, by its --config or --state; restart it where its directory is gone",
        )  # fmt: skip
    if one.holder is not None:
        return Finding(
            "wrong", about, f"{one.address} is held by {one.holder}",
            "stop that one, or set listen to another port",
        )  # fmt: skip
    if running:
        return Finding(
            "wrong", about, f"{one.address}: nobody listens, though a server runs",
            "treehouse-proxy plan, then treehouse-proxy reload",
        )  # fmt: skip
    if not one.may_bind:
        return Finding(
            "wrong", about, f"{one.address} is free, and this user may not bind it",
            f"start as root, or sysctl -w net.ipv4.ip_unprivileged_port_start={one.port}, or let "
            "systemd bind it (config/systemd)",
        )  # fmt: skip
    return Finding("ok", about, f"{one.address} is free")
