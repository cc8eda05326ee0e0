"""Every filter with every kind of answer over every protocol: never gone around, never applied twice.

A row is a filter, on a site of its own with the same routes: see `ROWS`. A `Guard` says with which
requests one gets in and with which not; a `Change` says what must be true of every answer. A column
is a kind of answer: see `COLUMNS`. To add a filter, add a line to `ROWS`.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import shutil
import socket
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from proxy.sites.passwords import hashed
from support.h2_peer import headers
from support.http.backend_app import serving
from support.http.client import context
from support.http.h2_talk import H2Talk, h2_context, request
from support.http.login_services import LoginServices
from support.program.php_fpm import php_fpm
from support.program.ports import free_ports
from support.program.server import Server

MARK = "what is to be seen here"
PAGE = f"<p>{MARK}</p>\n" * 200
STATIC, APP = "/f/page.html", "/b/page"


@dataclass(frozen=True)
class Column:
    """A kind of answer: what is asked, and the status without filters."""

    name: str
    path: str
    status: int
    method: str = "GET"
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def proxied(self) -> bool:
        return self.path.startswith("/b/")


COLUMNS = (
    Column("file", "/f/first.html", 200),
    Column("cached file", STATIC, 200),
    Column("spelt otherwise", "/%66//page.html", 200),
    Column("head", STATIC, 200, "HEAD"),
    Column("range", STATIC, 206, fields={"Range": "bytes=3-25"}),
    Column("not modified", STATIC, 304, fields={"If-None-Match": "*"}),
    Column("backend", APP, 200),
    Column("backend's head", APP, 200, "HEAD"),
    Column("stream", "/b/stream", 200),
    Column("upgrade", "/b/ws", 101),
    Column("script", "/p/page.php", 200),
    Column("script's head", "/p/page.php", 200, "HEAD"),
    Column("error here", "/f/nothing", 404),
    Column("error of a dead backend", "/dead/x", 502),
    Column("error there", "/b/error", 500),
    Column("redirect", "/r/x", 302),
)


@dataclass
class Answer:
    """``names`` are those of all fields, in small letters; ``told``: what reached the backend."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes
    told: list[list[tuple[str, str]]]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]


Fields = Mapping[str, str]
Given = Callable[[int], Fields]


def always(**fields: str) -> Given:
    return lambda _number: {name.replace("_", "-"): value for name, value in fields.items()}


PLAIN = always()


@dataclass(frozen=True)
class Guard:
    """``inside``: fields of a request that gets in, by the number of the column; ``outside``: of
    one that does not, which is answered ``status``. None for ``inside``: nobody gets in. With
    ``method`` or ``body`` that makes the difference. ``rules`` are the site's, ``of_routes`` each
    route's."""

    name: str
    rules: str
    status: int
    inside: Given | None = PLAIN
    outside: Given = PLAIN
    method: str | None = None
    body: bytes | None = None
    of_routes: str = ""
    without: frozenset[str] = frozenset()  # columns that mean nothing here


@dataclass(frozen=True)
class Change:
    """``holds``: what is so of every answer, given its column."""

    name: str
    rules: str
    holds: Callable[[Answer, Column], None]
    asked: Fields = field(default_factory=dict)
    of_routes: str = ""


def on_all(*fields: tuple[str, str | None]) -> Callable[[Answer, Column], None]:
    """Each of the fields is there once, or not at all where it is None."""

    def check(answer: Answer, column: Column) -> None:
        for name, value in fields:
            wanted = [] if value is None else [value.replace("{path}", column.path)]
            assert answer.all(name) == wanted, (column.name, name)

    return check


