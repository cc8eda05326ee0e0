"""Processes: replaced when they die, reloaded without a loss, stopped gracefully."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from support.http.backend_app import Application, serving
from support.http.client import Talk, http, https
from support.program.ports import free_ports
from support.program.server import Server, await_gone, packages, proc_status, shorten, treehouse


class Backend(Application):
    """Answers; what is held, when the test says so."""

    go: ClassVar = threading.Event()

    def do_GET(self) -> None:
        if self.path.endswith("/held"):
            self.go.wait(60)
        self.answers(b"slow\n")


@pytest.fixture
def backend() -> Iterator[int]:
    Backend.go.clear()
    with serving(Backend) as port:
        yield port
        Backend.go.set()


def config(folder: Path, ports: tuple[int, int], root: Path, backend: int, more: str = "") -> Path:
    path = folder / "config.yaml"
    path.write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 2
state: {folder / "state"}
limits: {{shutdown_timeout: 2m}}
sites:
  - names: [a.test]
    routes:
      - {{path: /slow/*, backend: "http://127.0.0.1:{backend}"}}
      - {{path: /*, root: {root}}}
{more}
"""
    )
    return path


@pytest.fixture
def running(folder: Path, root: Path, ports: tuple[int, int], backend: int) -> Iterator[Server]:
    with Server(["--config", str(config(folder, ports, root, backend))], folder) as server:
        server.await_log("a.test: certificate obtained")
        yield server


def talk(folder: Path, ports: tuple[int, int]) -> Talk:
    return https(ports[1], "a.test", folder / "state/internal-ca/root.pem")


def roles(server: Server, folder: Path, count: int = 2) -> tuple[list[int], list[int]]:
    """The pids of workers, when so many serve, and of the rest of the children."""
    document = server.await_status(
        folder / "state",
        lambda document: [one["state"] for one in document["workers"]] == ["serving"] * count,
    )
    workers = [one["pid"] for one in document["workers"]]
    return workers, [pid for pid in server.children() if pid not in workers]


def test_a_killed_worker_is_replaced_and_the_others_go_on(
    running: Server, folder: Path, ports: tuple[int, int]
) -> None:
    kept = [talk(folder, ports) for _ in range(8)]
    for one in kept:
        assert one.asks("/", "a.test").status == 200
    workers = running.status(folder / "state")["workers"]
    # The one with the fewest connections, so that some of them live on the other.
    victim, other = (one["pid"] for one in sorted(workers, key=lambda one: one["connections"]))
    os.kill(victim, signal.SIGKILL)
    running.await_log(f"pid {victim}.*SIGKILL.*another starts")
    # The listening sockets never closed: new connections are taken all the time.
    for _ in range(20):
        assert talk(folder, ports).asks("/", "a.test").status == 200
    survived = 0
    for one in kept:
        try:
            survived += one.asks("/", "a.test").status == 200
        except OSError:
            continue
    assert survived
    workers, _ = roles(running, folder)
    assert len(workers) == 2
    assert other in workers
    assert victim not in workers


def test_a_killed_certifier_is_replaced(running: Server, folder: Path) -> None:
    _, (victim,) = roles(running, folder)
    os.kill(victim, signal.SIGKILL)
    running.await_log(f"certifier.*pid {victim}.*another starts")
    running.await_log("certificate at hand")
    _, (successor,) = roles(running, folder)
    assert successor != victim


def test_a_hung_worker_is_noticed_and_replaced(
    folder: Path, root: Path, ports: tuple[int, int], backend: int, program: Path
) -> None:
    shorten(program / "proxy/supervisor/roles.py", WORKER_SILENT_FOR=5.0)
    options = ["--config", str(config(folder, ports, root, backend))]
    with Server(options, folder, cwd=program, environment=packages(program)) as server:
        server.await_log("a.test: certificate obtained")
        (victim, _), _ = roles(server, folder)
        os.kill(victim, signal.SIGSTOP)
        server.await_log(f"pid {victim}.*does not answer")
        await_gone([victim])
        assert talk(folder, ports).asks("/", "a.test").status == 200


