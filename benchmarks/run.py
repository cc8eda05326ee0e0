"""`python -m benchmarks.run [--quick] [--only WORDS] [--peers NAMES]`: all of it, in one run.

Each round asks every peer every scenario, one server running at a time, so that what changes on the
machine in between falls on all alike. The server runs on core 0, the load and the backend on core 1.
Only a whole run changes `results.md` and the chart; one short round is no figure to quote.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import trustme

from . import load, peers, processes, report, scenarios
from .peers import PEERS, Peer, Place
from .report import Figures, Results

HERE = Path(__file__).resolve().parent
WORK = HERE / ".work"
SERVER_CORE, LOAD_CORE = "0", "1"
IDLE = 2000
WAKING = 200


def main() -> int:
    wanted = _arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # what was started is stopped then, too
    WORK.mkdir(exist_ok=True)
    load.offer_one_cipher(WORK)
    place = prepare()
    rounds = wanted.rounds or (1 if wanted.quick else 5)
    seconds = wanted.seconds or (1 if wanted.quick else 3)
    chosen = [one for one in PEERS if not wanted.peers or one.name in wanted.peers]
    asked = [one for one in scenarios.SCENARIOS if not wanted.only or wanted.only in one.name]
    results: Results = {}
    units = {one.name: "MiB" if one.unit == "mib" else "request" for one in asked}
    extras: dict[str, dict[str, list[float]]] = {}
    backend = processes.start(
        peers.backend(place.work), LOAD_CORE, place.work / "b.log", place.work
    )
    scripts = processes.start(
        peers.php_fpm(place.work), LOAD_CORE, place.work / "fpm.log", place.work
    )
    try:
        await_port(peers.BACKEND_PORT)
        for number in range(rounds):
            for peer in chosen:
                print(f"round {number + 1} of {rounds}: {peer.name}", flush=True)
                _round(peer, place, asked, seconds, results, extras, units, wanted)
    finally:
        processes.stop(backend)
        processes.stop(scripts)
    if wanted.only or wanted.peers:
        print(report.table(results, units))
        print(report.extras(extras))
        return 0
    folder = WORK if wanted.quick else HERE
    (folder / "results.md").write_text(_page(results, units, extras, rounds, seconds))
    (folder / "chart.svg").write_text(report.chart(results))
    print(f"written: {folder / 'results.md'} and chart.svg")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, under three minutes")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--seconds", type=int, default=0, help="of load for each figure")
    parser.add_argument("--only", help="scenarios whose name holds this; prints, writes nothing")
    parser.add_argument("--peers", type=lambda text: text.split(","), default=None)
    return parser.parse_args()


def prepare() -> Place:
    os.chmod(WORK, 0o755)
    root = WORK / "files"
    scenarios.make_files(root, WORK / "backend" / "files")
    ca = trustme.CA()
    leaf = ca.issue_cert("localhost", "127.0.0.1")
    chain, key = WORK / "chain.pem", WORK / "key.pem"
    chain.write_bytes(b"".join(one.bytes() for one in leaf.cert_chain_pems))
    key.write_bytes(leaf.private_key_pem.bytes())
    ca.cert_pem.write_to_path(str(WORK / "ca.pem"))
    return Place(WORK, root, chain, key)


@contextmanager
def _running(peer: Peer, place: Place, workers: int, core: str) -> Iterator[tuple[int, float]]:
    """The server's pid, and the seconds from its start to its first answer."""
    command = peer.command(place, workers)
    begun = time.monotonic()
    process = processes.start(command, core, peer.log(place), peers.REPOSITORY)
    try:
        await_answer(process, peer, f"{peer.name} did not start: {peer.log(place)}", 20.0)
        yield process.pid, time.monotonic() - begun
    finally:
        processes.stop(process)
        for log in (place.work / peer.name).glob("access.log"):
            log.unlink()


