"""The program under its own systemd units, as far as they can be had without systemd running."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from support.client import http, https
from support.netns import Netns
from support.server import REPOSITORY, Server, proc_status

CONFINED = REPOSITORY / "tests/support/confined.py"
UNITS = REPOSITORY / "config/systemd"
NOBODY, USER = 65534, 12345

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze"
)


BECOME = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
PACKAGES = {"PYTHONPATH": f"{REPOSITORY}:{sysconfig.get_path('platlib')}"}


@pytest.fixture(scope="module")
def python() -> str:
    """An interpreter that any user can run: that of the tests, or Debian's with its packages."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        # The shell is for a second exec: the first is still made with root's capabilities.
        command = [*BECOME, "sh", "-c", 'exec "$0" -c "import proxy.boot"', candidate]
        done = subprocess.run(command, env=os.environ | PACKAGES, capture_output=True, check=False)
        if not done.returncode:
            return candidate
    pytest.skip("every interpreter lies where only root can reach it")


def under(unit: str, python: str) -> tuple[str, ...]:
    return (python, str(CONFINED), str(UNITS / unit))


def lives_and_works(server: Server, state: Path, netns: Netns, uid: int) -> None:
    """Certifies, answers, reloads and stops, fully sandboxed."""
    server.await_log("certificate obtained")
    ca = (state / "internal-ca/root.pem").read_bytes()
    with netns.entered():
        assert http(80).asks("/", "localhost").status == 308
        with https(443, "localhost", ca) as talk:
            assert talk.asks("/", "localhost").body == b"<p>hello\n"
    for pid in server.tree():
        status = proc_status(pid)
        assert status["Seccomp"] == "2", "the unit's filter is not in force"
        assert status["Uid"].split() == [str(uid)] * 4
    server.signal(signal.SIGHUP)
    server.await_log("worker .* of generation 1 has finished")
    with netns.entered(), https(443, "localhost", ca) as talk:
        assert talk.asks("/", "localhost").status == 200
    assert server.stop() == 0
    assert not [line for line in server.log if line["level"] in ("warning", "error")], server.text()


def test_the_unit_that_starts_as_root(folder: Path, root: Path, netns: Netns, python: str) -> None:
    state = folder / "state"
    options = ["--domain", "localhost", "--root", str(root), "--state", str(state)]
    prefix = (*netns.prefix, *under("treehouse-proxy.service", python))
    with Server(
        [*options, "--sandbox", "require"],
        folder, prefix=prefix, python=python, environment=PACKAGES,
    ) as server:  # fmt: skip
        lives_and_works(server, state, netns, NOBODY)


def test_the_unit_that_never_is_root(folder: Path, root: Path, netns: Netns, python: str) -> None:
    netns.run("sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=0")
    state = folder / "own" / "state"
    state.parent.mkdir()
    os.chown(state.parent, USER, USER)
    options = ["--domain", "localhost", "--root", str(root), "--state", str(state)]
    prefix = (*netns.prefix, *BECOME, *under("treehouse-proxy-unprivileged.service", python))
    with Server(
        [*options, "--sandbox", "require"],
        folder, prefix=prefix, python=python, environment=PACKAGES,
    ) as server:  # fmt: skip
        lives_and_works(server, state, netns, USER)