def compressed(answer: Answer, column: Column) -> None:
    """A whole page is compressed, and once; nothing else is."""
    pages = {
        "file",
        "cached file",
        "spelt otherwise",
        "head",
        "backend",
        "backend's head",
        "stream",
        "script",
        "script's head",
    }
    coding = answer.all("content-encoding")
    assert coding == (["gzip"] if column.name in pages else []), column.name
    if column.method == "HEAD":
        assert answer.all("content-length") != ["0"]
    if coding and column.method == "GET":
        plain = zlib.decompress(answer.body, 31)
        assert plain.decode() == PAGE
        assert len(answer.body) < len(plain) / 10
    if column.name in pages:
        assert sum("accept-encoding" in one for one in answer.all("vary")) == 1


def crossing(answer: Answer, column: Column) -> None:
    on_all(("access-control-allow-origin", "https://app.test"))(answer, column)
    assert sum(one.lower().count("origin") for one in answer.all("vary")) == 1


def told(answer: Answer, column: Column) -> None:
    """The backend gets the field once, and the client's own is gone."""
    assert len(answer.told) == column.proxied
    for fields in answer.told:
        assert [value for key, value in fields if key == "x-given"] == ["127.0.0.1"]
        assert not [key for key, _ in fields if key == "x-secret"]


def pages(answer: Answer, column: Column) -> None:
    """Errors have the page of the site, for their own status."""
    if column.name in ("error here", "error of a dead backend"):
        assert answer.body == b"sorry\n", column.name
        assert answer.all("content-type") == ["text/html; charset=utf-8"]
    else:
        assert b"sorry" not in answer.body


def stripped(answer: Answer, column: Column) -> None:
    """The backend is asked for what stands behind the prefix, and told of the prefix once."""
    assert len(answer.told) == column.proxied
    for fields in answer.told:
        assert [value for key, value in fields if key == ":path"] == [column.path[2:]]
        assert [value for key, value in fields if key == "x-forwarded-prefix"] == ["/b"]


def to_be_kept(answer: Answer, column: Column) -> None:
    """Files have what the rule says, errors and other answers nothing."""
    file = column.path.startswith("/%66") or (column.path.startswith("/f/") and column.status < 400)
    assert answer.all("cache-control") == (["max-age=5"] if file else []), column.name


def used(answer: Answer, column: Column) -> None:
    """The filter in Python has seen the request and the answer, each once."""
    assert answer.all("x-used") == [f"{column.method} {column.path} {answer.status}"]
    assert len(answer.told) == column.proxied
    for fields in answer.told:
        assert [value for key, value in fields if key == "x-used"] == ["here"]


# Filters in Python, beside the configuration.
FILTERS = """
from proxy.filters import Request, Response

class Lock:
    async def request(self, request):
        if request.fields.get("X-Key") != "open":
            return Response(403, "locked")

class Mark:
    def request(self, request):
        request.fields.set("X-Used", "here")

    def response(self, request, response):
        response.fields.set("X-Used", f"{request.method} {request.target} {response.status}")
        return response

class LaterMark(Mark):
    async def request(self, request):
        return Mark.request(self, request)

    async def response(self, request, response):
        return Mark.response(self, request, response)
"""
# What the application says, in PHP.
SCRIPT = """<?php
header("Content-Type: text/html; charset=utf-8");
header("Access-Control-Allow-Origin: *");
header("X-Set: theirs");
header("Server: app");
header("Strict-Transport-Security: max-age=1");
readfile(__DIR__ . "/page.html");
"""
USERS = f'{{alice: "{hashed("geheim")}"}}'
RIGHT = "Basic " + base64.b64encode(b"alice:geheim").decode()
ALL_COMPRESSED = "compress: {algorithms: [gzip]}"
HEADERS = (
    'headers: {set: {X-Set: ours}, add: {X-Path: "{path}"}, default: {X-Default: ours}, '
    "remove: [Server]}"
)
HEADED = on_all(("x-set", "ours"), ("x-path", "{path}"), ("x-default", "ours"), ("server", None))
REQUEST_HEADERS = 'request_headers: {set: {X-Given: "{client}"}, remove: [X-Secret]}'
CORS = "cors: {origins: ['https://app.test']}"
ERROR_PAGES = 'error_pages: {"404,502": ROOT/sorry.html}'
LOGIN = "forward_auth: {url: 'http://127.0.0.1:LOGIN/oauth2/auth', copy: X-Auth-Request-User}"

