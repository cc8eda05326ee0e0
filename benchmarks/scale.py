"""`python -m benchmarks.scale [--quick] [--counts N,…] [--peers NAMES] [--only WORD]`: what sites cost.

For 1, 100, 1,000 and 10,000 sites: from the start until every site is served, what a worker takes of
memory, a reload, a certifier that is killed, first certificates from the built-in CA, a status, and
handshakes for names that nobody has asked for yet and for names that somebody has; nginx and Caddy
with as many sites in the same run, as far as they have the thing.

One server runs at a time. Where others use the machine, seconds are what they may be; CPU seconds and
bytes stand. What fails is told on the page and in the exit status, and keeps nothing else from being
measured; what has not begun after `_ENDS_WITHIN` is left out, and told too. 100,000 sites are measured
with ``--counts 100000 --peers treehouse-proxy``, which takes twenty minutes and writes nothing.
"""

from __future__ import annotations

import argparse
import datetime
import os
import random
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

from proxy.ipc import control_client
from proxy.ipc.control_client import NotRunning

from . import load, many_sites, peers, processes, scale_report
from .many_sites import Sites
from .scale_report import Results

HERE = Path(__file__).resolve().parent
WORKERS = 2
COUNTS = (1, 100, 1_000, 10_000)
QUICK_COUNTS = (1, 100, 1_000)
_OURS = "treehouse-proxy"
_STARTS_WITHIN = 600.0
_COMES_WITHIN = 180.0  # what is waited for afterwards
# Handshakes for each figure.
_HANDSHAKES = 400
_QUIET_FOR = 2.0  # seconds without work after which everything counts as as it was
_OBTAIN_FOR = 60.0  # of first certificates, where not all have come by then
# What takes longer than that from the beginning of the whole on is not begun: a round of the
# largest number takes two minutes, and the whole is to end within twenty.
_ENDS_WITHIN = 1020.0
_PEERS = list(many_sites.COMMANDS)
_BEGUN = time.monotonic()


def main() -> int:
    wanted = _arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # what was started is stopped then, too
    results: Results = {}
    troubles: list[str] = []
    for count in wanted.counts:
        # Not below this folder: the server's user may not be able to enter it.
        with tempfile.TemporaryDirectory(prefix="scale-", dir="/var/tmp") as folder:
            _rounds(Path(folder), count, wanted, results, troubles)
    page = scale_report.page(results, _heading(), troubles)
    if wanted.quick or wanted.only or wanted.counts != list(COUNTS) or wanted.peers != _PEERS:
        print(page)
    else:
        (HERE / "scale.md").write_text(page)
        (HERE / "scale.svg").write_text(scale_report.chart(results))
        print(f"written: {HERE / 'scale.md'} and scale.svg, after {_elapsed():.0f} s")
    return 1 if troubles else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="up to 1,000 sites, within 3 minutes")
    parser.add_argument("--counts", type=lambda text: [int(one) for one in text.split(",")])
    parser.add_argument("--peers", type=lambda text: text.split(","), default=_PEERS)
    parser.add_argument("--only", default="", help="standing or first: certificates that are there, or none")  # fmt: skip
    found = parser.parse_args()
    found.counts = found.counts or list(QUICK_COUNTS if found.quick else COUNTS)
    return found


def _rounds(
    folder: Path, count: int, wanted: argparse.Namespace, results: Results, troubles: list[str]
) -> None:
    """All servers in turn with so many sites."""
    folder.chmod(0o755)

    def begin(what: str, peer: str, sites: Sites, measure: Measure) -> None:
        print(f"{count} sites: {peer}, {what}", flush=True)
        if count >= max(COUNTS) and _elapsed() > _ENDS_WITHIN and wanted.counts == list(COUNTS):
            troubles.append(f"{count} sites, {peer}, {what}: not begun, for want of time")
            return

        def note(what: str, value: float) -> None:
            results.setdefault(what, {}).setdefault(count, {})[peer] = value
            print(f"  {what}: {value:,.3f}", flush=True)

        try:
            with Server(peer, sites) as server:
                measure(server, note)
        except (OSError, RuntimeError, subprocess.SubprocessError, NotRunning) as error:
            troubles.append(f"{count} sites, {peer}, {what}: {error}")
            print(f"  FAILED: {error}", flush=True)

    if wanted.only in ("", "standing"):
        sites = many_sites.prepare(folder / "standing", count, certified=True)
        many_sites.own(sites)
        for peer in wanted.peers:
            begin("certificates there", peer, sites, Server.measure)
    if _OURS in wanted.peers and wanted.only in ("", "first"):
        sites = many_sites.prepare(folder / "first", count, certified=False)
        many_sites.own(sites)
        seconds = _OBTAIN_FOR / 3 if wanted.quick else _OBTAIN_FOR
        begin("none there", _OURS, sites, lambda server, note: server.measure_first(note, seconds))


