"""A disk without room, below the state directory and below the access log: nobody who is served
notices, the log says what could not be written, and when there is room again all is as it should be.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.http.client import Talk, https
from support.program.server import Server, packages, treehouse

NOBODY = 65534


@pytest.fixture
def disks(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Two small ones: for the state, and for the access log."""
    made = []
    for name, size in (("state", "512k"), ("log", "64k")):
        place = folder / name
        place.mkdir()
        options = f"size={size},uid={NOBODY},gid={NOBODY},mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
        made.append(place)
    yield made[0], made[1]
    for place in made:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk: Path) -> Path:
    """To the last byte; the file that does so."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        os.fchown(file.fileno(), NOBODY, NOBODY)
        os.fchmod(file.fileno(), 0o600)
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return path


def test_a_disk_without_room(
    disks: tuple[Path, Path],
    folder: Path,
    root: Path,
    ports: tuple[int, int],
    program: Path,
    shared_python: str,
) -> None:
    state, logs = disks
    config = folder / "config.yaml"
    text = f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 2
state: {state}
log: {{access: {logs / "access.log"}}}
sites:
  - {{names: [a.test], root: {root}}}
"""
    config.write_text(text)

    def talk(name: str) -> Talk:
        return https(ports[1], name, state / "internal-ca/root.pem")

    def well(name: str, times: int = 1) -> bool:
        with talk(name) as one:
            return {one.asks("/", name).status for _ in range(times)} == {200}

    with Server(
        ["--config", str(config)],
        folder,
        python=shared_python,
        cwd=program,
        environment=packages(program),
    ) as server:
        server.await_log("a.test: certificate obtained")
        filler = fill(state)
        # The access log fills by itself, and nobody waits for it.
        assert well("a.test", 600)
        server.await_log("lines of the access log are lost: No space left on device")
        # A renewal that nobody needs yet waits for the disk; who has no certificate gets one.
        done = treehouse("certs", "renew", "a.test", "--state", str(state))
        assert done.returncode == 1
        assert "the state directory cannot be written: No space left" in done.stderr
        config.write_text(text + f"  - {{names: [b.test], root: {root}}}\n")
        done = treehouse("reload", "--state", str(state))
        assert done.returncode == 0, done.stderr
        server.await_log("b.test: the certificate cannot be written .*served from memory")
        server.await_log("b.test: certificate obtained")
        assert well("b.test")
        # Processes that start now have only what the disk had.
        since = len(server.log)
        serving = [one["pid"] for one in server.status(state)["workers"]]
        (certifier,) = set(server.children()) - set(serving)
        os.kill(certifier, signal.SIGKILL)
        server.await_log("b.test: certificate obtained", since=since)
        assert well("a.test")
        assert well("b.test")
        since = len(server.log)
        done = treehouse("upgrade", "--state", str(state))
        assert done.returncode == 0, done.stderr
        server.await_log("b.test: certificate obtained", since=since)
        assert well("a.test")
        assert well("b.test")
        # There is room again.
        since = len(server.log)
        os.truncate(filler, 0)
        os.truncate(logs / "access.log", 0)
        for name in ("a.test", "b.test"):
            done = treehouse("certs", "renew", name, "--state", str(state))
            assert done.returncode == 0, done.stderr
            assert (state / "certificates" / name / "fullchain.pem").exists()
            assert well(name)
        assert '"a.test"' in (logs / "access.log").read_text()
        treehouse("stop", "--state", str(state))