ROWS: tuple[Guard | Change, ...] = (
    Guard("deny", "deny: [loopback]", 403, None),
    Guard("allow", "allow: [192.0.2.0/24]", 403, always(X_Forwarded_For="192.0.2.7")),
    Guard(
        "rate-limit", "rate_limit: {rate: 1/d, burst: 1}", 429,
        lambda number: {"X-Forwarded-For": f"192.0.2.{number}"},
        lambda number: {"X-Forwarded-For": f"192.0.2.{number}"},
    ),
    Guard("basic-auth", f"basic_auth: {{users: {USERS}}}", 401, always(Authorization=RIGHT)),
    Guard("forward-auth", LOGIN, 401, always(Cookie="session=alice")),
    Guard("remembered", LOGIN[:-1] + ", cache: 1h}", 401, always(Cookie="session=alice")),
    Guard("body-size", "body_size: 1KiB", 413, body=b"x" * 2000, without=frozenset({"upgrade"})),
    Guard(
        "methods", "", 405, method="DELETE", of_routes="methods: [GET]",
        without=frozenset({"upgrade"}),
    ),
    Guard("match", "", 404, always(X_In="1"), of_routes="match: {header: {X-In: '1'}}"),
    Guard("maintenance", "respond: {status: 503, body: back soon, retry_after: 5m}", 503, None),
    Guard("use-refuses", "use: 'rows:Lock'", 403, always(X_Key="open")),
    Change("use", "use: 'rows:Mark'", used),
    Change("use-later", "use: ['rows:LaterMark']", used),
    Change("headers", HEADERS, HEADED),
    Change("hsts", "", on_all(("strict-transport-security", "max-age=5184000"))),
    Change("security", "headers: {security: lax}", on_all(("x-content-type-options", "nosniff"))),
    Change("compress", ALL_COMPRESSED, compressed, {"Accept-Encoding": "br, gzip"}),
    Change("cors", CORS, crossing, {"Origin": "https://app.test"}),
    Change("request-headers", REQUEST_HEADERS, told, {"X-Secret": "a", "X-Given": "forged"}),
    Change("error-pages", ERROR_PAGES, pages),
    Change("strip-prefix", "strip_prefix: true", stripped),
    Change("cache-control", "cache_control: {'*': max-age=5}", to_be_kept),
)  # fmt: skip
# All of them on one site.
TOGETHER = "together"
EVERYTHING = [
    HEADERS,
    ALL_COMPRESSED,
    CORS,
    REQUEST_HEADERS,
    ERROR_PAGES,
    LOGIN,
    "use: 'rows:Mark'",
    "deny: [192.0.2.66]",
]


