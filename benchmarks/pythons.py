"""`python -m benchmarks.pythons [--quick] [--only WORD]`: Python x OpenSSL x what it costs.

One server for each Python runs at the same time and rests while the others are asked, so that what
changes on the machine falls on all alike; each figure is the least of several rounds, because other
work on the machine only ever adds to it. CPU is that of the server's process tree, in nanoseconds of
the scheduler. Memory and starts are measured one server at a time, nothing else of ours running.

The Pythons are Debian's and pyenv's of this machine, and those of newer releases of Debian in a folder
each, as `make test-matrix` makes them: there OpenSSL is another one, too. The clients are the same for
all, and offer what the oldest knows: so a group or cipher that only a newer OpenSSL has is in no figure.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from support.program import pythons
from support.program.chroot import Chroot

from . import load, peers, processes, scenarios
from .peers import PEERS, Peer, Place
from .run import (
    HERE,
    LOAD_CORE,
    SERVER_CORE,
    WAKING,
    WORK,
    await_answer,
    await_port,
    idle_kib,
    prepare,
)

# Newer releases of Debian than this one, where they have been made.
_RELEASES = {"trixie": "Debian 13", "forky": "Debian's next release"}
_ASK = "import ssl, sys; print(sys.version.split()[0], ssl.OPENSSL_VERSION.split()[1], sep=' · ')"
_FIRST_PORT = 21400
_CONNECTIONS = 32
_IDLE = 1000
_WRK = ("static 100 B", "static 10 KiB", "proxied 100 B")
# In the order of the table's columns, with the unit of each.
_COLUMNS = {
    **dict.fromkeys(_WRK, "µs"),
    "full handshake": "µs",
    "resumed handshake": "µs",
    "idle connection": "KiB",
    "at rest, two workers": "MiB",
    "start": "CPU ms",
}
# Figures by environment and column; one for each round.
Found = dict[str, dict[str, list[float]]]


@dataclass(frozen=True, slots=True)
class Environment:
    """A Python with the program's dependencies. ``enter`` makes a command one that runs there."""

    name: str
    python: str
    enter: Callable[[list[str]], list[str]]

    def label(self) -> str:
        """Version of Python and OpenSSL, as they say."""
        done = subprocess.run(
            self.enter([self.python, "-c", _ASK]), capture_output=True, text=True, check=True
        )
        return done.stdout.strip()


