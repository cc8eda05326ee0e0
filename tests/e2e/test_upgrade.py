"""Upgrade: the program on disk takes over, or nothing changes; nobody notices either."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.client import context, https
from support.server import (
    REPOSITORY,
    Server,
    alive,
    await_gone,
    packages,
    proc_status,
    shorten,
    treehouse,
)


def config(folder: Path, ports: tuple[int, int], root: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 2
state: {folder / "state"}
limits: {{shutdown_timeout: 5s}}
sites:
  - {{names: [a.test], root: {root}}}
"""
    )
    return path


@pytest.fixture
def start(
    folder: Path, root: Path, ports: tuple[int, int], program: Path, shared_python: str
) -> Callable[..., Server]:
    """Start the copy; an upgrade needs an interpreter that the server's user can run."""

    def start(**environment: str) -> Server:
        return Server(
            ["--config", str(config(folder, ports, root))],
            folder,
            cwd=program,
            python=shared_python,
            environment=packages(program) | environment,
        )

    return start


@pytest.fixture
def running(start: Callable[..., Server], folder: Path) -> Iterator[Server]:
    with start() as server:
        server.await_log("a.test: certificate obtained")
        yield server
    treehouse("stop", "--state", str(folder / "state"))


def upgrade(folder: Path) -> int:
    """The successor's pid."""
    done = treehouse("upgrade", "--state", str(folder / "state"))
    assert done.returncode == 0, done.stderr
    found = re.search(r"process (\d+) serves", done.stdout)
    assert found is not None
    return int(found[1])


class Load:
    """Clients that keep asking, each on a connection kept as long as the server keeps it."""

    def __init__(self, folder: Path, ports: tuple[int, int]) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._more = threading.Condition()
        self._over = False
        ca = folder / "state/internal-ca/root.pem"
        self._threads = [threading.Thread(target=self._ask, args=(ports[1], ca)) for _ in range(4)]

    def _ask(self, port: int, ca: Path) -> None:
        while not self._over:
            try:
                with https(port, "a.test", ca) as talk:
                    while not self._over:
                        answer = talk.asks("/", "a.test")
                        if answer.status != 200:
                            self.failures.append(f"{answer.status}")
                        with self._more:
                            self.answered += 1
                            self._more.notify_all()
                        if answer.get("connection") == "close":
                            break
            except Exception as error:
                self.failures.append(repr(error))

    def await_answers(self, count: int) -> None:
        wanted = self.answered + count
        with self._more:
            assert self._more.wait_for(lambda: self.answered >= wanted or self.failures, 20)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        for thread in self._threads:
            thread.join(20)


def test_the_program_on_disk_takes_over_and_no_request_fails(
    running: Server, folder: Path, ports: tuple[int, int], program: Path
) -> None:
    before = running.status(folder / "state")
    (program / "proxy/version.py").write_text('VERSION = "9.9.9"\n')
    with Load(folder, ports) as load:
        load.await_answers(50)
        pid = upgrade(folder)
        load.await_answers(200)
        assert running.ended() == 0
        running.await_told(f"MAINPID={pid}")
        load.await_answers(50)
        again = upgrade(folder)
        load.await_answers(200)
        await_gone([pid])
    assert load.failures == []
    after = running.status(folder / "state")
    assert before["version"] != after["version"] == "9.9.9"
    assert (after["pid"], after["generation"]) == (again, 3)
    assert [one["state"] for one in after["workers"]] == ["serving"] * 2
    assert after["listeners"] == before["listeners"]
    for process in (again, *(one["pid"] for one in after["workers"])):
        facts = proc_status(process)
        assert facts["Uid"].split() == ["65534"] * 4
        assert facts["NoNewPrivs"] == "1"
        assert int(facts["CapPrm"], 16) == int(facts["CapBnd"], 16) == 0
    assert treehouse("stop", "--state", str(folder / "state")).returncode == 0
    await_gone([again, *(one["pid"] for one in after["workers"])])


def test_more_often_than_the_kernel_stacks_sandboxes(running: Server, folder: Path) -> None:
    for _ in range(17):
        pid = upgrade(folder)
    assert running.status(folder / "state")["pid"] == pid
    assert not [one for one in running.log if "sandbox" in one["message"]]


