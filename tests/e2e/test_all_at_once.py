"""One site with everything at once: addresses, rates, a login, CORS, rewriting, pages for errors,
compression, fields. Whatever kind of answer it is, nobody gets past the login, and nothing is done
twice. Over HTTP/1.1 with and without the fast parser, and over HTTP/2."""

from __future__ import annotations

import base64
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from proxy.sites.passwords import hashed
from support.http.backend_app import Application, serving
from support.http.client import context, https
from support.program.ports import free_ports
from support.program.server import Server

RIGHT = "Basic " + base64.b64encode(b"alice:geheim").decode()
SECRET = "this is the secret " * 100
CONFIG = """\
state: {folder}/state
admin: null
listen: {{http: ['127.0.0.1:{one}'], https: ['127.0.0.1:{two}']}}
fast_lane: {fast}
sites:
  - names: [a.test]
    allow: [loopback]
    rate_limit: [{{rate: 100000/s}}]
    basic_auth: {{users: {{alice: "{hash}"}}}}
    cors: {{origins: ["https://app.test"]}}
    error_pages: {{"4xx": /files/sorry.html, "5xx": "file:sorry.html"}}
    intercept: true
    compress: true
    headers: {{add: {{X-Once: "{{path}}"}}, set: {{X-Set: ours}}, remove: [Server]}}
    cache_control: {{"*": no-cache}}
    routes:
      - {{path: /all/files/*, root: {folder}/www, rewrite: "/below/{{rest}}", listing: true, extensions: [.html]}}
      - {{path: /all/spa/*, root: {folder}/www, fallback: /below/page.html}}
      - {{path: /all/app/*, backend: 'http://127.0.0.1:{back}', strip_prefix: true}}
      - {{path: /all/down/*, backend: 'http://127.0.0.1:{down}'}}
      - {{path: /all/away/*, redirect: "https://b.test/{{rest}}"}}
      - {{path: /all/fixed, respond: {{body: "{secret}"}}}}
      - {{path: /all/methods, methods: [PUT], respond: {{body: "{secret}"}}}}
      - {{path: /files/*, root: {folder}/www}}
"""


class App(Application):
    def do_GET(self) -> None:
        if self.headers.get("Upgrade"):
            self.wfile.write(
                b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: echo\r\n"
                b"X-Set: theirs\r\n\r\n" + SECRET.encode()
            )
            self.close_connection = True
            return
        self.send_response(500 if self.path == "/fails" else 200)
        self.send_header("X-Set", "theirs")
        self.send_header("Content-Type", "text/plain")
        self.send_header("Access-Control-Allow-Origin", "*")
        if self.path == "/stream":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if self.command != "HEAD":
                for _ in range(3):
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(SECRET), SECRET.encode()))
                self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(SECRET)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(SECRET.encode())

    do_HEAD = do_GET


@dataclass
class Place:
    client: httpx.Client
    port: int
    ca: Path

    def asks(self, path: str, method: str = "GET", **fields: str) -> httpx.Response:
        """ "_" in a name stands for "-"."""
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        return self.client.request(
            method, f"https://127.0.0.1:{self.port}{path}",
            headers={"Host": "a.test", **named}, extensions={"sni_hostname": "a.test"},
        )  # fmt: skip


