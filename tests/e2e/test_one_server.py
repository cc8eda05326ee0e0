"""One server for each state directory; full of connections, it still takes in what it is told; a
worker that served well is back at once; and what `ps` shows of all this."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.http.client import https
from support.program.ports import free_ports
from support.program.server import Server, ask, await_gone, packages, started, treehouse

pytestmark = pytest.mark.program

TICKS = os.sysconf("SC_CLK_TCK")


def config(folder: Path, root: Path, name: str = "config.yaml", more: str = "") -> Path:
    plain, secure = free_ports(2)
    path = folder / name
    path.write_text(
        f"""
listen: {{http: ["127.0.0.1:{plain}"], https: ["127.0.0.1:{secure}"]}}
state: {folder / "state"}
sites: [{{names: [a.test], root: {root}}}]
{more or "workers: 1"}
"""
    )
    return path


@pytest.fixture
def running(folder: Path, root: Path) -> Iterator[Server]:
    more = f"workers: 1\nlog: {{access: {folder / 'logs' / 'access.log'}}}"
    (folder / "logs").mkdir()
    os.chown(folder / "logs", 65534, 65534)
    with Server(["--config", str(config(folder, root, more=more))], folder) as server:
        server.await_log("a.test: certificate obtained")
        yield server


def secure_port(server: Server, state: Path) -> int:
    (address,) = [one for one in ask(state, "status")["listeners"] if one["kind"] == "https"]
    return int(address["address"].rpartition(":")[2])


def test_a_second_one_is_refused_and_an_upgrades_successor_is_let_in(
    folder: Path, root: Path, program: Path, shared_python: str
) -> None:
    state = folder / "state"

    def refused(name: str, pid: int) -> None:
        second = treehouse("run", "--config", str(config(folder, root, name)))
        assert second.returncode == 2
        assert f"{state}: a server uses it already, process {pid} " in second.stderr
        assert f"treehouse-proxy stop --state {state}" in second.stderr
        assert ask(state, "status")["pid"] == pid

    with Server(
        ["--config", str(config(folder, root))],
        folder,
        cwd=program,
        python=shared_python,
        environment=packages(program),
    ) as first:
        refused("second.yaml", first.pid)
        pid = ask(state, "upgrade")["pid"]
        assert pid != first.pid
        refused("third.yaml", pid)
        assert first.stop() == 0
    # The end of both sets the directory free.
    with Server(["--config", str(config(folder, root, "fourth.yaml"))], folder) as fourth:
        assert ask(state, "status")["pid"] == fourth.pid


def test_a_worker_that_served_well_is_back_at_once_each_time(running: Server, folder: Path) -> None:
    """The log says how long the pause was; how long the start takes after it is the machine's affair."""
    state = folder / "state"
    for _ in range(3):
        document = running.await_status(
            state, lambda one: [each["state"] for each in one["workers"]] == ["serving"]
        )
        (victim,) = [one["pid"] for one in document["workers"]]
        # It has to have lived for longer after its start than the start took: twice as long as by now.
        time.sleep(time.clock_gettime(time.CLOCK_BOOTTIME) - started(victim) / TICKS + 0.2)
        os.kill(victim, signal.SIGKILL)
        await_gone([victim])
        with https(secure_port(running, state), "a.test", state / "internal-ca/root.pem") as talk:
            assert talk.asks("/", "a.test").status == 200
        running.await_log(f"pid {victim}.*another starts in 0.05 s")


def test_processes_are_called_what_they_are(running: Server, folder: Path) -> None:
    commands = {}
    for pid in running.tree():
        line = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()
        commands[Path(f"/proc/{pid}/comm").read_text().strip()] = line
    assert commands.keys() == {"treehouse-proxy", "th-worker-1", "th-certifier"}
    assert commands["th-worker-1"] == "treehouse-proxy: worker 1"
    assert commands["th-certifier"] == "treehouse-proxy: certifier"
    assert commands["treehouse-proxy"].startswith("treehouse-proxy: supervisor --config /")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1], ids=["SIGHUP", "SIGUSR1"])
def test_a_rotated_log_is_opened_anew(
    running: Server, folder: Path, number: signal.Signals
) -> None:
    state, log = folder / "state", folder / "logs" / "access.log"

    def visit(path: str) -> None:
        with https(secure_port(running, state), "a.test", state / "internal-ca/root.pem") as talk:
            talk.asks(path, "a.test")

    def holds(file: Path, text: str) -> bool:
        deadline = time.monotonic() + 60
        while text not in file.read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        return text in file.read_text()

    visit("/before")
    assert holds(log, "/before")
    log.rename(log.with_suffix(".1"))
    running.signal(number)
    running.await_log("logs reopened")
    if number == signal.SIGHUP:
        running.await_log("reloading: SIGHUP")
    visit("/after")
    assert holds(log, "/after")
    assert "/after" not in log.with_suffix(".1").read_text()


def test_a_worker_at_its_limit_of_descriptors_still_gets_certificates(
    folder: Path, root: Path
) -> None:
    state = folder / "state"
    path = config(folder, root, more="workers: 1\nlimits: {connections_per_address: 1000}")
    server = Server(["--config", str(path)], folder, prefix=("prlimit", "--nofile=256:256"))
    with server:
        server.await_log("may have 256 open files, which is enough for 127 connections")
        server.await_log("a.test: certificate obtained")
        port = secure_port(server, state)
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(400)]
        server.await_status(state, lambda one: one["workers"][0]["connections"] > 150)
        before = ask(state, "status")["certificates"][0]["serial"]
        began = time.monotonic()
        renewed = treehouse("certs", "renew", "a.test", "--state", str(state))
        assert renewed.returncode == 0, renewed.stderr
        assert time.monotonic() - began < 60.0
        (certificate,) = ask(state, "status")["certificates"]
        assert certificate["serial"] != before
        for one in silent:
            one.close()
        server.await_status(state, lambda one: one["workers"][0]["connections"] < 10)
        with https(port, "a.test", state / "internal-ca/root.pem") as talk:
            assert talk.asks("/", "a.test").status == 200
            leaf = talk.sock.getpeercert()  # type: ignore[attr-defined] # it is a TLS socket
            assert f"{int(leaf['serialNumber'], 16):x}" == certificate["serial"]
        assert "Traceback" not in server.text()
        assert "IndexError" not in server.text()
