"""The control socket: who may ask, and that whatever is said there ends nothing."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.program.server import REPOSITORY, Server, packages


@pytest.fixture
def running(folder: Path, root: Path, ports: tuple[int, int]) -> Iterator[Server]:
    options = ["--domain", "a.test", "--root", str(root), "--state", str(folder / "state")]
    options += ["--http-port", str(ports[0]), "--https-port", str(ports[1])]
    with Server([*options, "--bind", "127.0.0.1", "--workers", "1"], folder) as server:
        server.await_log("certificate obtained")
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.text()


def test_nonsense_on_the_control_socket(running: Server, folder: Path) -> None:
    random.seed(7)
    path = str(folder / "state/control.sock")
    words = ["status", "reload", "renew", "plan", "", None, 5, [], {"a": "b"}, "x" * 1000]
    messages = [json.dumps({"command": one, "value": two}).encode() + b"\n"
                for one, two in itertools.product(words[2:], words)]  # fmt: skip
    messages += [random.randbytes(random.randrange(1, 300)) + b"\n" for _ in range(100)]
    messages += [b"[" * 5000 + b"\n", b"x" * 70_000, b"", b"{}\n", b"null\n", b'"status"\n']
    for message in messages:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(60)
            sock.connect(path)
            with contextlib.suppress(OSError):
                sock.sendall(message)
                sock.shutdown(socket.SHUT_WR)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := sock.recv(65536):
                    answer += piece
            assert not answer or isinstance(json.loads(answer)["ok"], bool)
    assert running.status(folder / "state")["pid"] == running.pid


def test_the_control_socket_is_for_its_user_and_root(running: Server, folder: Path) -> None:
    """The directory keeps others out; and who has got hold of it is turned away."""
    path = folder / "state/control.sock"
    ask = (
        "import socket, sys; sock = socket.socket(socket.AF_UNIX); sock.connect(sys.argv[1])\n"
        'sock.sendall(b\'{"command": "status"}\\n\'); print(sock.recv(1))'
    )
    stranger = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "/usr/bin/python3"]
    done = subprocess.run(
        [*stranger, "-c", ask, str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert "PermissionError" in done.stderr
    os.chmod(path.parent, 0o755)
    os.chmod(path, 0o666)
    done = subprocess.run(
        [*stranger, "-c", ask, str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert "b'{" not in done.stdout
    running.await_log("a caller with uid 12345 was turned away from the control socket")
    os.chmod(path.parent, 0o700)


WORKER = """
import os, socket, sys
from pathlib import Path
from proxy import sandbox
from proxy.system import preload, privileges
from proxy.config.model import Config, FilesAction, Route, Site
root, state = map(Path, sys.argv[1:])
preload.while_root(65534, 65534, lambda: None)
privileges.drop(65534, 65534)
privileges.confine_process()
preload.everything()
config = Config((Site(("a.test",), (Route("/*", FilesAction(root)),)),), state)
sandbox.apply(sandbox.policies(config)["worker"], "require")
def can(flags):
    try:
        return [os.open(state, flags | os.O_DIRECTORY)]
    except PermissionError:
        return []
for shown in ([], can(os.O_PATH), can(os.O_RDONLY), [os.open(root, os.O_RDONLY)]):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(state / "control.sock"))
        socket.send_fds(sock, [b'{"command": "status"}\\n'], shown)
        print(sock.recv(65536).decode().strip())
"""


def test_a_worker_that_was_taken_over_commands_nothing(
    running: Server, folder: Path, root: Path
) -> None:
    """It is of the user that may, and can connect; but it has not what must be shown."""
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(root), str(folder / "state")],
        cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers == [{"ok": False, "error": "only who can read the state directory may ask"}] * 4
    asking = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3"]
    command = ["-m", "proxy", "status", "--json", "--state", str(folder / "state")]
    done = subprocess.run(
        [*asking, *command], cwd=REPOSITORY, env=os.environ | packages(REPOSITORY),
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert json.loads(done.stdout)["pid"] == running.pid, "the same user, in no sandbox"


def test_a_control_socket_that_somebody_removes_is_made_again(
    running: Server, folder: Path
) -> None:
    lines = len(running.log)
    (folder / "state/control.sock").unlink()
    running.await_log("control.sock was removed, and has been made again", since=lines)
    assert running.status(folder / "state")["pid"] == running.pid
