"""What a site or a route says beside its action, at the real program: nothing walks around it, and
nothing is done twice. Over HTTP/1.1 with and without the fast parser, and over HTTP/2."""

from __future__ import annotations

import base64
import contextlib
import http.server
import shutil
import socket
import ssl
import tempfile
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import brotli
import httpx
import pytest
from backports import zstd

from proxy.sites.passwords import hashed
from support.http.backend_app import serving
from support.http.client import context
from support.program.ports import free_ports
from support.program.server import Server

LONG = b"a line that comes again and again\n" * 300
CONFIG = """\
state: {state}
admin: null
listen: {{http: ['127.0.0.1:{one}'], https: ['127.0.0.1:{two}']}}
trusted_proxies: [127.0.0.2]
fast_lane: {fast}
tls: {{hsts: {{max_age: 60d}}}}
headers:
  set: {{X-Top: all}}
  default: {{X-Default: ours}}
  remove: [Server]
sites:
  - names: [a.test]
    headers: {{add: {{X-Site: "{{host}}{{path}}"}}}}
    routes:
      - {{path: /app/*, backend: 'http://127.0.0.1:{back}',
          request_headers: {{set: {{X-Given: "{{client}}", Authorization: secret}}, remove: [X-Real-IP, Cookie]}}}}
      - {{path: /away/*, redirect: "https://b.test/{{rest}}"}}
      - {{path: /office/*, root: {root}, allow: [192.0.2.0/24, "file:{folder}/office.txt"]}}
      - {{path: /staff/*, root: {root}, basic_auth: {{users: {{alice: "{hash}"}}}}}}
      - {{path: /api/*, backend: 'http://127.0.0.1:{back}', basic_auth: {{users: {{alice: "{hash}"}}}}}}
      - {{path: /open/*, root: {root}, deny: [203.0.113.9]}}
      - {{path: /*, root: {root}, headers: {{security: strict, set: {{X-Top: route}}}}}}
"""


