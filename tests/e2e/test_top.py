"""`treehouse-proxy top` against the real program: for scripts, on a terminal, without an admin
listener."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.http.backend_app import Application, serving
from support.http.client import https
from support.program.ports import free_ports
from support.program.server import REPOSITORY, Server, treehouse

pytestmark = pytest.mark.program


class Backend(Application):
    def do_GET(self) -> None:  # the base class's name for it
        self.answers(b"ok")


@pytest.fixture
def server(folder: Path, root: Path) -> Iterator[tuple[Server, int]]:
    one, two, nobody = free_ports(3)
    with serving(Backend) as backend:
        (folder / "config.yaml").write_text(
            f"""
listen: {{http: ["127.0.0.1:{one}"], https: ["127.0.0.1:{two}"]}}
workers: 2
state: {folder / "state"}
sites:
  - names: [a.test]
    routes:
      - {{path: /down/*, backend: "http://127.0.0.1:{nobody}"}}
      - {{path: /app/*, backend: "http://127.0.0.1:{backend}"}}
      - {{path: /*, root: {root}}}
"""
        )
        with Server(["--config", str(folder / "config.yaml")], folder) as running:
            running.await_log("certificate obtained")
            yield running, two


def test_for_scripts(folder: Path, server: tuple[Server, int]) -> None:
    running, port = server
    state = str(folder / "state")
    ca = folder / "state/internal-ca/root.pem"
    # Nothing is counted before somebody asks; from then on, also by workers that come later.
    first = treehouse("top", "--once", "--interval", "0.1", "--state", state)
    assert first.returncode == 0, first.stderr
    assert "requests 0/s" in first.stdout
    os.kill(running.status(folder / "state")["workers"][0]["pid"], signal.SIGKILL)
    running.await_log("another starts")
    asking = subprocess.Popen(
        [sys.executable, "-m", "proxy", "top", "--once", "--interval", "3", "--state", state],
        cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    while asking.poll() is None:
        for path, status in (("/", 200), ("/app/x", 200), ("/down/x", 502)):
            assert https(port, "a.test", ca).asks(path, "a.test").status == status
    text, _ = asking.communicate(timeout=60)
    assert "\x1b" not in text
    (line,) = [one for one in text.splitlines() if one.startswith("a.test")]
    assert float(line.split()[1]) > 0
    assert float(line.split()[3]) > 0  # those of the backend that is not there
    assert re.search(r"http://127.0.0.1:\d+ .* fails", text)
    assert "! the backend http://127.0.0.1:" in text
    assert "next: " in text
    assert re.search(r"worker 1 \d+%", text)


def test_on_a_terminal_that_changes_its_size(folder: Path, server: tuple[Server, int]) -> None:
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(REPOSITORY)
        os.environ["TERM"] = "xterm"
        os.execv(
            sys.executable, [sys.executable, "-m", "proxy", "top", "--state", str(folder / "state")]
        )
    try:
        _size(fd, 100, 30)
        _await(fd, b"q ends")
        assert b"\x1b[?1049h" in _seen
        _size(fd, 40, 12)
        # Pages that were on their way are wide.
        while _widest(_await(fd, b"q ends")) > 40:
            pass
        assert _widest(_await(fd, b"q ends")) <= 40
        os.write(fd, b"q")
        _await(fd, b"\x1b[?1049l")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(fd)


_seen = bytearray()


def _widest(seen: bytes) -> int:
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen.rpartition(b"\x1b[H")[2])
    return max(len(line.decode().rstrip("\r")) for line in plain.split(b"\r\n"))


def _size(fd: int, columns: int, lines: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))


def _await(fd: int, wanted: bytes, within: float = 60.0) -> bytes:
    """What comes until ``wanted`` has come, beginning after what was asked for before."""
    start, end = len(_seen), time.monotonic() + within
    while wanted not in _seen[start:]:
        assert time.monotonic() < end, bytes(_seen[start:])
        if select.select([fd], [], [], 0.2)[0]:
            try:
                _seen.extend(os.read(fd, 65536))
            except OSError:  # the other side has closed the terminal
                break
    return bytes(_seen[start:])


def test_nobody_there(folder: Path) -> None:
    done = treehouse("top", "--once", "--state", str(folder))
    assert done.returncode == 1
    assert "no server" in done.stderr
