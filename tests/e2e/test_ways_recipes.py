"""The cookbook's recipes for ways through a site, as they stand there: only folders and ports are
others."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import cookbook
from support.http.client import Answer, https
from support.program.ports import free_ports
from support.program.server import Server

BROWSER = "Accept: text/html,*/*;q=0.8\r\n"
FILES = {
    "app/dist/index.html": "the app", "app/dist/assets/app-1234.js": "script",
    "files/a.txt": "a", "files/.hidden": "never",
    "errors/404.html": "not here", "errors/sorry.html": "sorry",
    "www/index.html": "home", "www/about.html": "about us", "www/404.html": "lost",
    "www/downloads/x.zip": "zip", "www/contact.html": "a form", "next/index.html": "the next one",
}  # fmt: skip


class App(http.server.BaseHTTPRequestHandler):
    """Answers with what it was asked for; 500 below /broken, 404 below /nothing."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        prefix = self.headers.get("X-Forwarded-Prefix")
        body = json.dumps([self.command, self.path, prefix]).encode()
        status = {"/broken": 500, "/nothing": 404}.get(self.path, 200)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def srv() -> Iterator[Path]:
    """What lies in /srv, in a folder that the server's user may enter."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def app() -> Iterator[int]:
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), App)
    made.daemon_threads = True
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made.server_address[1]
    made.shutdown()
    made.server_close()


class Site:
    def __init__(self, port: int, ca: Path) -> None:
        self._port = port
        self._ca = ca

    def asks(self, host: str, target: str, fields: str = "", method: str = "GET") -> Answer:
        with https(self._port, host, self._ca) as talk:
            return talk.asks(target, host, method, fields)

    def heard(self, host: str, target: str, method: str = "GET") -> list[str | None]:
        """What the app was asked for: method, path and the prefix that it was told."""
        answer = self.asks(host, target, method=method)
        assert answer.status == 200
        found: list[str | None] = json.loads(answer.body)
        return found


@contextmanager
def served(title: str, srv: Path, app: int) -> Iterator[Site]:
    """The recipe under this title."""
    text = cookbook.first_yaml(title)
    one, two = free_ports(2)
    text = text.replace("/srv/", f"{srv}/").replace(":3000", f":{app}")
    config = srv / "config.yaml"
    config.write_text(
        f"listen: {{http: ['127.0.0.1:{one}'], https: ['127.0.0.1:{two}']}}\n"
        f"state: {srv}/state\nacme: {{directory: internal}}\n{text}"
    )
    names = re.findall(r"names: \[([\w.]+)\]", text)
    with Server(["--config", str(config)], srv) as server:
        for name in names:
            server.await_log(f"{name}: certificate obtained")
        yield Site(two, srv / "state/internal-ca/root.pem")


def test_a_single_page_app(srv: Path, app: int) -> None:
    name = "app.example.org"
    with served("A single-page app", srv, app) as site:
        for target in ("/", "/users/7", "/index.html"):
            answer = site.asks(name, target, BROWSER)
            assert (answer.status, answer.body) == (200, b"the app")
            assert answer["cache-control"] == "no-cache"
        script = site.asks(name, "/assets/app-1234.js")
        assert script["cache-control"] == "public, max-age=31536000, immutable"
        assert site.asks(name, "/assets/app-0000.js", "Accept: */*\r\n").status == 404
        assert site.heard(name, "/api/users?a=b") == ["GET", "/users?a=b", "/api"]


def test_a_folder_to_download_from(srv: Path, app: int) -> None:
    name = "files.example.org"
    with served("A folder to download from", srv, app) as site:
        page = site.asks(name, "/", BROWSER)
        assert page["content-type"] == "text/html; charset=utf-8"
        assert b"a.txt" in page.body
        answer = site.asks(name, "/", "Accept: application/json\r\n")
        (entry,) = json.loads(answer.body)
        assert set(entry) == {"name", "url", "type", "size", "modified"}
        assert entry["name"] == "a.txt"


def test_maintenance(srv: Path, app: int) -> None:
    name = "shop.example.org"
    with served("Maintenance", srv, app) as site:
        for target, method in [("/", "GET"), ("/cart", "POST"), ("/healthy", "GET")]:
            answer = site.asks(name, target, method=method)
            assert (answer.status, answer.body) == (503, b"We are back at noon.")
            assert answer["retry-after"] == "3600"
        assert site.heard(name, "/health") == ["GET", "/health", None]


def test_pages_for_errors(srv: Path, app: int) -> None:
    with served("Pages for errors", srv, app) as site:
        for target, status, body in [
            ("/broken", 500, b"sorry"), ("/nothing", 404, b"not here"),
            ("/errors/none", 404, b"not here"),
        ]:  # fmt: skip
            answer = site.asks("app.example.org", target)
            assert (answer.status, answer.body) == (status, body)
        assert site.heard("app.example.org", "/x") == ["GET", "/x", None]
        answer = site.asks("www.example.org", "/nothing")
        assert (answer.status, answer.body) == (404, b"lost")
        assert site.asks("www.example.org", "/about").body == b"about us"


def test_moving_paths(srv: Path, app: int) -> None:
    name = "example.org"
    with served("Moving paths", srv, app) as site:
        assert site.heard(name, "/shop/cart?x") == ["GET", "/cart?x", "/shop"]
        assert site.heard(name, "/v1/a?b=c") == ["GET", "/v2/a?version=1&b=c", "/v1"]
        assert site.asks(name, "/pub/x.zip").body == b"zip"
        assert site.asks(name, "/pub/%2e%2e/index.html").status == 400
        assert site.asks(name, "/blog/a?b")["location"] == "https://blog.example.org/a?b"
        assert site.heard(name, "/contact", "POST") == ["POST", "/contact", None]
        assert site.asks(name, "/contact").body == b"a form"
        assert site.asks(name, "/").body == b"home"
        assert site.asks(name, "/", "X-Preview: yes\r\n").body == b"the next one"