EVENT = b"data: " + b"the same again " * 10 + b"\n\n"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the fields that it was sent, and with fields of its own."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.startswith("/app/events"):
            self._events()
            return
        text = "".join(f"{name.lower()}: {value}\n" for name, value in self.headers.items())
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("X-Default", "theirs")
        self.send_header("X-Top", "theirs")
        self.send_header("Strict-Transport-Security", "max-age=1")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text.encode())

    do_HEAD = do_GET

    def _events(self) -> None:
        """Two events; the second one only when the test says so."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(2):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
            self.wfile.flush()
            SECOND.wait(60)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


SECOND = threading.Event()
HASH = hashed("geheim")
RIGHT = "Basic " + base64.b64encode(b"alice:geheim").decode()
WRONG = "Basic " + base64.b64encode(b"alice:Geheim").decode()


@dataclass
class Place:
    port: int
    ca: Path

    def asks(
        self, path: str, method: str = "GET", peer: str = "127.0.0.1", **fields: str
    ) -> httpx.Response:
        """One request to a.test, from an address of this machine. "_" in a name stands for "-"."""
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        return self.asks_raw(path, named, method, peer)

    def asks_raw(
        self, path: str, fields: dict[str, str], method: str = "GET", peer: str = "127.0.0.1"
    ) -> httpx.Response:
        """The same with fields as they are spelt."""
        using: ssl.SSLContext = context(self.ca)
        transport = httpx.HTTPTransport(
            verify=using, http1=not self.http2, http2=self.http2, local_address=peer
        )
        with httpx.Client(transport=transport, follow_redirects=False, timeout=60) as client:
            return client.request(
                method, f"https://127.0.0.1:{self.port}{path}",
                headers={"Host": "a.test", **fields}, extensions={"sni_hostname": "a.test"},
            )  # fmt: skip

    http2: bool = False

    @contextlib.contextmanager
    def streams(self, path: str, coding: str) -> Iterator[httpx.Response]:
        """A response that is read as it comes."""
        using: ssl.SSLContext = context(self.ca)
        transport = httpx.HTTPTransport(verify=using, http1=not self.http2, http2=self.http2)
        with (
            httpx.Client(transport=transport, timeout=60) as client,
            client.stream(
                "GET", f"https://127.0.0.1:{self.port}{path}",
                headers={"Host": "a.test", "Accept-Encoding": coding},
                extensions={"sni_hostname": "a.test"},
            ) as response,
        ):  # fmt: skip
            yield response

    def gets_raw(self, path: str, coding: str) -> tuple[httpx.Response, bytes]:
        """A response, and its body as it was sent."""
        with self.streams(path, coding) as response:
            return response, b"".join(response.iter_raw())


@pytest.fixture(scope="module", params=["fast", "h11", "h2"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    root = folder / "www"
    root.mkdir()
    for name in ("office", "open"):
        (root / name).mkdir()
    for path in ("index.html", "x.txt"):
        (root / path).write_text("hello")
    (root / "long.txt").write_bytes(LONG)
    (root / "huge.txt").write_bytes(LONG * 100)
    (folder / "office.txt").write_text("# the office\n198.51.100.0/24  # floor 2\n")
    one, two = free_ports(2)
    config = folder / "config.yaml"
    try:
        with serving(Handler) as back:
            config.write_text(
                CONFIG.format(
                    state=folder / "state", one=one, two=two, back=back, root=root,
                    folder=folder, hash=HASH, fast="false" if request.param == "h11" else "true",
                )
            )  # fmt: skip
            with Server(["--config", str(config)], folder) as server:
                server.await_log("a.test: certificate obtained")
                yield Place(two, folder / "state/internal-ca/root.pem", http2=request.param == "h2")
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("path", "method", "fields", "status"),
    [
        ("/", "GET", {}, 200),
        ("/x.txt", "GET", {}, 200),
        ("/x.txt", "HEAD", {}, 200),
        ("/x.txt", "GET", {"Range": "bytes=1-2"}, 206),
        ("/x.txt", "GET", {"Range": "bytes=99-"}, 416),
        ("/x.txt", "GET", {"If_None_Match": "*"}, 304),
        ("/x.txt", "POST", {}, 405),
        ("/nothing", "GET", {}, 404),
        ("/a%2fb", "GET", {}, 400),
        ("/open", "GET", {}, 308),
        ("/app/x", "GET", {}, 200),
        ("/app/x", "HEAD", {}, 200),
        ("/away/x", "GET", {}, 308),
        ("/office/x.txt", "GET", {}, 403),
    ],
)
def test_fields_are_on_every_response_once(
    place: Place, path: str, method: str, fields: dict[str, str], status: int
) -> None:
    for _ in range(2):  # the second time from the cache
        response = place.asks(path, method, **fields)
        assert response.status_code == status
        assert response.headers.get_list("strict-transport-security") == ["max-age=5184000"]
        top = "route" if status != 403 and not path.startswith(("/app", "/away")) else "all"
        if status != 400:  # no route is known then
            assert response.headers.get_list("x-top") == [top]
            assert response.headers.get_list("x-site") == [f"a.test{path}"]
        assert "server" not in response.headers
        default = "theirs" if path.startswith("/app") else "ours"
        assert response.headers.get_list("x-default") == [default]


def test_security_defaults_are_there_where_the_route_asks_for_them(place: Place) -> None:
    response = place.asks("/x.txt")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
    assert "content-security-policy" not in place.asks("/app/x").headers


def test_a_backend_gets_what_the_operator_says(place: Place) -> None:
    response = place.asks(
        "/app/x", X_Given="forged", Authorization="theirs", Cookie="a=b", X_Own="kept"
    )
    lines = response.text.splitlines()
    assert "x-given: 127.0.0.1" in lines
    assert "authorization: secret" in lines
    assert "x-own: kept" in lines
    assert not [line for line in lines if line.startswith(("x-real-ip", "cookie"))]
    assert [line for line in lines if line.startswith("x-forwarded-for: 127.0.0.1")]


@pytest.mark.parametrize(
    ("path", "client", "status"),
    [
        ("/office/x.txt", "192.0.2.7", 200),
        ("/office/x.txt", "198.51.100.7", 200),
        ("/office/x.txt", "203.0.113.1", 403),
        ("/%6fffice/x.txt", "203.0.113.1", 403),
        ("//office/x.txt", "203.0.113.1", 403),
        ("/open/x.txt", "203.0.113.9", 403),
        ("/open/x.txt", "203.0.113.1", 200),
    ],
)  # fmt: skip
def test_addresses_decide_by_the_client_that_a_trusted_proxy_names(
    place: Place, path: str, client: str, status: int
) -> None:
    assert place.asks(path, peer="127.0.0.2", X_Forwarded_For=client).status_code == status


def test_who_is_no_trusted_proxy_cannot_name_a_client(place: Place) -> None:
    assert place.asks("/office/x.txt", X_Forwarded_For="192.0.2.7").status_code == 403


def test_an_upgrade_is_no_way_around(place: Place) -> None:
    """A request for a WebSocket to a route that the address may not use."""
    with (
        socket.create_connection(("127.0.0.1", place.port)) as plain,
        context(place.ca).wrap_socket(plain, server_hostname="a.test") as sock,
    ):
        sock.sendall(
            b"GET /office/ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\n\r\n"
        )
        assert sock.recv(65536).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("path", ["/long.txt", "/huge.txt"])
@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_a_file_is_compressed_as_the_client_likes(place: Place, path: str, coding: str) -> None:
    plain = place.asks(path, Accept_Encoding="identity")
    assert plain.headers["vary"] == "accept-encoding"
    for _ in range(2):
        response, body = place.gets_raw(path, coding)
        assert response.headers["content-encoding"] == coding
        assert response.headers["vary"] == "accept-encoding"
        assert response.headers["etag"] == "W/" + plain.headers["etag"]
        assert response.headers.get_list("strict-transport-security") == ["max-age=5184000"]
        assert len(body) < len(plain.content) / 10
        assert decoded(coding, body) == plain.content
    head = place.asks(path, "HEAD", Accept_Encoding=coding)
    assert head.headers["content-encoding"] == coding
    again = place.asks(path, Accept_Encoding=coding, If_None_Match=response.headers["etag"])
    assert again.status_code == 304
    part = place.asks(path, Accept_Encoding=coding, Range="bytes=0-9")
    assert (part.status_code, part.content) == (206, LONG[:10])
    assert "content-encoding" not in part.headers


def test_an_event_is_never_held_back(place: Place) -> None:
    SECOND.clear()
    with place.streams("/app/events", "gzip") as response:
        assert response.headers["content-encoding"] == "gzip"
        decode = zlib.decompressobj(31)
        found, pieces = b"", response.iter_raw()
        while len(found) < len(EVENT):
            found += decode.decompress(next(pieces))
        assert found == EVENT  # before the backend has said more
        SECOND.set()
        assert found + decode.decompress(b"".join(pieces)) == EVENT * 2


def decoded(coding: str, body: bytes) -> bytes:
    if coding == "gzip":
        return zlib.decompress(body, 31)
    if coding == "br":
        whole: bytes = brotli.decompress(body)
        return whole
    return zstd.decompress(body)


@pytest.mark.parametrize(
    "path", ["/staff/x.txt", "/staff/nothing", "/staff", "/%73taff/x.txt", "/staff/../staff/x.txt"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_nothing_gets_past_a_password(place: Place, path: str, method: str) -> None:
    assert place.asks("/staff/x.txt", Authorization=RIGHT).status_code == 200  # and is cached now
    for fields in ({}, {"Range": "bytes=0-1"}, {"If_None_Match": "*"}):
        response = place.asks(path, method, **fields)
        if path in ("/staff", "/staff/../staff/x.txt"):  # other paths, which have no such file
            assert response.status_code in (401, 404, 405, 400)
            assert "hello" not in response.text
        else:
            assert response.status_code == 401
            assert response.headers["www-authenticate"].startswith("Basic realm=")
            assert response.headers["x-site"].startswith("a.test")  # later steps act on it


@pytest.mark.parametrize("path", ["/app/..;/api/x", "/app/..;a/api/x", "/app/%2e%2e;/api/x"])
def test_a_path_that_tomcat_reads_differently_is_refused(place: Place, path: str) -> None:
    assert place.asks(path).status_code == 400


def test_a_backend_learns_who_it_is_and_no_password(place: Place) -> None:
    response = place.asks("/api/x", Authorization=RIGHT, Remote_User="root", Accept_Encoding="gzip")
    lines = response.text.splitlines()
    assert "remote-user: alice" in lines
    assert not [line for line in lines if line.startswith("authorization")]
    assert "content-encoding" not in response.headers  # beside a login: BREACH
    assert not [line for line in lines if "root" in line]
    forged = place.asks_raw(
        "/api/x", {"Authorization": RIGHT, "Remote_User": "root", "X_Forwarded_For": "192.0.2.66"}
    )
    told = [line for line in forged.text.splitlines() if "root" in line or "192.0.2.66" in line]
    assert (forged.status_code, told) == (200, [])
    for name in ("Remote-User", "remote_user"):  # the same backend by a route without a login
        forged = place.asks_raw("/app/x", {name: "root"})
        assert (forged.status_code, "root" in forged.text) == (200, False)
        vouched = place.asks_raw("/app/x", {"Remote-User": "carol"}, peer="127.0.0.2")
        assert "remote-user: carol" in vouched.text.splitlines()
    if not place.http2:
        named = place.asks("/api/x", Authorization=RIGHT, Connection="Remote-User, X-Forwarded-For")
        assert "remote-user: alice" in named.text.splitlines()
    assert place.asks("/api/x", Authorization=WRONG).status_code == 401
    assert place.asks("/api/x", Remote_User="alice").status_code == 401
