"""What a confined process keeps, and what is a change for it.

The rest of the sandbox is shown from inside real workers: tests/e2e/test_processes.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proxy.sandbox import Grant, Policy, footing, landlock

_CACHES = Path("/proc/sys/vm/drop_caches")

forgetful = pytest.mark.skipif(
    not os.access(_CACHES, os.W_OK), reason="only root can have the kernel drop its caches"
)


def forget() -> None:
    """Twice, because what was used lately is spared the first time."""
    for _ in range(3):
        _CACHES.write_text("2")


def test_what_is_read_once_may_be_replaced_and_what_is_read_again_may_not(tmp_path: Path) -> None:
    once, again = tmp_path / "once", tmp_path / "again"
    policy = Policy(100, read=(Grant(once, "trusted CAs", once=True), Grant(again, "files")))

    def replace(path: Path) -> None:
        (tmp_path / "new").write_text("")
        (tmp_path / "new").rename(path)

    replace(once)
    replace(again)
    before = footing(policy)
    replace(once)
    assert footing(policy) == before
    replace(again)
    assert footing(policy) != before


@forgetful
def test_a_forgotten_proc_is_no_change_of_the_disk() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        figures = Path(f"/proc/{other.pid}")
        policy = Policy(descriptors=100, read=(Grant(figures, "figures"),))
        before, inode = footing(policy), figures.stat().st_ino
        deadline = time.monotonic() + 60
        while figures.stat().st_ino == inode:  # it is not forgotten while somebody looks at it
            assert time.monotonic() < deadline, "the kernel has not forgotten"
            forget()
        assert footing(policy) == before


@forgetful
@pytest.mark.skipif(landlock.abi() == 0, reason="no Landlock in this kernel")
def test_a_confined_process_still_reads_its_own_figures() -> None:
    inside = """
import os
from pathlib import Path
from proxy import sandbox
from proxy.metrics import process_stats
sandbox.apply(sandbox.Policy(100, read=(sandbox.Grant(Path("/proc/self"), "figures"),)), "auto")
print(process_stats.open_descriptors(), flush=True)
input()
print(process_stats.open_descriptors())
"""
    with subprocess.Popen(
        [sys.executable, "-c", inside],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        before = process.stdout.readline()
        forget()
        process.stdin.write("\n")
        process.stdin.close()
        assert int(before) > 3
        assert process.stdout.read() == before