def test_sigterm_lets_what_is_under_way_finish(
    running: Server, folder: Path, ports: tuple[int, int]
) -> None:
    children = running.children()
    busy = talk(folder, ports)
    busy.says(b"GET /slow/held HTTP/1.1\r\nHost: a.test\r\n\r\n")
    _await_stream(running, folder)
    idle = []
    # On every worker, also beside the busy one: by their end a worker shows that it has heard.
    while any(one["connections"] < 2 for one in running.status(folder / "state")["workers"]):
        idle.append(talk(folder, ports))
        assert idle[-1].asks("/", "a.test").status == 200
    running.signal(signal.SIGTERM)
    running.await_log("stopping: SIGTERM")
    for one in idle:
        assert one.rest() == b""  # ended without a word, and properly
    Backend.go.set()
    answer = busy.hears()
    assert answer.body == b"slow\n"
    assert answer["connection"] == "close"
    assert running.ended() == 0
    await_gone(children)
    with pytest.raises(ConnectionRefusedError):
        talk(folder, ports)
    assert not (folder / "state/control.sock").exists()


def test_a_second_sigterm_ends_at_once(
    running: Server, folder: Path, ports: tuple[int, int]
) -> None:
    children = running.children()
    busy = talk(folder, ports)
    busy.says(b"GET /slow/held HTTP/1.1\r\nHost: a.test\r\n\r\n")
    _await_stream(running, folder)
    running.signal(signal.SIGTERM)
    running.await_log("stopping: SIGTERM")
    running.signal(signal.SIGTERM)
    running.await_log("stopping at once")
    assert running.ended() == 0
    await_gone(children)


def _await_stream(server: Server, folder: Path) -> None:
    """Until a worker has the request that a test has sent."""
    server.await_status(
        folder / "state", lambda document: any(one["streams"] for one in document["workers"])
    )


def test_reload_takes_a_new_generation_and_loses_nothing(
    running: Server, folder: Path, root: Path, ports: tuple[int, int], backend: int
) -> None:
    before = set(running.children())
    kept = talk(folder, ports)
    assert kept.asks("/", "a.test").status == 200
    busy = talk(folder, ports)
    busy.says(b"GET /slow/held HTTP/1.1\r\nHost: a.test\r\n\r\n")
    _await_stream(running, folder)
    config(folder, ports, root, backend, f"  - {{names: [b.test], root: {root}}}\n")
    done = treehouse("reload", "--state", str(folder / "state"))
    assert done.returncode == 0, done.stderr
    # The kept-alive connection's next answer says that it is the last; nothing was cut.
    answer = kept.asks("/", "a.test")
    assert (answer.status, answer["connection"]) == (200, "close")
    Backend.go.set()
    assert busy.hears().body == b"slow\n"
    running.await_log("b.test: certificate obtained")
    assert http(ports[0]).asks("/", "b.test").status == 308
    status = running.status(folder / "state")
    assert status["generation"] == 2
    assert before.isdisjoint(one["pid"] for one in status["workers"] if one["state"] == "serving")
    await_gone(sorted(before - set(running.children())))
    # What only a restart can change stays, and everything else goes on.
    path = config(folder, ports, root, backend, f"  - {{names: [c.test], root: {root}}}\n")
    path.write_text(path.read_text().replace(f"state: {folder}/state", f"state: {folder}/other"))
    running.signal(signal.SIGHUP)
    running.await_log(
        f"state: {folder}/state → {folder}/other needs a restart; until then it stays"
    )
    running.await_log("c.test: certificate obtained")
    assert not (folder / "other").exists()