def main() -> int:
    arguments = _arguments()
    if os.geteuid() != 0:
        print("only root can enter another Debian: sudo make bench-pythons", file=sys.stderr)
        return 2
    WORK.mkdir(exist_ok=True)
    load.offer_one_cipher(WORK)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    place = prepare()
    found: Found = {}
    chosen = list(_environments(arguments.only))
    labels = {one.name: one.label() for one in chosen}
    backend = processes.start(
        peers.backend(place.work), LOAD_CORE, place.work / "b.log", place.work
    )
    try:
        await_port(peers.BACKEND_PORT)
        rounds = 2 if arguments.quick else 8
        _ask_in_turn(chosen, place, rounds, found)
        for _ in range(1 if arguments.quick else 3):
            for one in chosen:
                print(f"memory and start: {one.name}", flush=True)
                _weigh(one, place, found)
    finally:
        processes.stop(backend)
    folder = WORK if arguments.quick or arguments.only else HERE
    path = folder / "pythons.md"
    path.write_text(_page(found, labels, rounds))
    print(f"{path.read_text()}\nwritten: {path}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    parser.add_argument("--only", default="", help="Pythons whose name holds this")
    return parser.parse_args()


def _environments(only: str) -> Iterator[Environment]:
    """Yield those whose name holds ``only``. Others are not made, because that takes minutes."""
    for python in pythons.found():
        kind = "Debian 12" if python.path.is_relative_to("/usr/bin") else "pyenv"
        name = f"{kind}, Python {python.name}"
        if only in name:
            path = str(pythons.environment(python) / "bin/python")
            yield Environment(name, path, lambda words: words)
    for release, name in _RELEASES.items():
        chroot = Chroot(release)
        if only not in name:
            continue
        if chroot.exists():
            chroot.install(peers=False)
            yield Environment(name, ".venv/bin/python", _entering(chroot))
        else:
            print(f"no Debian {release} here; `make test-matrix` makes it", flush=True)


def _entering(chroot: Chroot) -> Callable[[list[str]], list[str]]:
    # With this machine's network: the clients are outside.
    return lambda words: chroot.command(*words, network=True)


@contextmanager
def _running(
    environment: Environment, place: Place, port: int, workers: int
) -> Iterator[tuple[Peer, int]]:
    """The server as a peer, and the pid of its supervisor; it has answered once."""
    work = place.work / f"python-{port}"
    work.mkdir(exist_ok=True)
    peer = replace(next(one for one in PEERS if one.name == "treehouse-proxy"), port=port)
    _python, *words = peer.command(replace(place, work=work), workers)
    log = work / "output.log"
    command = environment.enter([environment.python, *words])
    process = processes.start(command, SERVER_CORE, log, peers.REPOSITORY)
    try:
        await_answer(process, peer, f"{environment.name} did not start: {log}", 60.0)
        yield peer, _program(process.pid)
    finally:
        processes.stop(process)


def _program(root: int) -> int:
    """The supervisor: the first process below ``root`` that is a Python."""
    for pid in processes.tree(root):
        if Path(os.readlink(f"/proc/{pid}/exe")).name.startswith("python"):
            return pid
    raise RuntimeError("no Python runs there")


def _ask_in_turn(environments: list[Environment], place: Place, rounds: int, found: Found) -> None:
    by_name = {one.name: one for one in scenarios.SCENARIOS}
    with ExitStack() as running:
        servers = [
            (one, *running.enter_context(_running(one, place, _FIRST_PORT + 10 * at, 1)))
            for at, one in enumerate(environments)
        ]
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", flush=True)
            for what in _WRK:
                script = scenarios.script(by_name[what], place.work)
                for environment, peer, pid in servers:
                    url = f"https://localhost:{peer.port}/"
                    _note(found, environment, what, pid, lambda url=url, script=script: load.wrk(
                        url, script, LOAD_CORE, 1, _CONNECTIONS))  # fmt: skip
            for what, resume in (("full handshake", False), ("resumed handshake", True)):
                for environment, peer, pid in servers:
                    _note(found, environment, what, pid, lambda peer=peer, resume=resume:
                          load.handshakes(WORK / "ca.pem", peer, 0.5, resume))  # fmt: skip


def _note(
    found: Found, environment: Environment, what: str, pid: int, ask: Callable[[], load.Load]
) -> None:
    before = processes.cpu_nanoseconds(pid)
    done = ask()
    spent = processes.cpu_nanoseconds(pid) - before
    if done.errors:
        raise RuntimeError(f"{environment.name}, {what}: {done.errors} errors")
    _add(found, environment, what, spent / 1e3 / done.requests)


def _weigh(environment: Environment, place: Place, found: Found) -> None:
    with _running(environment, place, _FIRST_PORT, 2) as (peer, pid):
        _add(found, environment, "start", processes.cpu_nanoseconds(pid) / 1e6)
        time.sleep(1.0)  # what a server does after its first answer belongs to neither figure
        _add(found, environment, "at rest, two workers", processes.pss_kib(pid) / 1024)
        _add(found, environment, "idle connection", idle_kib(peer, pid, _IDLE))


def _add(found: Found, environment: Environment, what: str, figure: float) -> None:
    found.setdefault(environment.name, {}).setdefault(what, []).append(figure)


def _page(found: Found, labels: dict[str, str], rounds: int) -> str:
    heads = "".join(f" {what}, {unit} |" for what, unit in _COLUMNS.items())
    rows = [
        f"| {name} | {labels[name]} |"
        + "".join(f" {_spelled(min(figures[what]))} |" for what in _COLUMNS)
        for name, figures in found.items()
    ]
    table = "\n".join(
        [f"| | Python · OpenSSL |{heads}", f"|---|---|{'---:|' * len(_COLUMNS)}", *rows]
    )
    spread = max(
        max(figures[what]) / min(figures[what]) for figures in found.values() for what in _WRK
    )
    return f"""# Python x OpenSSL

Made by `make bench-pythons` on {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC, commit {peers.commit()};
Linux {platform.release()}, {os.cpu_count()} cores, load average {os.getloadavg()[2]:.1f} (of a quarter of an hour).
CPU of the server's process tree for each request or handshake, the least of {rounds} rounds in alternation (the
dearest round of a request took {spread:.1f} times as much, which is what other work on the machine did); one worker,
TLS 1.3 with TLS_AES_128_GCM_SHA256, X25519 and one ECDSA P-256 key, {_CONNECTIONS} connections for requests and one
for handshakes, each of which has one request. Idle connections: {_IDLE:,}, beyond the first {WAKING}. At rest: PSS of
the tree. Start: CPU of the tree until the first answer.

{table}
"""


def _spelled(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.1f}"


if __name__ == "__main__":
    sys.exit(main())
