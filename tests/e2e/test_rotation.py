"""The real program puts its access log aside, in its sandbox, and loses no line."""

from __future__ import annotations

import os
from pathlib import Path

from support.http.client import https
from support.program.server import Server


def test_no_line_is_lost(folder: Path, root: Path, ports: tuple[int, int]) -> None:
    logs = folder / "log"
    logs.mkdir()
    os.chown(logs, 65534, 65534)
    config = folder / "config.yaml"
    config.write_text(
        f"listen: {{http: ['127.0.0.1:{ports[0]}'], https: ['127.0.0.1:{ports[1]}']}}\n"
        f"state: {folder / 'state'}\nworkers: 2\n"
        f"log: {{access: {logs / 'access.log'}, rotate: {{size: 1MiB, keep: 3, compress: false}}}}\n"
        f"sites: [{{names: [a.test], root: {root}}}]\n"
    )
    ca = folder / "state/internal-ca/root.pem"
    target = "/" + "x" * 6000
    sent = 0
    with Server(["--config", str(config)], folder) as server:
        server.await_log("a.test: certificate obtained")
        while not (logs / "access.log.1").exists():
            with https(ports[1], "a.test", ca) as talk:
                for _ in range(50):
                    talk.asks(target, "a.test")
                    sent += 1
        server.await_log("logs reopened")
        with https(ports[1], "a.test", ca) as talk:
            for _ in range(50):
                talk.asks(target, "a.test")
                sent += 1
        assert server.stop() == 0
    lines = sum(len(path.read_bytes().splitlines()) for path in logs.iterdir())
    assert lines == sent
    assert (logs / "access.log").stat().st_size > 0
