"""The bound on descriptors that a process may have (RLIMIT_NOFILE), and how far it can be raised.

The soft limit may always be raised to the hard one. The hard limit may be raised by a process with
CAP_SYS_RESOURCE, up to fs.nr_open: at a start as root, before the privileges are dropped
(setrlimit(2), capabilities(7)). Children inherit both.
"""

from __future__ import annotations

import contextlib
import re
import resource
from pathlib import Path

_CAP_SYS_RESOURCE = 24


def most() -> int | None:
    """Descriptors that this process and its children can be allowed; None is unlimited."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return None
    return max(hard, _ceiling()) if _may_raise_hard() else hard


def raise_to(count: int) -> None:
    """Allow this process and its children so many descriptors, as far as that can be done. Neither
    limit is lowered."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count and _may_raise_hard():
        wanted = max(hard, min(count, _ceiling()))
        # A container's own security module may refuse it all the same.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return
    if hard != resource.RLIM_INFINITY:
        count = min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def _may_raise_hard() -> bool:
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text()
        found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
        return found is not None and bool(int(found[1], 16) >> _CAP_SYS_RESOURCE & 1)
    return False


def _ceiling() -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/proc/sys/fs/nr_open").read_text())
    return 0