def _elapsed() -> float:
    return time.monotonic() - _BEGUN


class Server:
    """A server on its sites, from start to stop."""

    def __init__(self, peer: str, sites: Sites) -> None:
        self.peer = peer
        self.sites = sites
        self._rng = random.Random(7)
        self._context: ssl.SSLContext | None = None

    def __enter__(self) -> Server:
        command = many_sites.COMMANDS[self.peer](self.sites, many_sites.PORT, WORKERS)
        self._begun = time.monotonic()
        self._log = self.sites.work / "output.log"
        self._process = processes.start(command, "0,1", self._log, peers.REPOSITORY)
        self.pid = self._process.pid
        return self

    def __exit__(self, *_: object) -> None:
        processes.stop(self._process)

    # Certificates are there

    def measure(self, note: scale_report.Note) -> None:
        names = self.sites.names
        self._await(sorted({names[0], names[len(names) // 2], names[-1]}))
        note("start to serving, s", time.monotonic() - self._begun)
        note("start to serving, CPU s of all", processes.cpu_seconds(self.pid))
        time.sleep(_QUIET_FOR)
        note("worker at rest, PSS MB", self._worker_pss())
        note("all processes at rest, PSS MB", processes.pss_kib(self.pid) / 1000)
        self._handshakes(note)
        note("worker after these handshakes, PSS MB", self._worker_pss())
        if self.peer == _OURS:
            self._status(note)
            self._certifier_killed(note)
        self._reload(note)

    def _handshakes(self, note: scale_report.Note) -> None:
        asked = self._rng.sample(self.sites.names, min(_HANDSHAKES, len(self.sites.names)))
        for kind, several in (("cold", asked), ("hot", asked)):
            if kind == "hot":
                several = [*asked[:50]] * 8
                for name in asked[:50] * WORKERS * 2:
                    self._handshake(name)  # any worker may have had none of it
            before = processes.cpu_seconds(self.pid)
            taken = sorted(self._handshake(name) for name in several)
            note(f"handshake, {kind}: p50, ms", median(taken) * 1e3)
            note(f"handshake, {kind}: p99, ms", taken[int(len(taken) * 0.99)] * 1e3)
            spent = processes.cpu_seconds(self.pid) - before
            note(f"handshake, {kind}: CPU, ms", spent / len(taken) * 1e3)
            note(f"requests per second, {kind} names", len(taken) / sum(taken))

    def _status(self, note: scale_report.Note) -> None:
        begun = time.monotonic()
        control_client.status(self.sites.state)
        note("status, JSON, s", time.monotonic() - begun)
        begun = time.monotonic()
        words = [sys.executable, "-m", "proxy", "status", "--state", str(self.sites.state)]
        said = subprocess.run(words, cwd=peers.REPOSITORY, capture_output=True, check=True).stdout
        note("status, text, s", time.monotonic() - begun)
        note("status, text, lines", said.count(b"\n"))

    def _certifier_killed(self, note: scale_report.Note) -> None:
        before = self._kinds()
        workers = {pid: processes.own_cpu_seconds(pid) for pid in before["worker"]}
        supervisor = processes.own_cpu_seconds(self.pid)
        begun = time.monotonic()
        os.kill(before["certifier"][0], signal.SIGKILL)
        _until(lambda: self._kinds()["certifier"] not in ([], before["certifier"]), "a certifier")
        certifier = self._kinds()["certifier"][0]
        self._quiet()
        note("certifier killed: until as before, s", time.monotonic() - begun - _QUIET_FOR)
        spent = [processes.own_cpu_seconds(pid) - was for pid, was in workers.items()]
        note("certifier killed: CPU per worker, s", max(spent))
        note("certifier killed: CPU of the supervisor, s", processes.own_cpu_seconds(self.pid) - supervisor)  # fmt: skip
        note("certifier killed: CPU of the new one, s", processes.own_cpu_seconds(certifier))

    def _reload(self, note: scale_report.Note) -> None:
        before = processes.cpu_seconds(self.pid)
        old = set(processes.tree(self.pid))
        begun = time.monotonic()
        if self.peer == _OURS:
            answer = control_client.ask(self.sites.state, {"command": "reload"}, 120.0)
            if not answer["ok"]:
                raise RuntimeError(f"the reload failed: {answer}")
        elif self.peer == "nginx":
            self._process.send_signal(signal.SIGHUP)
            _until(lambda: len(set(processes.tree(self.pid)) - old) >= WORKERS, "new workers")
        else:
            caddy = [peers.caddy(), "reload", "--force", "--address", f"127.0.0.1:{many_sites.PORT + 2}"]  # fmt: skip
            config = ["--config", str(self.sites.work / "caddy.json")]
            subprocess.run([*caddy, *config], check=True, capture_output=True)
        note("reload, s", time.monotonic() - begun)
        self._quiet()
        # Whoever has ended is not counted any more: what is left is what the new ones took.
        note("reload, CPU s of all that stays", processes.cpu_seconds(self.pid) - before)
        note("all processes after a reload, PSS MB", processes.pss_kib(self.pid) / 1000)

    # None is there yet

    def measure_first(self, note: scale_report.Note, seconds: float) -> None:
        """How many certificates a second come from the built-in CA, and what is written for each."""
        names = self.sites.names
        self._await(names[:1])
        folder = self.sites.state / "certificates"
        begun, had = time.monotonic(), _obtained(folder)
        halves = []
        while had < len(names) and time.monotonic() - begun < seconds:
            began, was = time.monotonic(), had
            time.sleep(min(seconds / 8, 5.0))
            had = _obtained(folder)
            halves.append((had - was) / (time.monotonic() - began))
        if len(halves) > 1 and len(names) >= 1_000:
            note("first certificates per second, at first", halves[0])
            note("first certificates per second, at last", halves[-2 if had >= len(names) else -1])
        certifier = self._kinds()["certifier"]
        if certifier and had >= 100:
            note("first certificates, CPU ms of the certifier each",
                 processes.own_cpu_seconds(certifier[0]) / had * 1e3)  # fmt: skip
            note("first certificates, bytes written each", processes.written(certifier[0]) / had)
            ledgers = [one.stat().st_size for one in self.sites.state.glob("ledgers/*/*")]
            note("ledger on disk, bytes", sum(ledgers))

    # How it is

    def _await(self, some: Iterable[str]) -> None:
        deadline = time.monotonic() + _STARTS_WITHIN
        for name in some:
            while True:
                try:
                    self._handshake(name)
                    break
                except OSError:
                    if time.monotonic() > deadline or self._process.poll() is not None:
                        raise RuntimeError(f"{name} is not served: {self._log.read_text()[-2000:]}") from None  # fmt: skip
                    time.sleep(0.02)

    def _handshake(self, name: str) -> float:
        """One connection and one request; the seconds that it took."""
        if self._context is None:
            self._context = load.client_context(self.sites.ca)
        begun = time.monotonic()
        with load.connect(self._context, many_sites.PORT, name) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % name.encode())  # fmt: skip
            answer = b""
            while piece := sock.recv(65536):
                answer += piece
        if not answer.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(f"{name} answered {answer[:40]!r}")
        return time.monotonic() - begun

    def _kinds(self) -> dict[str, list[int]]:
        """The pids of workers and certifier (of workers alone, for a peer)."""
        kinds: dict[str, list[int]] = {"worker": [], "certifier": []}
        for pid in processes.tree(self.pid):
            title = processes.title(pid)
            if self.peer == "caddy" or "worker" in title:
                kinds["worker"].append(pid)
            elif "certifier" in title:
                kinds["certifier"].append(pid)
        return kinds

    def _worker_pss(self) -> float:
        return median(processes.own_pss_kib(pid) for pid in self._kinds()["worker"]) / 1000

    def _quiet(self) -> None:
        """Wait until nothing has worked for a while."""
        begun = time.monotonic()
        before, since = processes.cpu_seconds(self.pid), begun
        while time.monotonic() - since < _QUIET_FOR:
            if time.monotonic() - begun > _COMES_WITHIN:
                raise RuntimeError(f"it still works after {_COMES_WITHIN:.0f} s")
            time.sleep(0.1)
            now = processes.cpu_seconds(self.pid)
            if abs(now - before) > 0.1:
                before, since = now, time.monotonic()


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _COMES_WITHIN
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {_COMES_WITHIN:.0f} s")
        time.sleep(0.01)  # processes of others: there is no event to await


Measure = Callable[[Server, scale_report.Note], None]


def _obtained(folder: Path) -> int:
    """Certificates that are on the disk."""
    return sum(1 for one in folder.glob("*/current")) if folder.exists() else 0


def _heading() -> dict[str, str]:
    return {
        "when": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "commit": peers.commit(),
        "servers": ", ".join(f"{one} {peers.version(one)}" for one in many_sites.COMMANDS),
    }


if __name__ == "__main__":
    sys.exit(main())
