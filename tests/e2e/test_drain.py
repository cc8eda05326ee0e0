"""A balancer's view: `/healthz` of the admin listener, and a drain that it sees before the end."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from support.http.client import http
from support.program.ports import free_ports
from support.program.server import Server, treehouse


def health(admin: int, host: str = "balancer.example") -> tuple[int, bytes]:
    answer = http(admin).asks("/healthz", host)
    return answer.status, answer.body


def test_a_balancer_sees_a_drain_before_the_server_stops(folder: Path, root: Path) -> None:
    plain, tls, admin = free_ports(3)
    (folder / "c.yaml").write_text(
        f"listen: {{http: ['127.0.0.1:{plain}'], https: ['127.0.0.1:{tls}']}}\n"
        f"state: {folder}/state\nworkers: 1\nadmin:\n  listen: 127.0.0.1:{admin}\n"
        "  basic_auth: {users: {alice: '$2y$05$abcdefghijklmnopqrstuuO6Jp1vPTFLbVLm8Gt4hYuIiT0Nhl7Wa'}}\n"
        f"sites:\n- {{names: [localhost], root: {root}}}\n"
    )
    words = ("--config", str(folder / "c.yaml"))
    with Server([*words], folder) as server:
        # Neither a login nor a name that the admin listener goes by is asked of a balancer.
        assert health(admin) == (200, b"ok\n")
        assert http(admin).asks("/status", f"127.0.0.1:{admin}").status == 401
        assert http(admin).asks("/healthz/", f"127.0.0.1:{admin}").status == 401
        assert http(admin).asks("//healthz", f"127.0.0.1:{admin}").status != 200
        # A supervisor that hangs serves nobody itself.
        os.kill(server.pid, signal.SIGSTOP)
        assert health(admin)[0] == 200
        os.kill(server.pid, signal.SIGCONT)

        refused = treehouse("drain", "--wait", "soon", *words)
        assert refused.returncode == 2, refused.stderr
        told = treehouse("drain", "--wait", "1h", *words)
        assert told.returncode == 0, told.stderr
        assert "/healthz answers 503 from now on; the server stops in 1h" in told.stdout
        server.await_log("draining: /healthz answers 503")
        await_health(admin, 503)
        assert http(plain).asks("/", f"localhost:{plain}").status == 308  # all is served
        assert "drains" in treehouse("upgrade", *words).stderr
        assert treehouse("reload", *words).returncode == 0
        assert health(admin) == (503, b"draining\n")

        assert "200" in treehouse("drain", "--cancel", *words).stdout
        await_health(admin, 200)
        assert "it does not drain" in treehouse("drain", "--cancel", *words).stderr

        assert treehouse("drain", "--wait", "1s", *words).returncode == 0
        assert server.ended() == 0
        server.await_log("stopping: it has drained")


def await_health(admin: int, status: int) -> None:
    """An answer counts for a second, so the next but one is of now."""
    deadline = time.monotonic() + 60
    while (found := health(admin))[0] != status:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)  # seen from outside only