def await_answer(process: subprocess.Popen[bytes], peer: Peer, failure: str, within: float) -> None:
    """Wait until a server that has just been started answers. Raises RuntimeError with the words
    of ``failure`` when its process ends, or when it does not answer ``within`` so many seconds."""
    context = load.client_context(WORK / "ca.pem")
    deadline = time.monotonic() + within
    while True:
        try:
            load.ask(context, peer).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(failure) from None
            time.sleep(0.005)  # the server has no way to say that it listens
        else:
            return


def _round(
    peer: Peer,
    place: Place,
    asked: list[scenarios.Scenario],
    seconds: int,
    results: Results,
    extras: dict[str, dict[str, list[float]]],
    units: dict[str, str],
    wanted: argparse.Namespace,
) -> None:
    def note(what: str, value: float) -> None:
        extras.setdefault(what, {}).setdefault(peer.name, []).append(value)

    with _running(peer, place, 1, SERVER_CORE) as (pid, started):
        note("seconds from start to first answer", started)
        for scenario in asked:
            if scenario.asked_of(peer):
                figures = results.setdefault(scenario.name, {}).setdefault(peer.name, Figures())
                _measure(peer, place, scenario, pid, seconds, figures)
        if (
            peer.static
            and peer.name not in peers.PYTHON
            and (not wanted.only or "during" in wanted.only)
        ):
            note(
                "p99 of small requests during four downloads, µs",
                _during_downloads(peer, place, seconds),
            )
            note(
                "p99 of small requests during 16 downloads over HTTP/2, µs",
                _during_downloads(peer, place, seconds, streams=4),
            )
        if not wanted.only or "handshake" in wanted.only:
            for name, resume in (("full handshake", False), ("resumed handshake", True)):
                figures = results.setdefault(name, {}).setdefault(peer.name, Figures())
                units[name] = "handshake"
                before = processes.cpu_seconds(pid)
                done = load.handshakes(WORK / "ca.pem", peer, seconds, resume)
                figures.cost.append((processes.cpu_seconds(pid) - before) * 1e6 / done.requests)
                figures.rate.append(done.requests / done.seconds)
                figures.p50.append(done.p50)
                figures.p99.append(done.p99)
                figures.errors += done.errors
    if peer.name in peers.PYTHON or (wanted.only and wanted.only not in ("memory", "both cores")):
        return
    with _running(peer, place, 2, f"{SERVER_CORE},{LOAD_CORE}") as (pid, _):
        time.sleep(0.5)  # what a server does after its first answer belongs to neither figure
        rest = processes.pss_kib(pid)
        note("MiB of memory (PSS) at rest, two workers", rest / 1024)
        count = IDLE // 4 if wanted.quick else IDLE
        note("KiB of memory per idle TLS connection", idle_kib(peer, pid, count))
    if peer.http2:
        with _running(peer, place, 2, f"{SERVER_CORE},{LOAD_CORE}") as (pid, _):
            time.sleep(0.5)
            note("KiB of memory per idle HTTP/2 connection", idle_kib(peer, pid, count, http2=True))
    with _running(peer, place, 2, f"{SERVER_CORE},{LOAD_CORE}") as (pid, _):
        for scenario in scenarios.SCENARIOS:
            if scenario.name.endswith(" 10 KiB") and scenario.asked_of(peer):
                name = f"both cores: {scenario.name}"
                units[name] = "request"
                figures = results.setdefault(name, {}).setdefault(peer.name, Figures())
                _measure(peer, place, scenario, pid, seconds, figures, f"{SERVER_CORE},{LOAD_CORE}")
        note("MiB of memory (PSS) after load, two workers", processes.pss_kib(pid) / 1024)


