"""Starting: as root and dropping it for good, without root in each of the ways there are, and the
explanations where it cannot be."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

import pytest

from support.http.client import http, https
from support.program.netns import Netns
from support.program.server import REPOSITORY, Server, await_gone, packages, proc_status, treehouse

NOBODY = 65534
USER = 12345


def site(root: Path, state: Path, *more: str) -> list[str]:
    return ["--domain", "localhost", "--root", str(root), "--state", str(state), *more]


def test_as_root_it_binds_80_and_443_and_nobody_is_root_any_more(
    folder: Path, root: Path, netns: Netns
) -> None:
    state = folder / "state"
    with Server(site(root, state), folder, prefix=netns.prefix) as server:
        server.await_log("certificate obtained")
        with netns.entered():
            assert http(80).asks("/", "localhost").status == 308
            assert http(80, "::1").asks("/", "localhost").status == 308
            ca = (state / "internal-ca/root.pem").read_bytes()
            with https(443, "localhost", ca) as talk:
                assert talk.asks("/", "localhost").body == b"<p>hello\n"
        assert len(server.children()) == os.cpu_count() + 1
        for pid in server.tree():
            status = proc_status(pid)
            assert status["Uid"].split() == [str(NOBODY)] * 4
            assert status["Gid"].split() == [str(NOBODY)] * 4
            assert status["Groups"] == ""
            assert status["NoNewPrivs"] == "1"
            for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                assert int(status[kind], 16) == 0, kind
            # Not dumpable: /proc/PID belongs to root, so that not even its own user may trace it.
            assert os.stat(f"/proc/{pid}/mem").st_uid == 0
        for path in [state, *state.rglob("*")]:
            with contextlib.suppress(FileNotFoundError):  # what was being written has its name now
                info = path.lstat()
                assert (info.st_uid, info.st_gid) == (NOBODY, NOBODY), path
                assert stat.S_ISLNK(info.st_mode) or info.st_mode & 0o077 == 0, path
        assert server.stop() == 0
        assert not (state / "control.sock").exists()


def test_user_and_group_are_taken_by_name_or_number(
    folder: Path, root: Path, ports: tuple[int, int]
) -> None:
    options = ["--http-port", str(ports[0]), "--https-port", str(ports[1])]
    for user, group, uid, gid in (("daemon", "mail", 1, 8), ("12345", "54321", 12345, 54321)):
        state = folder / f"state-{user}"
        with Server(
            site(root, state, "--user", user, "--group", group, *options), folder
        ) as server:
            for pid in server.tree():
                status = proc_status(pid)
                assert status["Uid"].split()[0] == str(uid)
                assert status["Gid"].split()[0] == str(gid)
            assert state.stat().st_uid == uid


def requirements() -> list[str]:
    """Names of the distributions that the program runs on."""
    lines = (REPOSITORY / "requirements/run.txt").read_text().splitlines()
    return [line.partition("==")[0] for line in lines if "==" in line]


def parts_of(distribution: str) -> set[str]:
    """Names in site-packages that a distribution has put there."""
    found = files(distribution)
    assert found is not None
    return {path.parts[0] for path in found} - {"..", "__pycache__"}


def test_with_an_interpreter_that_only_root_can_read(
    folder: Path, root: Path, netns: Netns
) -> None:
    """Every late import would fail; the server serves, logs, reloads and stops all the same."""
    hidden = folder / "hidden"
    hidden.mkdir(mode=0o700)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", hidden / "venv"], check=True)
    packages = next((hidden / "venv/lib").glob("python*/site-packages"))
    ours = next(Path(sys.prefix, "lib").glob("python*/site-packages"))
    needed = {ours / part for name in requirements() for part in parts_of(name)}
    # With their times, or every process would compile all of it again.
    subprocess.run(["cp", "-r", "-p", *map(str, needed), str(packages)], check=True)
    for package in ("proxy", "acme_client"):
        subprocess.run(["cp", "-r", "-p", str(REPOSITORY / package), str(hidden)], check=True)
    state = folder / "state"
    with Server(
        site(root, state), folder, prefix=netns.prefix, cwd=hidden,
        python=str(hidden / "venv/bin/python"),
    ) as server:  # fmt: skip
        server.await_log("certificate obtained")
        ca = (state / "internal-ca/root.pem").read_bytes()
        with netns.entered():
            assert https(443, "localhost", ca).asks("/", "localhost").status == 200
            assert https(443, "localhost", ca).asks("/%ff/x", "localhost").status == 404
            assert http(80).asks("/", "b\xfccher").status == 400
        first = set(server.children())
        server.signal(signal.SIGHUP)
        server.await_log("generation 1 has finished|worker 1 of generation 1")
        server.await_told("RELOADING=1")
        with netns.entered():
            assert https(443, "localhost", ca).asks("/", "localhost").status == 200
        assert first - set(server.children())
        assert server.stop() == 0
        assert "Traceback" not in server.text()


def test_a_port_in_use_names_the_process(folder: Path, root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        done = treehouse(
            *site(root, folder / "state", "--bind", "127.0.0.1", "--http-port", "0"),
            "--https-port", str(port),
        )  # fmt: skip
    assert done.returncode == 3
    assert f"(pid {os.getpid()})" in done.stderr
    assert "python" in done.stderr or "pytest" in done.stderr


def test_without_root_a_low_port_is_explained_with_the_ways_out(
    folder: Path, root: Path, netns: Netns
) -> None:
    done = treehouse(
        *site(root, folder / "state-of-user"),
        prefix=(*netns.prefix, "setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)},
    )
    if "can't open file" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip("this interpreter cannot be run by another user")
    assert done.returncode == 3
    again = f"sudo {sys.executable} -m proxy --"
    for way in ("ip_unprivileged_port_start=", "CAP_NET_BIND_SERVICE", again, "ListenStream="):
        assert way in done.stderr, way


def test_without_root_where_the_kernel_allows_low_ports(
    folder: Path, root: Path, netns: Netns, shared_python: str
) -> None:
    netns.run("sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=0")
    state = folder / "own"
    state.mkdir()
    os.chown(state, USER, USER)
    become = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
    with Server(
        site(root, state / "state"),
        folder,
        prefix=(*netns.prefix, *become),
        python=shared_python,
        environment=packages(REPOSITORY),
    ) as server:
        for pid in server.tree():
            assert proc_status(pid)["Uid"].split() == [str(USER)] * 4
        with netns.entered():
            assert http(80).asks("/", "localhost").status in (308, 503)


def test_systemds_sockets_are_used_instead_of_binding(folder: Path, root: Path) -> None:
    """What systemd does: descriptors 3 and 4, named, and LISTEN_PID of the very process."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(
        ("127.0.0.1", 0)
    ) as other:  # fmt: skip
        launcher = (
            "import os,sys\n"
            f"os.dup2({one.fileno()}, 3); os.dup2({other.fileno()}, 4)\n"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2', LISTEN_FDNAMES='http:https')\n"
            "os.execv(sys.executable, [sys.executable, '-m', 'proxy', *sys.argv[1:]])\n"
        )
        state = folder / "state"
        os.set_inheritable(one.fileno(), True)
        os.set_inheritable(other.fileno(), True)
        process = subprocess.Popen(
            [sys.executable, "-c", launcher, *site(root, state)],
            cwd=REPOSITORY, close_fds=False, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if b"certificate obtained" in line:
                    break
            ca = (state / "internal-ca/root.pem").read_bytes()
            assert http(one.getsockname()[1]).asks("/", "localhost").status == 308
            with https(other.getsockname()[1], "localhost", ca) as talk:
                assert talk.asks("/", "localhost").status == 200
        finally:
            process.terminate()
            process.stderr.close()
            assert process.wait(60) == 0


def test_children_end_when_the_supervisor_is_killed(
    folder: Path, root: Path, ports: tuple[int, int]
) -> None:
    options = ["--http-port", str(ports[0]), "--https-port", str(ports[1])]
    with Server(site(root, folder / "state", *options), folder) as server:
        children = server.children()
        assert children
        server.signal(signal.SIGKILL)
        server.process.wait()
        await_gone(children)


MISTAKES = {
    "no site": ([], "no site is given"),
    "a root that is not there": (["--domain", "localhost", "--root", "/nowhere"], "/nowhere does not exist"),
    "two answers": (
        ["--domain", "localhost", "--root", "/", "--backend", "http://127.0.0.1:1"], "exclude each other"),
    "a port that is none": (["--domain", "localhost", "--root", "/srv", "--http-port", "70000"], "70000"),
    "an option that is none": (["--domian", "localhost"], "--domain"),
    "a user that is none": (["--domain", "localhost", "--root", "/srv", "--user", "nobdy"], "nobdy"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_explained(mistake: str, folder: Path) -> None:
    options, said = MISTAKES[mistake]
    done = treehouse(*options, *(["--state", str(folder / "state")] if options else []))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "state").exists()