class App(http.server.BaseHTTPRequestHandler):
    """``seen``: the fields of every request but the first questions of tests, by Host."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, list[tuple[str, str]]]] = []  # noqa: RUF012 # of the server as a whole

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fields = [(name.lower(), value) for name, value in self.headers.items()]
        fields.append((":path", self.path))
        self.seen.append((self.headers["Host"], fields))
        if self.headers.get("Upgrade"):
            head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
            own = b"Upgrade: websocket\r\nServer: app\r\nAccess-Control-Allow-Origin: *\r\n"
            key = self.headers.get("Sec-WebSocket-Key", "") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            accept = base64.b64encode(hashlib.sha1(key.encode()).digest())  # RFC 6455 §4.2.2
            own += b"Sec-WebSocket-Accept: %b\r\nX-Set: theirs\r\n\r\n" % accept
            self.connection.sendall(head + own + MARK.encode())
            self.close_connection = True
            return
        stream = self.path.endswith("/stream")
        broken = self.path.endswith("/error")
        self.send_response(500 if broken else 200)  # which says Server as well
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("X-Set", "theirs")
        self.send_header("Strict-Transport-Security", "max-age=1")
        text = b"broken" if broken else PAGE.encode()
        if stream:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if stream:
            for start in range(0, len(text), 1000):
                piece = text[start : start + 1000]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.write(text)

    do_HEAD = do_POST = do_DELETE = do_GET

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class Place:
    port: int
    ca: Path
    http2: bool
    clients: dict[str, httpx.Client]

    def asks(
        self, site: str, column: Column, fields: Fields, method: str | None = None,
        body: bytes | None = None,
    ) -> Answer:  # fmt: skip
        before = len(App.seen)
        host = f"{site}.test"
        given = dict(column.fields) | dict(fields)
        if column.name == "upgrade":
            status, names, heard = self._upgrades(host, column.path, given)
        else:
            client = self.clients.get(host)
            if client is None:
                client = self.clients[host] = httpx.Client(
                    verify=context(self.ca), http1=not self.http2, http2=self.http2, timeout=30
                )
                client.headers.clear()
            with client.stream(
                method or column.method, f"https://127.0.0.1:{self.port}{column.path}",
                headers={"Host": host, **given}, content=body,
                extensions={"sni_hostname": host},
            ) as response:  # fmt: skip
                heard = b"".join(response.iter_raw())
                status, names = response.status_code, response.headers.multi_items()
        told = [fields for name, fields in App.seen[before:] if name == host]
        return Answer(status, [(name.lower(), value) for name, value in names], heard, told)

    def _upgrades(
        self, host: str, path: str, given: Fields
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Over HTTP/2 a tunnel is 200, which counts as 101 here."""
        if self.http2:
            talk = H2Talk(self.port, host, h2_context(self.ca))
            asked = request(path, host, method=b"CONNECT")
            more = [(name.lower().encode(), value.encode()) for name, value in given.items()]
            head = [asked[0], (b":protocol", b"websocket"), *asked[1:], *more]
            return _over_http2(talk, head)
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=60) as plain,
            context(self.ca).wrap_socket(plain, server_hostname=host) as sock,
        ):
            lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
            sock.sendall(
                f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n"
                f"Upgrade: websocket\r\n{lines}\r\n".encode()
            )
            heard = b""
            while b"\r\n\r\n" not in heard and (piece := sock.recv(65536)):
                heard += piece
            head, _, rest = heard.partition(b"\r\n\r\n")
            first, *lines_of_head = head.decode("latin-1").split("\r\n")
            fields = [
                (name, value) for name, _, value in (one.partition(": ") for one in lines_of_head)
            ]
            return int(first.split(" ")[1]), fields, rest


def _over_http2(
    talk: H2Talk, head: list[tuple[bytes, bytes]]
) -> tuple[int, list[tuple[str, str]], bytes]:
    with talk:
        number = talk.next()
        talk.says(headers(number, head, end=False))
        talk.hears(lambda one: type(one).__name__ == "HeadersFrame")
        names = [(name.decode(), value.decode()) for name, value in talk.heads(number)[-1]]
        status = talk.status(number)
        return 101 if status == 200 else status, names, b""


