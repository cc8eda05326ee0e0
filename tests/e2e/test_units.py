"""The program under its own systemd units, as far as they can be had without systemd running."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.http.client import http, https
from support.program.netns import Netns
from support.program.server import REPOSITORY, Server, packages, proc_status

CONFINED = REPOSITORY / "tests/support/program/confined.py"
UNITS = REPOSITORY / "config/systemd"
NOBODY, USER = 65534, 12345

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze"
)


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
    # As systemd runs ExecReload=: under the same unit.
    reload = [*server.command[: server.command.index("proxy") + 1], "reload", "--state", str(state)]
    done = subprocess.run(
        reload, env=os.environ | packages(REPOSITORY), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "reloaded: generation 2\n"), done.stderr
    server.await_log("worker .* of generation 1 has finished")
    with netns.entered(), https(443, "localhost", ca) as talk:
        assert talk.asks("/", "localhost").status == 200
    assert server.stop() == 0
    assert not [line for line in server.log if line["level"] in ("warning", "error")], server.text()


# What systemd makes of a unit, in tenths, from 0 (nothing is exposed) to 100. nginx's has 96.
@pytest.mark.parametrize(
    ("unit", "most"),
    [("treehouse-proxy.service", 30), ("treehouse-proxy-unprivileged.service", 15)],
)
def test_what_a_unit_exposes(unit: str, most: int) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={most}", str(UNITS / unit)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """`systemd-analyze verify` says nothing, once the program is where the units look for it."""
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/opt/treehouse-proxy/bin/treehouse-proxy", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *sorted(map(str, tmp_path.iterdir()))],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_unit_that_starts_as_root(
    folder: Path, root: Path, netns: Netns, shared_python: str
) -> None:
    state = folder / "state"
    options = ["--domain", "localhost", "--root", str(root), "--state", str(state)]
    prefix = (*netns.prefix, *under("treehouse-proxy.service", shared_python))
    with Server(
        [*options, "--sandbox", "require"],
        folder, prefix=prefix, python=shared_python, environment=packages(REPOSITORY),
    ) as server:  # fmt: skip
        lives_and_works(server, state, netns, NOBODY)


def test_the_unit_that_never_is_root(
    folder: Path, root: Path, netns: Netns, shared_python: str
) -> None:
    netns.run("sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=0")
    state = folder / "own" / "state"
    state.parent.mkdir()
    os.chown(state.parent, USER, USER)
    options = ["--domain", "localhost", "--root", str(root)]
    become = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
    prefix = (*netns.prefix, *become, *under("treehouse-proxy-unprivileged.service", shared_python))
    environment = packages(REPOSITORY) | {"STATE_DIRECTORY": str(state)}  # StateDirectory=
    with Server(
        [*options, "--sandbox", "require"],
        folder, prefix=prefix, python=shared_python, environment=environment,
    ) as server:  # fmt: skip
        lives_and_works(server, state, netns, USER)
