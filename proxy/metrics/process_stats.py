"""What the kernel counts of each process of the tree, under the names that Prometheus' client
libraries give it (process_cpu_seconds_total and so on).

The library's own collector knows one process, the one it runs in; a scrape would show whichever
worker happens to answer. So the supervisor looks at all of them, from /proc, and each gets a label.
What it may not see of another process (the open descriptors of one that is not dumpable) that
process tells itself.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..ipc.documents import ProcessFigures

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# proc(5), /proc/PID/stat, counted from the field behind the command's name.
_UTIME, _STIME, _STARTTIME, _VSIZE, _RSS = 11, 12, 19, 20, 21


def of(pid: int, title: str, proc: Path = _PROC) -> ProcessFigures | None:
    """None for a process that has ended."""
    try:
        stat = (proc / str(pid) / "stat").read_text("utf-8", "replace")
        limits = (proc / str(pid) / "limits").read_text("ascii")
        boot = _booted(proc)
    except (OSError, ValueError):
        return None
    fields = stat.rpartition(")")[2].split()
    return {
        "process": title,
        "cpu_seconds": (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS,
        "start_time_seconds": boot + int(fields[_STARTTIME]) / _TICKS,
        "virtual_memory_bytes": int(fields[_VSIZE]),
        "resident_memory_bytes": int(fields[_RSS]) * _PAGE,
        "max_fds": _most_descriptors(limits),
        "open_fds": None,
    }


def open_descriptors() -> int | None:
    """Of this process; the one that looks them up is not counted. None where there is none left to
    look with."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        return None


def _booted(proc: Path) -> int:
    for line in (proc / "stat").read_text("ascii").splitlines():
        if line.startswith("btime "):
            return int(line.split()[1])
    raise ValueError("no boot time")


def _most_descriptors(limits: str) -> int:
    for line in limits.splitlines():
        if line.startswith("Max open files"):
            return int(line.split()[3])
    raise ValueError("no limit of open files")