@pytest.fixture(scope="module", params=["fast", "h11", "h2"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    (folder / "sorry.html").write_text("sorry\n")
    (folder / "rows.py").write_text(FILTERS)
    one, two, dead = free_ports(3)
    clients: dict[str, httpx.Client] = {}
    try:
        with LoginServices() as services, php_fpm(folder), serving(App) as back:
            config = folder / "config.yaml"
            config.write_text(
                HEAD.format(
                    state=folder / "state", one=one, two=two,
                    fast="false" if request.param == "h11" else "true",
                )
                + "".join(
                    site(name, rules, of_routes, folder, back, dead)
                    for name, rules, of_routes in [
                        *((row.name, row.rules, row.of_routes) for row in ROWS),
                        (TOGETHER, "\n    ".join(EVERYTHING), ""),
                    ]
                ).replace("LOGIN", str(services.port)).replace("ROOT", str(folder))
            )  # fmt: skip
            with Server(["--config", str(config)], folder) as server:
                server.await_log(f"{TOGETHER}.test: certificate obtained", within=60)
                ca = folder / "state/internal-ca/root.pem"
                yield Place(two, ca, request.param == "h2", clients)
                assert "Traceback" not in server.text()
    finally:
        for client in clients.values():
            client.close()
        shutil.rmtree(folder)


HEAD = """\
state: {state}
listen: {{http: ['127.0.0.1:{one}'], https: ['127.0.0.1:{two}']}}
workers: 1
fast_lane: {fast}
websocket_over_http2: true
trusted_proxies: [127.0.0.1]
tls: {{hsts: {{max_age: 60d}}}}
sites:
"""


def site(name: str, rules: str, of_routes: str, folder: Path, port: int, dead: int) -> str:
    """A site with the rules of a row, and a route for each kind of answer."""
    root = folder / name
    root.mkdir()
    (root / "page.php").write_text(SCRIPT)
    for file in ("page.html", "first.html"):
        (root / file).write_text(PAGE)
    more = f", {of_routes}" if of_routes else ""
    return f"""\
  - names: [{name}.test]
    {rules}
    routes:
      - {{path: /f/*, root: {root}{more}}}
      - {{path: /b/*, backend: "http://127.0.0.1:{port}"{more}}}
      - {{path: /p/*, root: {root}, fastcgi: "unix:{folder}/php.sock"{more}}}
      - {{path: /dead/*, backend: "http://127.0.0.1:{dead}"{more}}}
      - {{path: /r/*, redirect: "https://elsewhere.test/{{rest}}", status: 302{more}}}
"""


GUARDS = [row for row in ROWS if isinstance(row, Guard)]
CHANGES = [row for row in ROWS if isinstance(row, Change)]


@pytest.mark.parametrize("number", range(len(COLUMNS)), ids=[one.name for one in COLUMNS])
@pytest.mark.parametrize("row", GUARDS, ids=[one.name for one in GUARDS])
def test_nothing_goes_around_a_guard(place: Place, row: Guard, number: int) -> None:
    column = COLUMNS[number]
    if column.name in row.without:
        return
    if row.inside is not None:  # what is cached by it is no way in
        assert place.asks(row.name, column, row.inside(number)).status == column.status
    refused = place.asks(row.name, column, row.outside(number), row.method, row.body)
    assert refused.status == row.status
    assert MARK.encode() not in refused.body
    assert refused.told == []
    assert refused.all("strict-transport-security") == ["max-age=5184000"]
    if row.inside is not None and row.name != "rate-limit":
        assert place.asks(row.name, column, row.inside(number)).status == column.status


@pytest.mark.parametrize("column", COLUMNS, ids=[one.name for one in COLUMNS])
@pytest.mark.parametrize("row", CHANGES, ids=[one.name for one in CHANGES])
def test_a_change_is_made_once(place: Place, row: Change, column: Column) -> None:
    for _ in range(2):
        answer = place.asks(row.name, column, row.asked)
        assert answer.status == column.status
        row.holds(answer, column)


@pytest.mark.parametrize("column", COLUMNS, ids=[one.name for one in COLUMNS])
def test_all_of_them_together(place: Place, column: Column) -> None:
    asked = {"Cookie": "session=alice"}
    for row in CHANGES:
        asked |= row.asked
    for _ in range(2):
        answer = place.asks(TOGETHER, column, asked)
        assert answer.status == column.status
        for row in CHANGES:
            if row.name not in ("security", "strip-prefix", "cache-control"):
                row.holds(answer, column)
        for fields in answer.told:
            assert [value for key, value in fields if key == "x-auth-request-user"] == ["alice"]
    for outside, status in (({}, 401), ({"X-Forwarded-For": "192.0.2.66"} | asked, 403)):
        refused = place.asks(TOGETHER, column, outside)
        assert (refused.status, refused.told) == (status, [])
        assert MARK.encode() not in refused.body
        assert refused.all("x-set") == ["ours"]  # the later steps of the answer
