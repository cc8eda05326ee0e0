"""A copy of the program, for tests that change it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .server import REPOSITORY


def copied(folder: Path) -> Path:
    """Copy the program into a folder; where its packages are then. What is compiled comes along,
    with the times by which Python knows the modules that have been changed."""
    copy = folder / "program"
    copy.mkdir()
    for package in ("proxy", "acme_client"):
        subprocess.run(["cp", "-a", REPOSITORY / package, copy], check=True)
    subprocess.run(["chmod", "-R", "a+rX", copy], check=True)
    return copy