@pytest.mark.parametrize("what", ["configuration", "program", "interpreter"])
def test_one_that_cannot_serve_changes_nothing(
    running: Server, folder: Path, ports: tuple[int, int], program: Path, what: str
) -> None:
    before = running.status(folder / "state")
    match what:
        case "configuration":
            (folder / "config.yaml").write_text("sites: [{names: [a.test], rot: /srv}]\n")
        case "program":
            (program / "proxy/worker/worker.py").write_text("raise SystemExit('broken')\n")
        case "interpreter":
            (program / "proxy/__main__.py").unlink()
    with Load(folder, ports) as load:
        done = treehouse("upgrade", "--state", str(folder / "state"))
        load.await_answers(100)
    assert done.returncode == 1
    assert "ended before it was ready" in done.stderr
    assert load.failures == []
    after = running.status(folder / "state")
    assert (after["pid"], after["generation"]) == (before["pid"], 1)
    assert [one["pid"] for one in after["workers"]] == [one["pid"] for one in before["workers"]]
    # The certifier had stepped aside.
    assert treehouse("certs", "renew", "a.test", "--state", str(folder / "state")).returncode == 0


def test_where_no_manager_can_be_told_the_first_process_stays(
    start: Callable[..., Server], folder: Path
) -> None:
    server = start(NOTIFY_SOCKET="")
    try:
        server.await_log("a.test: certificate obtained")
        first = upgrade(folder)
        server.await_log(f"process {first} has taken over")
        second = upgrade(folder)
        await_gone([first])
        assert server.process.poll() is None
        assert proc_status(second)["PPid"] == str(server.pid)
        since = len(server.log)
        server.signal(signal.SIGHUP)
        server.await_log("serving on", since=since)
        assert server.status(folder / "state")["generation"] == 4
        workers = [one["pid"] for one in server.status(folder / "state")["workers"]]
        assert server.stop() == 0
        await_gone([second, *workers])
    finally:
        server.close()


def test_the_successor_does_not_outlive_the_process_that_somebody_waits_for(
    start: Callable[..., Server], folder: Path
) -> None:
    server = start(NOTIFY_SOCKET="")
    try:
        server.await_log("a.test: certificate obtained")
        pid = upgrade(folder)
        assert alive(pid)
        os.kill(server.pid, signal.SIGKILL)
        await_gone([pid])
    finally:
        server.close()


def test_an_interpreter_that_only_root_can_run_is_said(
    folder: Path, root: Path, ports: tuple[int, int]
) -> None:
    """What was loaded as root goes on serving; it can be restarted, but not upgraded."""
    hidden = folder / "hidden"
    hidden.mkdir(mode=0o700)
    (hidden / "python").symlink_to(sys.executable)
    program = ["--config", str(config(folder, ports, root))]
    environment = packages(REPOSITORY)
    with Server(program, folder, python=str(hidden / "python"), environment=environment) as server:
        done = treehouse("upgrade", "--state", str(folder / "state"))
        assert done.returncode == 1
        assert "cannot be started as uid 65534: Permission denied (restart" in done.stderr
        server.await_log("a.test: certificate obtained")
        assert server.status(folder / "state")["generation"] == 1


def test_ticket_keys_are_renewed_with_a_generation(
    start: Callable[..., Server], folder: Path, ports: tuple[int, int], program: Path
) -> None:
    """A day shortened to two seconds; who holds an old ticket makes a full handshake again."""
    shorten(program / "proxy/supervisor/turnover.py", _TICKET_KEYS_FOR=2.0)
    with start() as server:
        server.await_log("a.test: certificate obtained")
        using = context(folder / "state/internal-ca/root.pem")
        with https(ports[1], "a.test", None, using=using) as talk:
            assert talk.asks("/", "a.test").status == 200
            session = talk.sock.session  # type: ignore[attr-defined] # it is a TLS socket
        with https(ports[1], "a.test", None, using=using, session=session) as talk:
            assert talk.asks("/", "a.test").status == 200
            assert talk.sock.session_reused  # type: ignore[attr-defined] # as above
        with Load(folder, ports) as load:
            for generation in (1, 2):
                server.await_log(f"of generation {generation} has finished")
            load.await_answers(10)
        assert load.failures == []
        with https(ports[1], "a.test", None, using=using, session=session) as talk:
            assert talk.asks("/", "a.test").status == 200
            assert not talk.sock.session_reused  # type: ignore[attr-defined] # as above
