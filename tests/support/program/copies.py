"""A copy of the program, for tests that change it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from .server import REPOSITORY


def copied(folder: Path) -> Path:
    """Copy the program into a folder; where its packages are then."""
    copy = folder / "program"
    for package in ("proxy", "acme_client"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / package, copy / package, ignore=ignored)
    subprocess.run(["chmod", "-R", "a+rX", copy], check=True)
    return copy