@pytest.fixture(scope="module", params=["fast", "h11", "h2"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    (folder / "www/below/folder").mkdir(parents=True)
    for name in ("x.txt", "page.html", "large.txt"):
        text = SECRET * (100 if name == "large.txt" else 1)
        (folder / "www/below" / name).write_text(text)
    for name in ("www/sorry.html", "sorry.html"):
        (folder / name).write_text("sorry " * 300)
    one, two, down = free_ports(3)
    config = folder / "config.yaml"
    try:
        with serving(App) as back:
            config.write_text(
                CONFIG.format(
                    folder=folder, one=one, two=two, down=down, back=back,
                    hash=hashed("geheim"), secret=SECRET.strip(),
                    fast="false" if request.param == "h11" else "true",
                )
            )  # fmt: skip
            with Server(["--config", str(config)], folder) as server:
                server.await_log("certificate obtained")
                ca = folder / "state/internal-ca/root.pem"
                http2 = request.param == "h2"
                transport = httpx.HTTPTransport(verify=context(ca), http1=not http2, http2=http2)
                with httpx.Client(transport=transport, timeout=30) as client:
                    yield Place(client, two, ca)
    finally:
        shutil.rmtree(folder)


KINDS = [
    ("/all/files/x.txt", "GET", {}, 200),
    ("/all/files/x.txt", "HEAD", {}, 200),
    ("/all/files/x.txt", "GET", {"Range": "bytes=0-9"}, 206),
    ("/all/files/x.txt", "GET", {"Range": "bytes=999999-"}, 416),
    ("/all/files/x.txt", "GET", {"If_None_Match": "*"}, 304),
    ("/all/files/x.txt", "GET", {"If_Match": '"x"'}, 412),
    ("/all/files/x.txt", "POST", {}, 405),
    ("/all/files/page", "GET", {}, 200),
    ("/all/files/large.txt", "GET", {}, 200),
    ("/all/files/folder", "GET", {}, 308),
    ("/all/files/folder/", "GET", {}, 200),
    ("/all/files/", "GET", {"Accept": "application/json"}, 200),
    ("/all/files/nothing", "GET", {}, 404),
    ("/all/files/nothing", "HEAD", {}, 404),
    ("/all/files/%2e%2e/x", "GET", {}, 400),
    ("/all/spa/any/where", "GET", {"Accept": "text/html"}, 200),
    ("/all/spa/missing.js", "GET", {"Accept": "*/*"}, 404),
    ("/all/app/x", "GET", {}, 200),
    ("/all/app/x", "HEAD", {}, 200),
    ("/all/app/stream", "GET", {}, 200),
    ("/all/app/fails", "GET", {}, 500),
    ("/all/app/fails", "HEAD", {}, 500),
    ("/all/down/x", "GET", {}, 502),
    ("/all/away/x", "GET", {}, 308),
    ("/all/fixed", "GET", {}, 200),
    ("/all/methods", "PUT", {}, 200),
    ("/all/methods", "GET", {}, 405),
    ("/nowhere", "GET", {}, 404),
]


@pytest.mark.parametrize("coding", ["identity", "gzip"])
@pytest.mark.parametrize(("path", "method", "fields", "status"), KINDS)
def test_every_kind_of_answer_is_guarded_once_and_changed_once(
    place: Place, path: str, method: str, fields: dict[str, str], status: int, coding: str
) -> None:
    usual = {"Accept_Encoding": coding, "Origin": "https://app.test", **fields}
    for _ in range(2):  # the second time from what is kept
        stranger = place.asks(path, method, **usual)
        known = place.asks(path, method, Authorization=RIGHT, **usual)
        assert (stranger.status_code, known.status_code) == (401, status)
        assert stranger.headers.get_list("www-authenticate") == [
            'Basic realm="restricted", charset="UTF-8"'
        ]
        assert "secret" not in stranger.text
        for response in (stranger, known):
            told = response.headers
            assert told.get_list("x-once") == [path.partition("?")[0]]
            assert told.get_list("x-set") == ["ours"]
            assert told.get_list("access-control-allow-origin") == ["https://app.test"]
            assert "server" not in told
            assert len(told.get_list("content-length")) <= 1
            assert len(told.get_list("content-type")) <= 1
            assert len(told.get_list("content-encoding")) <= 1
            varies = ", ".join(told.get_list("vary")).lower().split(", ")
            assert len(varies) == len(set(varies))
            if method == "HEAD":
                assert response.content == b""
            elif response.status_code >= 400:
                assert response.text == "sorry " * 300
                gains = coding == "gzip" and response.status_code not in (412, 416)
                assert ("content-encoding" in told) == gains
        if path.startswith("/all/files/x.txt") and status in (200, 206, 304):
            assert known.headers.get_list("cache-control") == ["no-cache"]


def test_a_tunnel_is_guarded_and_changed_as_well(place: Place) -> None:
    asked = (
        "GET /all/app/ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n"
        "Origin: https://app.test\r\n"
    )
    with https(place.port, "a.test", place.ca) as talk:
        talk.says(f"{asked}\r\n".encode())
        answer = talk.hears()
        assert answer.status == 401
        assert b"secret" not in answer.body
    with https(place.port, "a.test", place.ca) as talk:
        talk.says(f"{asked}Authorization: {RIGHT}\r\n\r\n".encode())
        answer = talk.hears()
        assert answer.status == 101
        for name, value in [("x-once", "/all/app/ws"), ("x-set", "ours")]:
            assert answer[name] == value
        assert talk.rest() == SECRET.encode()