def test_a_port_that_is_given_up_is_held_by_no_process_however_old_it_is(
    running: Server, folder: Path, root: Path, ports: tuple[int, int], backend: int
) -> None:
    (spare,) = free_ports(1)
    state = ["--state", str(folder / "state")]
    busy = talk(folder, ports)
    busy.says(b"GET /slow/held HTTP/1.1\r\nHost: a.test\r\n\r\n")
    _await_stream(running, folder)
    config(folder, ports, root, backend, f'admin: {{listen: "127.0.0.1:{spare}"}}\n')
    assert treehouse("reload", *state).returncode == 0
    running.await_log("worker . of generation 1 has finished")  # the one that is not busy
    # The certifier is as old as the generation that drains now, and is replaced all the same: by
    # one that is forked while the port is open.
    workers = {one["pid"] for one in running.status(folder / "state")["workers"]}
    (victim,) = set(running.children()) - workers
    os.kill(victim, signal.SIGKILL)
    running.await_log(f"certifier.*pid {victim}.*another starts")
    running.await_log("certificate at hand")
    Backend.go.set()
    assert busy.hears().body == b"slow\n"
    with http(spare) as admin:
        assert admin.asks("/status", "127.0.0.1").status == 200
    config(folder, ports, root, backend)
    assert treehouse("reload", *state).returncode == 0
    for number in (1, 2):
        running.await_log(f"worker {number} of generation 2 has finished")
    with pytest.raises(ConnectionRefusedError):
        http(spare)


def test_plan_tells_what_a_reload_would_change_and_changes_nothing(
    running: Server, folder: Path, root: Path, ports: tuple[int, int], backend: int
) -> None:
    workers, _ = roles(running, folder)
    state = ["--state", str(folder / "state")]
    assert treehouse("plan", *state).stdout == "a reload would change nothing\n"
    config(folder, ports, root, backend, f"  - {{names: [b.test], root: {root}}}\nworkers: 3\n")
    done = treehouse("plan", *state)
    assert done.returncode == 2  # workers stands there twice
    assert "workers" in done.stderr
    config(folder, ports, root, backend, f"  - {{names: [b.test], root: {root}}}\n")
    done = treehouse("plan", *state)
    assert "site b.test: new" in done.stdout
    assert "certificate for b.test: to be had from the built-in CA" in done.stdout
    public = f"  - {{names: [app.example.org, app.example.net], root: {root}}}\n"
    config(folder, ports, root, backend, public)
    lines = treehouse("plan", *state).stdout.splitlines()
    assert "orders of this account: 1 of 300 left (300 in all)" in lines
    assert "certificates for the domain example.org: 1 of 50 left (50 in all)" in lines
    assert "certificates for the domain example.net: 1 of 50 left (50 in all)" in lines
    assert roles(running, folder)[0] == workers


def test_why_tells_of_one_certificate(running: Server, folder: Path) -> None:
    state = ["--state", str(folder / "state")]
    done = treehouse("why", "a.test", *state)
    assert "fresh: valid, and not due for renewal" in done.stdout
    assert "the built-in CA" in done.stdout
    done = treehouse("why", "nobody.test", *state)
    assert done.returncode == 1
    assert "a.test" in done.stderr


def test_a_faulty_file_changes_nothing_and_says_where(
    running: Server, folder: Path, ports: tuple[int, int]
) -> None:
    workers, _ = roles(running, folder)
    with (folder / "config.yaml").open("a") as file:
        file.write("  - {names: [b.test], rot: /srv}\n")
    done = treehouse("reload", "--state", str(folder / "state"))
    assert done.returncode != 0
    assert "config.yaml:" in done.stderr + done.stdout
    assert "rot" in done.stderr + done.stdout
    running.await_log("nothing was changed")
    assert roles(running, folder)[0] == workers
    assert talk(folder, ports).asks("/", "a.test").status == 200


@pytest.mark.parametrize("command", ["plan", "reload"])
def test_a_question_about_another_file_is_not_answered_for_the_own_one(
    running: Server, folder: Path, command: str
) -> None:
    state = folder / "state"
    generation = running.status(state)["generation"]
    other = folder / "other.yaml"
    other.write_text(f"state: {state}\nsites: [{{names: [b.test], respond: 204}}]\n")
    done = treehouse(command, "--config", str(other))
    assert done.returncode == 2
    assert f"started with {folder / 'config.yaml'}, and not with {other}" in done.stderr
    assert running.status(state)["generation"] == generation
    own = folder / "link.yaml"
    own.symlink_to("config.yaml")
    assert treehouse(command, "--config", str(own)).returncode == 0


