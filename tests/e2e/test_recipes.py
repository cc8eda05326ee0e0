"""The cookbook's frameworks, with the very code that stands there: behind the proxy each knows the
scheme, the host and the client."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from support import cookbook
from support.http.client import context, https
from support.program.ports import free_ports
from support.program.server import REPOSITORY, Server

# A recipe: its title, its code, and the command that starts it.
RECIPES = {
    title: (code, command)
    for title, text in cookbook.PAGES.items()
    for code, command in re.findall(
        r"```(?:python|js)\n(.*?)```\n\n    (\S[^\n]+)\n", text, re.DOTALL
    )
}
NAME = "app.example.org"
# What the code of a recipe is called, where that is not app.py.
FILES = {
    "Express": "app.js",
    "Vite": "vite.config.mjs",
    "Jupyter": "jupyter_server_config.py",
}
TOKEN = "a-token"
NODE = Path(__file__).parent / "node"
# Less than a test may take: a registry that does not answer is tried for minutes.
_HAD_WITHIN = 180.0


@functools.cache
def node_modules() -> Path:
    """The packages of node/package-lock.json, installed once for each version of that file."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    mark = hashlib.sha256((NODE / "package-lock.json").read_bytes()).hexdigest()[:16]
    place = REPOSITORY / ".run" / f"node-{mark}"
    if not (place / "complete").exists():
        place.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(NODE / name, place)
        try:
            done = subprocess.run(
                ["npm", "ci", "--no-audit", "--no-fund", "--prefer-offline"], cwd=place,
                capture_output=True, text=True, timeout=_HAD_WITHIN,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            pytest.skip(f"the packages for Node are not there after {_HAD_WITHIN:g} s")
        if done.returncode:
            pytest.skip(f"the packages for Node cannot be had: {done.stderr[-300:]}")
        (place / "complete").touch()
    return place / "node_modules"


@contextmanager
def app(folder: Path, title: str, port: int) -> Iterator[None]:
    """The recipe, on a port of its own instead of 3000."""
    code, command = RECIPES[title]
    (folder / FILES.get(title, "app.py")).write_text(code.replace("3000", str(port)))
    program, *words = shlex.split(command.replace("3000", str(port)))
    started = [sys.executable] if program == "python" else [sys.executable, "-m", program]
    if title in ("Express", "Vite"):
        (folder / "node_modules").symlink_to(node_modules())
        started = ["node"] if program == "node" else ["node_modules/.bin/" + words.pop(0)]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    if title == "Jupyter":
        words.append("--allow-root")
        environment |= {
            "JUPYTER_TOKEN": TOKEN,
            "HOME": str(folder),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
    process = subprocess.Popen(
        [*started, *words], cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    try:
        while True:
            assert process.poll() is None, f"{title} ended"
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
                break
            except OSError:
                time.sleep(0.05)  # another program's start has no event that could be awaited here
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


@pytest.fixture
def proxied(folder: Path, ports: tuple[int, int]) -> Iterator[tuple[Path, int]]:
    """The proxy, and the port that it expects the app on."""
    (port,) = free_ports(1)
    config = folder / "config.yaml"
    config.write_text(
        f"listen: {{http: ['127.0.0.1:{ports[0]}'], https: ['127.0.0.1:{ports[1]}']}}\n"
        f"state: {folder / 'state'}\nacme: {{directory: internal}}\n"
        f"sites: [{{names: [{NAME}], backend: 'http://127.0.0.1:{port}', wait_for_backend: 60s}}]\n"
    )
    with Server(["--config", str(config)], folder) as server:
        server.await_log("certificate obtained")
        yield folder, port


def test_the_recipes_are_found() -> None:
    assert set(RECIPES) == {
        "Flask", "Django", "FastAPI", "aiohttp", "hypercorn", "Jupyter", "Express", "Vite", "WebDAV (WsgiDAV)",
    }  # fmt: skip


@pytest.mark.parametrize("title", ["Flask", "Django", "FastAPI", "aiohttp", "hypercorn", "Express"])
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


def test_hypercorn_over_http2(folder: Path, ports: tuple[int, int]) -> None:
    (port,) = free_ports(1)
    config = folder / "config.yaml"
    config.write_text(
        f"listen: {{http: ['127.0.0.1:{ports[0]}'], https: ['127.0.0.1:{ports[1]}']}}\n"
        f"state: {folder / 'state'}\nacme: {{directory: internal}}\n"
        f"sites: [{{names: [{NAME}], backend: 'h2c://127.0.0.1:{port}', wait_for_backend: 60s}}]\n"
    )
    (folder / "app").mkdir()
    with Server(["--config", str(config)], folder) as server:
        server.await_log("certificate obtained")
        ca = folder / "state/internal-ca/root.pem"
        with app(folder / "app", "hypercorn", port), https(ports[1], NAME, ca) as talk:
            answer = talk.asks("/whoami", NAME)
            assert (answer.status, answer.body.decode()) == (200, f"https {NAME} 127.0.0.1")


def test_vite_tells_of_a_changed_file(proxied: tuple[Path, int], ports: tuple[int, int]) -> None:
    folder, port = proxied
    place = folder / "app"
    place.mkdir()
    (place / "index.html").write_text('<script type="module" src="/main.js"></script>\n')
    (place / "main.js").write_text("import.meta.hot.accept(); console.log(1)\n")
    ca = folder / "state/internal-ca/root.pem"
    with app(place, "Vite", port), https(ports[1], NAME, ca) as talk:
        page = talk.asks("/", NAME)
        assert b'src="/@vite/client"' in page.body
        client = talk.asks("/@vite/client", NAME).body.decode()
        token = re.search(r'wsToken = "([^"]+)"', client)
        assert token is not None
        assert b"console.log(1)" in talk.asks("/main.js", NAME).body
        with (
            socket.create_connection(("127.0.0.1", ports[1])) as plain,
            connect(
                f"wss://{NAME}/?token={token[1]}", sock=plain, ssl=context(ca), proxy=None,
                subprotocols=[Subprotocol("vite-hmr")], origin=Origin(f"https://{NAME}"),
            ) as channel,
        ):  # fmt: skip
            assert json.loads(channel.recv(60)) == {"type": "connected"}
            (place / "main.js").write_text("import.meta.hot.accept(); console.log(2)\n")
            told = json.loads(channel.recv(60))
            assert told["type"] == "update"
            assert told["updates"][0]["path"] == "/main.js"
        assert b"console.log(2)" in talk.asks("/main.js", NAME).body


def test_a_terminal_of_jupyter(proxied: tuple[Path, int], ports: tuple[int, int]) -> None:
    folder, port = proxied
    (folder / "app").mkdir()
    ca = folder / "state/internal-ca/root.pem"
    given = f"Authorization: token {TOKEN}\r\n"
    with app(folder / "app", "Jupyter", port), https(ports[1], NAME, ca) as talk:
        assert talk.asks("/api/status", NAME).status == 403
        assert talk.asks("/api/status", NAME, fields=given).status == 200
        made = talk.asks("/api/terminals", NAME, "POST", given, b"")
        assert made.status == 200
        name = json.loads(made.body)["name"]
        with (
            socket.create_connection(("127.0.0.1", ports[1])) as plain,
            connect(
                f"wss://{NAME}/terminals/websocket/{name}", sock=plain, ssl=context(ca), proxy=None,
                origin=Origin(f"https://{NAME}"),
                additional_headers={"Authorization": f"token {TOKEN}"},
            ) as channel,
        ):  # fmt: skip
            channel.send(json.dumps(["stdin", "echo $((6*7))a\r"]))
            shown = ""
            while "42a" not in shown:
                kind, *text = json.loads(channel.recv(60))
                shown += "".join(text) if kind == "stdout" else ""
        assert talk.asks(f"/api/terminals/{name}", NAME, "DELETE", given).status == 204
