"""A copy of the program, for tests that change it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .server import REPOSITORY

_TRIES = 5


def copied(folder: Path) -> Path:
    """Copy the program into a folder; where its packages are then. What is compiled comes along,
    with the times by which Python knows the modules that have been changed."""
    copy = folder / "program"
    copy.mkdir()
    command = ["cp", "-a", REPOSITORY / "proxy", REPOSITORY / "acme_client", copy]
    # A process that compiles a module meanwhile renames a file, and cp misses it.
    if not any(subprocess.run(command, check=False).returncode == 0 for _ in range(_TRIES)):
        raise AssertionError(f"the program cannot be copied to {copy}")
    subprocess.run(["chmod", "-R", "a+rX", copy], check=True)
    return copy