def test_logs_are_reopened_on_sigusr1(folder: Path, root: Path, ports: tuple[int, int]) -> None:
    logs = folder / "log"
    logs.mkdir()
    os.chown(logs, 65534, 65534)
    path = folder / "config.yaml"
    path.write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
state: {folder / "state"}
log: {{access: {logs / "access.log"}}}
sites: [{{names: [a.test], root: {root}}}]
"""
    )
    with Server(["--config", str(path)], folder) as server:
        server.await_log("certificate obtained")
        with http(ports[0]) as one:  # at one worker
            assert one.asks("/one", "a.test").status == 308
            (logs / "access.log").rename(logs / "access.log.1")
            server.signal(signal.SIGUSR1)
            server.await_log("log.*reopened|reopened.*log")
            deadline = time.monotonic() + 60
            while not holds(logs / "access.log", "/two"):
                assert time.monotonic() < deadline
                assert one.asks("/two", "a.test").status == 308
        # The worker that answered it has gone on to the new file, so it is written by now.
        assert holds(logs / "access.log.1", "/one")
        # And nobody keeps the old one open, whose room would never be free.
        server.status(folder / "state")  # a worker that answers has heard of the log before
        assert not [pid for pid in server.tree() if "access.log.1" in open_files(pid)]


def open_files(pid: int) -> set[str]:
    found = set()
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the process goes on, and may close one
            found.add(Path(os.readlink(one)).name)
    return found


def holds(path: Path, text: str) -> bool:
    return path.exists() and text in path.read_text()


def test_reopening_leaves_standard_output_open(running: Server, folder: Path) -> None:
    running.signal(signal.SIGUSR1)
    running.await_log("logs reopened")
    workers, _ = roles(running, folder)  # who has told how it is has heard of the log before
    for pid in (running.pid, *workers):
        assert os.readlink(f"/proc/{pid}/fd/1") == os.readlink(f"/proc/{running.pid}/fd/1")


def test_treehouse_mode_follows_the_file_system(
    folder: Path, ports: tuple[int, int], backend: int
) -> None:
    sites = folder / "sites"
    (sites / "a.test").mkdir(parents=True)
    (sites / "a.test" / "index.html").write_text("a\n")
    (sites / "www.a.test").symlink_to("a.test")
    options = ["--sites", str(sites), "--state", str(folder / "state")]
    options += ["--http-port", str(ports[0]), "--https-port", str(ports[1]), "--bind", "127.0.0.1"]
    ca = folder / "state/internal-ca/root.pem"
    with Server(options, folder) as server:
        server.await_log("www.a.test: certificate obtained")
        server.await_log("(?<!www.)a.test: certificate obtained")
        assert https(ports[1], "a.test", ca).asks("/", "a.test").body == b"a\n"
        answer = https(ports[1], "www.a.test", ca).asks("/x?y", "www.a.test")
        assert answer["location"] == f"https://a.test:{ports[1]}/x?y"
        assert http(ports[0]).asks("/", "b.test").status == 404
        (sites / "b.test").symlink_to(f"http://127.0.0.1:{backend}")
        server.await_log("b.test: certificate obtained")
        assert https(ports[1], "b.test", ca).asks("/0", "b.test").body == b"slow\n"
        since = len(server.log)
        (sites / "not a domain").mkdir()
        server.await_log("not a domain: left out", since=since)
        assert https(ports[1], "b.test", ca).asks("/0", "b.test").status == 200


def test_a_deployment_that_turns_a_link_is_served(folder: Path, ports: tuple[int, int]) -> None:
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "index.html").write_text(name)
    (folder / "current").symlink_to("one")
    options = ["--domain", "a.test", "--root", str(folder / "current"), "--bind", "127.0.0.1"]
    options += ["--http-port", str(ports[0]), "--https-port", str(ports[1])]
    with Server([*options, "--state", str(folder / "state")], folder) as server:
        server.await_log("certificate obtained")
        with talk(folder, ports) as one:
            assert one.asks("/", "a.test").body == b"one"
        (folder / "next").symlink_to("two")
        (folder / "next").rename(folder / "current")
        server.await_log(f"reloading: {folder / 'current'}: leads elsewhere now")
        server.await_log("generation 1 has finished")
        with talk(folder, ports) as one:
            assert one.asks("/", "a.test").body == b"two"


def test_standard_output_that_nobody_reads_does_not_stop_the_service(
    folder: Path, root: Path, ports: tuple[int, int], backend: int
) -> None:
    read, write = os.pipe()
    try:
        path = config(folder, ports, root, backend)
        with Server(["--config", str(path)], folder, stdout=write) as server:
            server.await_log("certificate obtained")
            with talk(folder, ports) as one:
                for number in range(2000):  # far more than a pipe holds
                    assert one.asks(f"/?{number}", "a.test").status == 200
    finally:
        os.close(read)
        os.close(write)


def test_out_of_descriptors_it_sheds_the_idle_and_serves_on(
    folder: Path, root: Path, ports: tuple[int, int]
) -> None:
    options = ["--domain", "a.test", "--root", str(root), "--state", str(folder / "state")]
    options += ["--http-port", str(ports[0]), "--https-port", str(ports[1])]
    options += ["--bind", "127.0.0.1", "--workers", "1"]
    with Server(options, folder, prefix=("prlimit", "--nofile=72:72")) as server:
        server.await_log("certificate obtained")
        held = []
        for _ in range(150):
            held.append(talk(folder, ports))
            assert held[-1].asks("/", "a.test").status == 200
        server.await_log("out of resources")
        assert talk(folder, ports).asks("/", "a.test").status == 200
        assert "Traceback" not in server.text()
        # The line is one, however often it happens.
        assert sum("out of resources" in line["message"] for line in server.log) < 20


class Slow(Application):
    """Answers a POST when the test says so."""

    go: ClassVar = threading.Event()

    def do_GET(self) -> None:
        self.answers(b"at once")

    def do_POST(self) -> None:
        self.body()
        self.go.wait(60)
        self.answers(b"late")


def test_out_of_descriptors_a_backend_is_not_blamed(folder: Path, ports: tuple[int, int]) -> None:
    """Connections that are busy cannot be shed; what cannot be made then is 503, and it recovers."""
    with serving(Slow) as backend:
        options = ["--domain", "a.test", "--backend", f"http://127.0.0.1:{backend}"]
        options += ["--state", str(folder / "state"), "--bind", "127.0.0.1", "--workers", "1"]
        options += ["--http-port", str(ports[0]), "--https-port", str(ports[1])]
        with Server(options, folder, prefix=("prlimit", "--nofile=72:72")) as server:
            server.await_log("certificate obtained")
            held = [talk(folder, ports)]
            held[0].asks("/", "a.test")
            (worker,) = roles(server, folder, 1)[0]
            while len(os.listdir(f"/proc/{worker}/fd")) < 62:
                held.append(talk(folder, ports))
                held[-1].says(b"POST / HTTP/1.1\r\nHost: a.test\r\n")  # not idle
            for one in held[1:]:
                one.says(b"Content-Length: 1\r\n\r\nx")
            server.await_access(status=503)
            Slow.go.set()
            statuses = {one.hears().status for one in held[1:]}
            assert statuses == {503, 200}
            for one in held:
                one.sock.close()
            assert talk(folder, ports).asks("/", "a.test").status == 200
            assert "Traceback" not in server.text()
            assert "is left out" not in server.text()


def test_no_zombie_stays(running: Server, folder: Path) -> None:
    for _ in range(3):
        while not (workers := roles(running, folder)[0]):
            pass  # neither of those that were killed has a successor yet
        os.kill(workers[0], signal.SIGKILL)
        running.await_log(f"pid {workers[0]}\\).*another starts")
    assert all(proc_status(pid)["State"][0] != "Z" for pid in running.tree())
