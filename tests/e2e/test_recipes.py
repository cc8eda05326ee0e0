"""The cookbook's frameworks, with the very code that stands there: behind the proxy each knows the
scheme, the host and the client."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.http.client import https
from support.program.ports import free_ports
from support.program.server import REPOSITORY, Server

COOKBOOK = (REPOSITORY / "docs/cookbook.md").read_text()
# A recipe: its title, its code, and the command that starts it.
RECIPES = {
    title: (code, command)
    for title, code, command in re.findall(
        r"^### ([^\n]+)\n\n```python\n(.*?)```\n\n    (\S[^\n]+)\n",
        COOKBOOK,
        re.MULTILINE | re.DOTALL,
    )
}
NAME = "app.example.org"


@contextmanager
def app(folder: Path, title: str, port: int) -> Iterator[None]:
    """The recipe, on a port of its own instead of 3000."""
    code, command = RECIPES[title]
    (folder / "app.py").write_text(code.replace("3000", str(port)))
    program, *words = shlex.split(command.replace("3000", str(port)))
    started = [sys.executable] if program == "python" else [sys.executable, "-m", program]
    process = subprocess.Popen(
        [*started, *words], cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(folder)},
    )  # fmt: skip
    try:
        while True:
            assert process.poll() is None, f"{title} ended"
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
                break
            except OSError:
                continue
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.fixture
def proxied(folder: Path, ports: tuple[int, int]) -> Iterator[tuple[Path, int]]:
    """The proxy, and the port that it expects the app on."""
    (port,) = free_ports(1)
    config = folder / "config.yaml"
    config.write_text(
        f"listen: {{http: ['127.0.0.1:{ports[0]}'], https: ['127.0.0.1:{ports[1]}']}}\n"
        f"state: {folder / 'state'}\nacme: {{directory: internal}}\n"
        f"sites: [{{names: [{NAME}], backend: 'http://127.0.0.1:{port}', wait_for_backend: 10s}}]\n"
    )
    with Server(["--config", str(config)], folder) as server:
        server.await_log("certificate obtained")
        yield folder, port


def test_the_recipes_are_found() -> None:
    assert set(RECIPES) == {"Flask", "Django", "FastAPI", "aiohttp", "WebDAV (WsgiDAV)"}


@pytest.mark.parametrize("title", ["Flask", "Django", "FastAPI", "aiohttp"])
def test_an_app_knows_scheme_host_and_client(
    proxied: tuple[Path, int], ports: tuple[int, int], title: str
) -> None:
    folder, port = proxied
    (folder / "app").mkdir()
    ca = folder / "state/internal-ca/root.pem"
    with app(folder / "app", title, port), https(ports[1], NAME, ca) as talk:
        answer = talk.asks("/whoami", NAME)
        assert (answer.status, answer.body.decode()) == (200, f"https {NAME} 127.0.0.1")


def test_webdav_through_the_proxy(proxied: tuple[Path, int], ports: tuple[int, int]) -> None:
    folder, port = proxied
    (folder / "app").mkdir()
    ca = folder / "state/internal-ca/root.pem"
    with app(folder / "app", "WebDAV (WsgiDAV)", port), https(ports[1], NAME, ca) as talk:
        assert talk.asks("/new.txt", NAME, "PUT", body=b"hello").status == 201
        assert talk.asks("/new.txt", NAME).body == b"hello"
        listed = talk.asks("/", NAME, "PROPFIND")
        assert listed.status == 207
        assert b"/new.txt" in listed.body
        assert talk.asks("/folder", NAME, "MKCOL").status == 201
