"""Upgrade: the program on disk takes over, or nothing changes; nobody notices either."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.http.client import context, https
from support.http.load_clients import Visitors, page
from support.program.server import (
    REPOSITORY,
    Server,
    alive,
    ask,
    await_gone,
    packages,
    proc_status,
    shorten,
    started,
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


def load(folder: Path, ports: tuple[int, int]) -> Visitors:
    using = context(folder / "state/internal-ca/root.pem")
    step = page("/", "a.test", b"<p>hello\n")
    return Visitors(lambda: https(ports[1], "a.test", None, using=using), *[step] * 4, pause=0.005)


def test_the_program_on_disk_takes_over_and_no_request_fails(
    running: Server, folder: Path, ports: tuple[int, int], program: Path
) -> None:
    before = running.status(folder / "state")
    (program / "proxy/version.py").write_text('VERSION = "9.9.9"\n')
    with load(folder, ports) as visitors:
        visitors.await_rounds(50)
        pid = upgrade(folder)
        visitors.await_rounds(200)
        assert running.ended() == 0
        running.await_told(f"MAINPID={pid}")
        visitors.await_rounds(50)
        again = upgrade(folder)
        visitors.await_rounds(200)
        await_gone([pid])
    assert visitors.failures == []
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
    # And a reload that is asked for meanwhile is the successor's.
    running.signal(signal.SIGUSR2)
    running.await_log("upgrading to the program now on disk")
    running.signal(signal.SIGHUP)
    running.await_log("reloading: SIGHUP")
    running.await_log("worker 1 of generation 2 has finished")
    for _ in range(16):
        pid = ask(folder / "state", "upgrade")["pid"]
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
    with load(folder, ports) as visitors:
        done = treehouse("upgrade", "--state", str(folder / "state"))
        visitors.await_rounds(100)
    assert done.returncode == 1
    assert "ended before it was ready" in done.stderr
    assert visitors.failures == []
    after = running.status(folder / "state")
    assert (after["pid"], after["generation"]) == (before["pid"], 1)
    assert [one["pid"] for one in after["workers"]] == [one["pid"] for one in before["workers"]]
    # The certifier had stepped aside.
    assert treehouse("certs", "renew", "a.test", "--state", str(folder / "state")).returncode == 0


def test_with_another_version_on_disk_the_old_one_goes_on_whole(
    start: Callable[..., Server], folder: Path, root: Path, ports: tuple[int, int], program: Path
) -> None:
    """The files lie there already, and nobody has asked for the upgrade, or it has failed: what is
    forked now is of the old version, too."""
    shorten(program / "proxy/supervisor/supervisor.py", _CODE_KEPT_AFTER=0.0)
    state = ["--state", str(folder / "state")]
    with start() as server:
        server.await_log("a.test: certificate obtained")
        assert len(server.status(folder / "state")["workers"]) == 2  # it is past its first turn
        for path in [*program.glob("proxy/**/*.py"), *program.glob("acme_client/**/*.py")]:
            path.unlink()
            path.write_text("raise ImportError('of another version')\n")
        done = treehouse("upgrade", *state)
        assert "ended before it was ready" in done.stderr
        done = treehouse("certs", "renew", "a.test", *state)
        assert done.returncode == 0, done.stderr
        with config(folder, ports, root).open("a") as file:
            file.write(f"  - {{names: [b.test], root: {root}}}\n")
        done = treehouse("reload", *state)
        assert done.returncode == 0, done.stderr
        server.await_log("b.test: certificate obtained")
        assert not [one for one in server.log if "exception" in one]
        assert server.stop() == 0


def test_one_that_never_becomes_ready_is_given_up_and_nothing_else_happens_meanwhile(
    start: Callable[..., Server], folder: Path, ports: tuple[int, int], program: Path
) -> None:
    shorten(program / "proxy/supervisor/upgrade/succession.py", _READY_WITHIN=4.0)
    state = ["--state", str(folder / "state")]
    with start() as server:
        server.await_log("a.test: certificate obtained")
        before = server.status(folder / "state")
        (program / "proxy/__main__.py").write_text("import time\ntime.sleep(600)\n")
        with load(folder, ports) as visitors:
            server.signal(signal.SIGUSR2)
            server.await_log("upgrading to the program now on disk: SIGUSR2")
            # Nobody answers a signal: what it asks for is not forgotten.
            server.signal(signal.SIGHUP)
            server.await_log("the configuration is read once more when")
            server.signal(signal.SIGUSR2)
            server.await_log("SIGUSR2: nothing was done: busy: starting, reloading, upgrading")
            hangs = max(server.children(), key=started)
            server.await_log("the new program was not ready in time; this one goes on")
            await_gone([hangs])
            server.await_log("worker 1 of generation 1 has finished")
            visitors.await_rounds(20)
        assert visitors.failures == []
        after = server.status(folder / "state")
        assert (after["pid"], after["generation"]) == (before["pid"], 2)
        assert treehouse("certs", "renew", "a.test", *state).returncode == 0


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
    shorten(program / "proxy/supervisor/reload/reload.py", _TICKET_KEYS_FOR=2.0)
    with start() as server:
        server.await_log("a.test: certificate obtained")
        using = context(folder / "state/internal-ca/root.pem")
        for _ in range(20):  # the keys may be renewed between the two
            with https(ports[1], "a.test", None, using=using) as talk:
                assert talk.asks("/", "a.test").status == 200
                session = talk.sock.session  # type: ignore[attr-defined] # it is a TLS socket
            with https(ports[1], "a.test", None, using=using, session=session) as talk:
                assert talk.asks("/", "a.test").status == 200
                if resumed := talk.sock.session_reused:  # type: ignore[attr-defined] # as above
                    break
        assert resumed
        with load(folder, ports) as visitors:
            for _ in range(2):
                since = len(server.log)
                server.await_log(r"of generation \d+ has finished", since=since)
                server.await_log("serving on", since=since)
            visitors.await_rounds(10)
        assert visitors.failures == []
        with https(ports[1], "a.test", None, using=using, session=session) as talk:
            assert talk.asks("/", "a.test").status == 200
            assert not talk.sock.session_reused  # type: ignore[attr-defined] # as above
