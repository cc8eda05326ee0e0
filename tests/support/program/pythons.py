"""The Pythons of this machine that the program may be run by."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .chroot import CACHE, REPOSITORY

OLDEST = (3, 11)
_ASK = (
    "import json, platform, ssl, sys; print(json.dumps([platform.python_implementation(), "
    "sys.version_info[:3], ssl.OPENSSL_VERSION, sys.executable]))"
)


@dataclass(frozen=True, slots=True)
class Python:
    path: Path
    version: tuple[int, int, int]
    openssl: str

    @property
    def name(self) -> str:
        return ".".join(map(str, self.version))


def found() -> list[Python]:
    """Every CPython from 3.11 on with `ssl`: Debian's, those of PATH, those of pyenv; the oldest
    first, and each version once."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [Path("/usr/bin"), *map(Path, os.environ["PATH"].split(":"))]
    folders += sorted(root.glob("versions/*/bin"))
    pythons: dict[tuple[int, int, int], Python] = {}
    asked: set[Path] = set()
    for folder in folders:
        for path in sorted(folder.glob("python3.[0-9]*")):
            if not path.name[len("python3.") :].isdecimal() or path.resolve() in asked:
                continue
            asked.add(path.resolve())
            python = _asked(path)
            if python is not None:
                pythons.setdefault(python.version, python)
    return [pythons[version] for version in sorted(pythons)]


def environment(python: Python, only: Sequence[str] = ()) -> Path:
    """A virtual environment of its own, with the exact packages of every other; made once. ``only``:
    of the packages for development, these and what they need; an installation of all of them takes
    a minute. For the Python that runs this it is the one that runs this: in the Debian of the matrix
    nothing can be fetched."""
    if python.version == sys.version_info[:3]:
        return Path(sys.prefix)
    lock = (REPOSITORY / "requirements/dev.txt").read_text()
    if only:
        lock = locked(lock, ["-r requirements/run.in", *only])
    venv = CACHE / f"python-{python.name}{'-quick' if only else ''}"
    ready = venv / f".ready-{hashlib.sha256(lock.encode()).hexdigest()[:16]}"
    if not ready.exists():
        subprocess.run([python.path, "-m", "venv", venv], check=True)
        (venv / "locked.txt").write_text(lock)
        pip = [venv / "bin/pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "-r", venv / "locked.txt"], check=True)
        ready.touch()
    return venv


def locked(lock: str, only: Sequence[str]) -> str:
    """Of what pip-compile has written, these packages, and those that are there because of them; a
    file of requirements, too, is named as pip-compile names it. pip refuses what lacks a package."""
    entries = {
        entry[: entry.index("==")]: entry
        for entry in re.findall(r"^[\w.-]+==.*\n(?: .*\n)*", lock, re.MULTILINE)
    }
    kept = set(only)
    while more := {
        name
        for name, entry in entries.items()
        if name not in kept
        and kept.intersection(re.findall(r"^ +#(?: via)? +(\S.*)", entry, re.MULTILINE))
    }:
        kept |= more
    return "".join(entry for name, entry in entries.items() if name in kept)


def _asked(path: Path) -> Python | None:
    """None for what is no CPython of ours, or does not start."""
    try:
        done = subprocess.run(
            [path, "-I", "-c", _ASK], capture_output=True, text=True, timeout=60, check=True
        )
        kind, (major, minor, micro), openssl, itself = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    if kind != "CPython" or (major, minor) < OLDEST:
        return None
    return Python(Path(itself), (major, minor, micro), openssl)
