"""What each process of a running server weighs: memory and descriptors, as the kernel counts them.

PSS is what a process has of its own and its share of what it has in common with others, so that the
sum over all is what the server takes; RSS would count the shared pages of forked workers again and
again. A leak adds to ``anonymous``: all that the process has written, whoever shares it. What a process
shares with nobody (Private in smaps) is no measure of a leak: it grows when a process that was forked
from it ends.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .server import Server


@dataclass(frozen=True, slots=True)
class Weight:
    title: str
    pid: int
    pss: int  # KiB
    anonymous: int  # KiB
    descriptors: int


def weigh(server: Server, state: Path) -> list[Weight]:
    """The processes that serve, by title; what drains is left out."""
    status = server.status(state)
    found: list[Weight | None] = []
    if server.pid != status["pid"]:
        found.append(_weight("keeper", server.pid))
    found.append(_weight("supervisor", status["pid"]))
    workers = {one["pid"]: one for one in status["workers"]}
    others = (pid for pid in _children(status["pid"]) if pid not in workers)
    found += [_weight("certifier", pid) for pid in others]
    for number, (pid, one) in enumerate(sorted(workers.items()), 1):
        if one["state"] == "serving":
            found.append(_weight(f"worker {number}", pid))
    return [one for one in found if one is not None]


def _children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            yield from map(int, task.read_text().split())


def _weight(title: str, pid: int) -> Weight | None:
    """None for one that has just ended."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None
    kib = {key: int(value.split()[0]) for key, value in _facts(rollup)}
    return Weight(title, pid, kib["Pss"], kib["Anonymous"], descriptors)


def _facts(rollup: str) -> Iterator[tuple[str, str]]:
    for line in rollup.splitlines()[1:]:
        key, _, value = line.partition(":")
        yield key, value


def table(moments: Iterable[tuple[str, list[Weight]]]) -> list[str]:
    """Lines, one for each process; a column for each moment."""
    columns = [(title, {one.title: one for one in weights}) for title, weights in moments]
    titles = list(dict.fromkeys(name for _, weights in columns for name in weights))
    lines = [
        "  " + f"{'PSS, anonymous, descriptors':<30}" + "".join(f"{t:>30}" for t, _ in columns)
    ]
    for title in titles:
        cells = [_cell(weights.get(title)) for _, weights in columns]
        lines.append("  " + f"{title:<30}" + "".join(f"{one:>30}" for one in cells))
    sums = [sum(one.pss for one in weights.values()) for _, weights in columns]
    lines.append("  " + f"{'all':<30}" + "".join(f"{f'{one} KiB':>30}" for one in sums))
    return lines


def _cell(one: Weight | None) -> str:
    return f"{one.pss} KiB, {one.anonymous} KiB, {one.descriptors}" if one else "-"
