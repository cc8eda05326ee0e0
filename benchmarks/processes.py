"""A server's process tree: what it costs, read from /proc; and starting and stopping it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> Iterator[int]:
    """``root`` and all its descendants."""
    yield root
    for task in Path(f"/proc/{root}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:  # a thread that has ended meanwhile
            continue
        for child in children:
            yield from tree(int(child))


def cpu_seconds(root: int) -> float:
    """User and system time of the tree, with that of children that have been waited for."""
    return sum(sum(_ticks(pid)) for pid in tree(root)) / _TICKS


def cpu_nanoseconds(root: int) -> int:
    """CPU time of the tree's processes and threads that live, as the scheduler counts it: finer than
    the ticks of `cpu_seconds`."""
    spent = 0
    for pid in tree(root):
        for schedstat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # the thread has ended meanwhile
                spent += int(schedstat.read_text().split()[0])
    return spent


def own_cpu_seconds(pid: int) -> float:
    """User and system time of one process alone."""
    return sum(_ticks(pid)[:2]) / _TICKS


def _ticks(pid: int) -> list[int]:
    """User and system time of a process, and of children that it has waited for; nothing for one
    that has ended since it was seen."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return [0, 0, 0, 0]
    return [int(fields[at]) for at in (11, 12, 13, 14)]


def pss_kib(root: int) -> int:
    """Proportional set size of the tree: shared pages count once among those who share them."""
    return sum(map(own_pss_kib, tree(root)))


def own_pss_kib(pid: int) -> int:
    """Proportional set size of one process; 0 of one that has ended since it was seen."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def written(pid: int) -> int:
    """Bytes that a process has handed to write(2) since its start: files, for the most part."""
    return int(re.findall(r"wchar: (\d+)", Path(f"/proc/{pid}/io").read_text())[0])


def title(pid: int) -> str:
    """The command line of a process, as `ps` shows it."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def start(command: list[str], core: str, log: Path, cwd: Path) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name != "OPENSSL_CONF"}
    with log.open("ab") as out:
        return subprocess.Popen(
            ["taskset", "-c", core, *command], cwd=cwd, stdout=out, stderr=out,
            start_new_session=True, env=environment,
        )  # fmt: skip


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the whole group, first politely."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        time.sleep(0.05)