def idle_kib(peer: Peer, pid: int, count: int, http2: bool = False) -> float:
    """KiB of memory that each of ``count`` idle connections takes. What the first ones take is the
    workers' waking up, which has no part in it: pages that were shared so far are written to."""
    held = load.idle_connections(WORK / "ca.pem", peer, WAKING, http2)
    before = processes.pss_kib(pid)
    held += load.idle_connections(WORK / "ca.pem", peer, count, http2)
    grown = processes.pss_kib(pid) - before
    for sock in held:
        sock.close()
    return grown / count


def _measure(
    peer: Peer,
    place: Place,
    scenario: scenarios.Scenario,
    pid: int,
    seconds: int,
    figures: Figures,
    cores: str = LOAD_CORE,
) -> None:
    url = f"https://localhost:{peer.port}/"
    before = processes.cpu_seconds(pid)
    if scenario.new_cookie_every:

        def begin() -> None:
            nonlocal before
            before = processes.cpu_seconds(pid)

        done = load.browser_http2(
            peer, WORK / "ca.pem", scenario.path, cores, seconds, scenario.connections,
            scenario.streams, scenario.new_cookie_every, begin,
        )  # fmt: skip
    elif scenario.streams:
        url = f"https://localhost:{peer.port}{scenario.path}"
        fields = scenarios.BROWSER_FIELDS
        body = place.root / "1m.bin" if scenario.upload else None
        count, streams = scenario.connections, scenario.streams
        done = load.h2load(url, fields, cores, seconds, count, streams, body)
        if scenario.upload:
            done = replace(done, mib=float(done.requests))
    else:
        script = scenarios.script(scenario, place.work)
        threads = len(cores.split(","))
        done = load.wrk(url, script, cores, seconds, scenario.connections, threads)
    spent = processes.cpu_seconds(pid) - before
    amount = done.mib if scenario.unit == "mib" else done.requests
    figures.cost.append(spent * 1e6 / max(amount, 1))
    figures.rate.append(amount / done.seconds)
    figures.p50.append(done.p50)
    figures.p99.append(done.p99)
    figures.errors += done.errors


def _during_downloads(peer: Peer, place: Place, seconds: int, streams: int = 0) -> float:
    """The p99 of small requests while four clients download as fast as they can, over HTTP/2 with
    so many ``streams`` each."""
    by_name = {one.name: one for one in scenarios.SCENARIOS}
    large, small = by_name["static 100 MiB"], by_name["static 100 B"]
    url = f"https://localhost:{peer.port}/"
    with ThreadPoolExecutor(1) as pool:
        script = scenarios.script(large, place.work)
        if streams:
            large_url = f"{url[:-1]}{large.path}"
            downloads = pool.submit(load.h2load, large_url, (), LOAD_CORE, seconds + 2, 4, streams)
        else:
            downloads = pool.submit(load.wrk, url, script, LOAD_CORE, seconds + 2, 4)
        time.sleep(0.5)  # the downloads are under way
        script = scenarios.script(small, place.work)
        done = load.wrk(url, script, LOAD_CORE, seconds, 10)
        downloads.result()
    return done.p99


def await_port(port: int) -> None:
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.01)
    raise RuntimeError(f"nothing listens on port {port}")


def _page(
    results: Results,
    units: dict[str, str],
    extras: dict[str, dict[str, list[float]]],
    rounds: int,
    seconds: float,
) -> str:
    versions = "\n".join(f"- {peer.name}: {peers.version(peer.name)}" for peer in PEERS)
    return f"""# Side by side

Made by `make bench` on {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC, commit {peers.commit()};
Python {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} cores.
{rounds} rounds of {seconds} seconds each, peers alternated; medians; the spread is half the
distance between the best and the worst round. Server on core 0, load and backend on core 1, TLS 1.3
with TLS_AES_128_GCM_SHA256 and one ECDSA P-256 key, HTTP/1.1, access log on for all. CPU is user and
system time of the server's whole process tree.

{versions}

{report.table(results, units)}
{report.extras(extras)}"""


if __name__ == "__main__":
    sys.exit(main())
