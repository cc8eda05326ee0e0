"""Go's client, built once for a working tree; Go keeps what it has compiled. Go's library is compiled
for it, which takes half a minute of a processor: of two runs of tests one waits for the other."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.program.server import REPOSITORY

_SOURCE = Path(__file__).with_name("client.go")
_WITHIN = 600.0  # until it hangs; half a minute of a processor that others may want as well


def go_client() -> Path:
    pytest.importorskip("go")
    made = REPOSITORY / ".run/go"
    made.mkdir(parents=True, exist_ok=True)
    with (made / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(
            [str(Path(sys.executable).with_name("go")), "build", "-o", str(made / "client"), str(_SOURCE)],
            env={"PATH": os.environ["PATH"], "HOME": str(made), "GOCACHE": str(made / "cache"), "CGO_ENABLED": "0"},
            check=True, timeout=_WITHIN,
        )  # fmt: skip
    return made / "client"
