"""`make test-matrix`: the suite on Debian 13, the units under its systemd, fast tests on each Python.

    PYTHONPATH=.:tests python -m tests.matrix.run [--quick] [--only WORDS]

Debian 13 is made by debootstrap below /var/cache/treehouse-proxy/matrix (or $MATRIX_CACHE), some
4 GB with what the tests need, and kept; so are the environments of the Pythons. What is at hand
decides: Debian 12's Python, those of pyenv, and the one of Debian's next release for what is newer.
``--quick`` runs what depends on OpenSSL, on the event loop and on the interpreter, and no more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from support.program import pythons
from support.program.chroot import Chroot
from support.program.server import REPOSITORY

_FAST = ["-m", "not program and not pebble"]
_QUICK = [
    "tests/proxy/transport",
    "tests/proxy/tls",
    "tests/proxy/ipc",
    "tests/proxy/worker",
    "tests/proxy/system",
    "tests/proxy/sandbox",
]
# What these import that the program does not.
_QUICK_PACKAGES = [
    "hypothesis", "pytest", "pytest-asyncio", "pytest-timeout", "pytest-xdist", "trustme",
]  # fmt: skip
# Of the real program: TLS in all its forms, processes, reloads and upgrades.
_QUICK_PROGRAM = [
    f"tests/e2e/test_{name}.py"
    for name in ("tls_groups", "behaviour", "key_types", "processes", "reloads", "upgrade", "units")
]
_PYTEST = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]


def main() -> int:
    arguments = _arguments()
    if os.geteuid() != 0:
        print("only root can make and enter a Debian: sudo make test-matrix", file=sys.stderr)
        return 2
    steps: list[tuple[str, Callable[[], int]]] = [
        ("Debian 13: the suite", lambda: _suite(Chroot("trixie"), arguments.quick)),
        ("Debian 13: its systemd as process 1", _systemd),
    ]
    there = pythons.found()
    for python in there:
        newest = ", the newest here," if python is there[-1] else ""
        name = f"Python {python.name}{newest} with {python.openssl}: fast tests"
        steps.append((name, lambda python=python: _python(python, arguments.quick)))
    steps.append(
        ("Debian's next release: fast tests", lambda: _fast(Chroot("forky"), arguments.quick))
    )
    outcomes = []
    for name, step in steps:
        if arguments.only and arguments.only not in name:
            continue
        print(f"== {name}", flush=True)
        begun = time.monotonic()
        try:
            status = step()
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            print(error, file=sys.stderr)
            status = 1
        took = time.monotonic() - begun
        outcomes.append((name, status, took))
    print()
    for name, status, took in outcomes:
        print(f"{'passed' if status == 0 else 'FAILED'}  {took:6.0f} s  {name}")
    return 1 if not outcomes or any(status for _, status, _ in outcomes) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="what depends on the platform")
    parser.add_argument("--only", help="steps whose name holds this")
    return parser.parse_args()


def _prepare(chroot: Chroot, peers: bool) -> None:
    chroot.make()
    chroot.install(peers)
    print(chroot.version(), flush=True)


def _suite(chroot: Chroot, quick: bool) -> int:
    _prepare(chroot, peers=True)
    if quick:
        return chroot.run(".venv/bin/python", *_PYTEST, "-n", "2", *_QUICK, *_QUICK_PROGRAM)
    return chroot.run("make", "test")


def _fast(chroot: Chroot, quick: bool) -> int:
    _prepare(chroot, peers=False)
    return chroot.run(
        ".venv/bin/python", *_PYTEST, "-n", "2", *_FAST, *(_QUICK if quick else ["tests"])
    )


def _systemd() -> int:
    chroot = Chroot("trixie")
    chroot.make()
    chroot.install_program()
    here = str(Path(__file__).parent / "test_systemd.py")
    return subprocess.run([sys.executable, *_PYTEST, here], check=False).returncode


def _python(python: pythons.Python, quick: bool) -> int:
    venv = pythons.environment(python, _QUICK_PACKAGES if quick else ())
    chosen = _QUICK if quick else ["tests"]
    command = [str(venv / "bin/python"), *_PYTEST, "-n", "2", *_FAST, *chosen]
    alone = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
    return subprocess.run([*alone, *command], cwd=REPOSITORY, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
