"""Ways through a site, at the real program: paths that change, answers made here, pages for errors,
routes that ask for more than a path. Over HTTP/1.1 with and without the fast parser, and HTTP/2."""

from __future__ import annotations

import base64
import http.server
import json
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from proxy.sites.passwords import hashed
from support.http.backend_app import serving
from support.http.client import context, https
from support.program.ports import free_ports
from support.program.server import Server

HASH = hashed("geheim")
RIGHT = "Basic " + base64.b64encode(b"alice:geheim").decode()
PAGE = "<h1>Sorry, said at length</h1>" + "<p>again and again</p>" * 100
NAMES = ("a.test", "b.test", "c.test", "d.test", "e.test", "f.test")
CONFIG = """\
state: {state}
listen: {{http: ['127.0.0.1:{one}'], https: ['127.0.0.1:{two}']}}
fast_lane: {fast}
trusted_proxies: [127.0.0.2]
headers: {{set: {{X-Top: all}}}}
sites:
  - names: [a.test]
    error_pages: {{404: /errors/404.html, 401: /errors/open.html, 403: /members/page.html, "5xx": {folder}/sorry.html,
                   405: /errors/404.html, 418: /errors/loop, 413: /errors/404.html, 410: /down/page}}
    routes:
      - {{path: /api/*, backend: 'http://127.0.0.1:{back}', strip_prefix: true,
          request_headers: {{set: {{X-Asked: "{{path}}?{{query}}"}}}}}}
      - {{path: /api/admin/*, backend: 'http://127.0.0.1:{back}', strip_prefix: true, deny: [0.0.0.0/0]}}
      - {{path: /deep/er/*, backend: 'http://127.0.0.1:{back}/base', strip_prefix: true}}
      - {{path: /v1/*, backend: 'http://127.0.0.1:{back}', rewrite: "/v2/{{rest}}?from={{host}}&{{query}}"}}
      - {{path: /one, backend: 'http://127.0.0.1:{back}', rewrite: /two}}
      - {{path: /old/*, root: {root}, rewrite: "/new/{{rest}}"}}
      - {{path: /ping, respond: {{body: pong, content_type: text/x-pong}}}}
      - {{path: /gone/*, respond: 410}}
      - {{path: /teapot, respond: 418}}
      - {{path: /maintenance/*, backend: 'http://127.0.0.1:{back}', respond: {{status: 503, retry_after: 5m}}}}
      - {{path: /fails/*, backend: 'http://127.0.0.1:{back}', intercept: true}}
      - {{path: /fails-alone/*, backend: 'http://127.0.0.1:{back}'}}
      - {{path: /down/*, backend: 'http://127.0.0.1:{down}'}}
      - {{path: /waits/*, backend: 'http://127.0.0.1:{late}', wait_for_backend: 2m, strip_prefix: true, methods: [GET, POST]}}
      - {{path: /tires/*, backend: 'http://127.0.0.1:{down}', wait_for_backend: 200ms, rewrite: "/x/{{rest}}", intercept: true}}
      - {{path: /second/*, backend: ['http://127.0.0.1:{down}', 'http://127.0.0.1:{back}'], strip_prefix: true}}
      - {{path: /errors/*, root: {root}/errors}}
      - {{path: /errors/loop, respond: 418}}
      - {{path: /members/*, root: {root}/members, basic_auth: {{users: {{alice: "{hash}"}}}}}}
      - {{path: /office/*, root: {root}, deny: [0.0.0.0/0]}}
      - {{path: /form, methods: [POST], backend: 'http://127.0.0.1:{back}'}}
      - {{path: /form, methods: [GET], root: {root}, rewrite: /form.html}}
      - {{path: /kind/*, match: {{header: {{X-Version: "re:^2"}}}}, respond: {{body: two}}}}
      - {{path: /kind/*, match: {{query: {{beta: "1"}}}}, respond: {{body: beta}}}}
      - {{path: /kind/*, match: {{from: [192.0.2.0/24]}}, respond: {{body: office}}}}
      - {{path: /kind/*, methods: [PUT], respond: {{body: put}}}}
      - {{path: /*, root: {root}}}
  - names: [b.test]
    redirect: "https://new.example{{path}}"
    status: 302
    routes:
      - {{path: /.well-known/*, root: {root}/.well-known}}
      - {{path: /inherits/*}}
  - names: [c.test]
    respond: {{status: 503, body: "Back at noon.", retry_after: 5m}}
    routes:
      - {{path: /health, backend: 'http://127.0.0.1:{back}', respond: off}}
      - {{path: /app/*, backend: 'http://127.0.0.1:{back}'}}
  - names: [d.test]
    root: {root}
    basic_auth: {{users: {{alice: "{hash}"}}}}
    error_pages: {{401: /errors/open.html}}
  - names: [e.test]
    error_pages: {{405: /errors/404.html}}
    routes:
      - {{path: /form, methods: POST, backend: 'http://127.0.0.1:{back}'}}
      - {{path: /form, methods: [get], respond: {{body: a form}}}}
      - {{path: /locked, methods: [PUT], respond: 204, basic_auth: {{users: {{alice: "{hash}"}}}}}}
      - {{path: /errors/*, root: {root}/errors}}
      - {{path: /shared/*, methods: [GET], cors: {{origins: ["https://app.test"]}}, respond: {{body: shared}}}}
  - names: [f.test]
    forward_auth: {{url: 'http://127.0.0.1:{back}/login', copy: [Authorization, Remote-User]}}
    error_pages: {{"5xx": /page, 401: /page}}
    intercept: true
    routes:
      - {{path: /page, backend: 'http://127.0.0.1:{back}', forward_auth: off}}
      - {{path: /fails/open/*, backend: 'http://127.0.0.1:{back}', forward_auth: off}}
      - {{path: /fails/basic/*, backend: 'http://127.0.0.1:{back}', forward_auth: off, basic_auth: {{users: {{alice: "{hash}"}}}}}}
      - {{path: /basic/*, backend: 'http://127.0.0.1:{back}', forward_auth: off, basic_auth: {{users: {{alice: "{hash}"}}}}}}
      - {{path: /*, backend: 'http://127.0.0.1:{back}'}}
"""


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the request line and the fields that it was sent; below /fails with 500."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers.get("Upgrade"):
            self.wfile.write(
                b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
            )
            self.wfile.write(self.path.encode() + b" " + self.rfile.read(5))
            self.close_connection = True
            return
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fields = [[name.lower(), value] for name, value in self.headers.items()]
        body = json.dumps({"target": self.path, "method": self.command, "fields": fields}).encode()
        self.send_response(500 if self.path.startswith("/fails") else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", "session=1")
        if self.path == "/login":
            self.send_header("Authorization", "Bearer of-the-service")
            self.send_header("Remote-User", "alice")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_POST = do_OPTIONS = do_GET

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class Place:
    port: int
    ca: Path
    http2: bool
    server: Server
    late: int  # the port of an app that is not there yet

    def asks(
        self, path: str, method: str = "GET", host: str = "a.test", peer: str = "127.0.0.1",
        body: bytes = b"", **fields: str,
    ) -> httpx.Response:  # fmt: skip
        """One request, from an address of this machine. "_" in a name stands for "-"."""
        transport = httpx.HTTPTransport(
            verify=context(self.ca), http1=not self.http2, http2=self.http2, local_address=peer
        )
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        with httpx.Client(transport=transport, follow_redirects=False, timeout=30) as client:
            return client.request(
                method, f"https://127.0.0.1:{self.port}{path}", content=body or None,
                headers={"Host": host, **named}, extensions={"sni_hostname": host},
            )  # fmt: skip

    def spells(self, target: str, fields: str = "", host: str = "a.test") -> tuple[int, bytes]:
        """A request over HTTP/1.1 with the target exactly as it is spelt."""
        with https(self.port, host, self.ca) as talk:
            answer = talk.asks(target, host, fields=fields)
            return answer.status, answer.body


@pytest.fixture(scope="module", params=["fast", "h11", "h2"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    root = folder / "www"
    for name in ("new/folder", "errors", "members", ".well-known"):
        (root / name).mkdir(parents=True)
    for name in ("index.html", "new/x.txt", "new/folder/index.html", ".well-known/x.txt"):
        (root / name).write_text(f"this is {name}")
    (root / "form.html").write_text("a form")
    (root / "errors/404.html").write_text(PAGE)
    (root / "errors/open.html").write_text("who are you?")
    (root / "members/page.html").write_text("for members only")
    (folder / "sorry.html").write_text(PAGE)
    (folder / "secret.txt").write_text("outside")
    one, two, down, late = free_ports(4)
    config = folder / "config.yaml"
    try:
        with serving(Echo) as back:
            config.write_text(
                CONFIG.format(
                    state=folder / "state", one=one, two=two, down=down, late=late, back=back,
                    root=root, folder=folder, hash=HASH,
                    fast="false" if request.param == "h11" else "true",
                )
            )  # fmt: skip
            with Server(["--config", str(config)], folder) as server:
                for name in NAMES:
                    server.await_log(f"{name}: certificate obtained")
                ca = folder / "state/internal-ca/root.pem"
                yield Place(two, ca, request.param == "h2", server, late)
    finally:
        shutil.rmtree(folder)


def sent_on(response: httpx.Response) -> tuple[str, str | None]:
    """The target that the backend was asked for, and what it was told of the prefix."""
    fields = [value for name, value in response.json()["fields"] if name == "x-forwarded-prefix"]
    assert len(fields) <= 1
    return response.json()["target"], fields[0] if fields else None


# Paths


@pytest.mark.parametrize(
    ("path", "target", "prefix"),
    [
        ("/api/x", "/x", "/api"),
        ("/api/", "/", "/api"),
        ("/api/api/x", "/api/x", "/api"),
        ("/api/x?a=1&b", "/x?a=1&b", "/api"),
        ("/api/%41%2fb", "/%41%2fb", "/api"),
        ("/deep/er/x", "/base/x", "/deep/er"),
        ("/v1/x/y?q=1", "/v2/x/y?from=a.test&q=1", "/v1"),
        ("/v1/x", "/v2/x?from=a.test", "/v1"),
        ("/one?a", "/two?a", None),
    ],
)
def test_a_backend_is_asked_for_another_path_and_told_what_is_missing(
    place: Place, path: str, target: str, prefix: str | None
) -> None:
    response = place.asks(path, X_Forwarded_Prefix="/forged")
    assert response.status_code == 200
    assert sent_on(response) == (target, prefix)
    assert response.headers["x-top"] == "all"


def test_everything_else_of_a_request_goes_on_as_it_is(place: Place) -> None:
    """Fields that Connection names, a body that waits to be asked for, what the operator adds."""
    fields = "Connection: x-own\r\nX-Own: dropped\r\nX-Kept: kept\r\nX-Request-Id: mine\r\n"
    status, body = place.spells("/api/x?y=1", fields)
    told = dict(json.loads(body)["fields"])
    assert (status, told["x-kept"], told["x-request-id"]) == (200, "kept", "mine")
    assert "x-own" not in told
    assert (told["x-asked"], told["x-forwarded-prefix"]) == ("/api/x?y=1", "/api")
    with https(place.port, "a.test", place.ca) as talk:
        talk.says(
            b"POST /api/x HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\n"
            b"Content-Length: 3\r\n\r\n"
        )
        assert talk.sock.recv(100).startswith(b"HTTP/1.1 100 ")
        talk.says(b"abc")
        assert talk.hears().status == 200
        line = place.server.await_access(request_id="mine")
        assert line["target"] == "/api/x?y=1"


def test_a_tunnel_leads_to_the_new_path(place: Place) -> None:
    with https(place.port, "a.test", place.ca) as talk:
        talk.says(
            b"GET /api/ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\n"
            b"Upgrade: echo\r\n\r\nhello"
        )
        assert talk.hears().status == 101
        assert talk.rest() == b"/ws hello"


def test_a_trusted_proxy_has_left_out_a_prefix_before_us(place: Place) -> None:
    response = place.asks("/api/x", peer="127.0.0.2", X_Forwarded_Prefix="/outer")
    assert sent_on(response) == ("/x", "/outer/api")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("//api//x", "/x"),
        ("/%61pi/./x", "/x"),
        ("/api///x", "/x"),
        ("/api//evil.example/x", "/evil.example/x"),
        ("/api/a;b=c/x", "/a;b=c/x"),
    ],
)
def test_every_spelling_of_a_prefix_is_left_out(place: Place, target: str, expected: str) -> None:
    status, body = place.spells(target)
    assert status == 200
    assert json.loads(body)["target"] == expected


@pytest.mark.parametrize(
    "target",
    [
        "/api/../x", "/api/%2e%2e/x", "/api/a/%2e%2e%2f..%2fx", "/api/..;/x", "/api/a;/..;b/x",
        "/api/%5c..%5cx", "/api/x%00", "/api/%c0%ae%c0%ae/x", "/api/%",
        "/old/../secret.txt", "/old/%2e%2e/%2e%2e/secret.txt", "/old/..%2f..%2fsecret.txt",
        "/old/..\\secret.txt", "/api/admin;x/y", "/api/x/..;/admin/y",
    ],
)  # fmt: skip
def test_no_spelling_leads_out_of_what_is_rewritten(place: Place, target: str) -> None:
    status, body = place.spells(target)
    assert status in (400, 403, 404)
    assert b"outside" not in body
    assert b"target" not in body


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/old/x.txt", 200, "this is new/x.txt"),
        ("/old/folder/", 200, "this is new/folder/index.html"),
        ("/old/folder", 308, "/old/folder/"),
        ("/old/folder?a=b", 308, "/old/folder/?a=b"),
        ("/old/nothing", 404, PAGE),
    ],
)
def test_files_are_looked_for_at_another_path(
    place: Place, path: str, status: int, said: str
) -> None:
    for _ in range(2):
        response = place.asks(path)
        assert response.status_code == status
        assert said in (response.headers.get("location"), response.text)
    assert (
        place.asks(path, "HEAD").headers.get("content-length")
        == (response.headers["content-length"])
    )


def test_the_log_has_the_path_that_the_client_asked_for(place: Place) -> None:
    place.asks("/api/logged")
    line = place.server.await_access(target="/api/logged")
    assert line["status"] == 200


def test_a_request_that_waits_for_its_app_is_asked_for_the_new_path(place: Place) -> None:
    """Held until the app starts, and sent on then, each once and with its own body."""
    with ThreadPoolExecutor(6) as pool:
        asked = [
            pool.submit(place.asks, f"/waits/{number}", "POST" if number % 2 else "GET",
                        body=b"x" * 1000 if number % 2 else b"")
            for number in range(6)
        ]  # fmt: skip
        assert not wait(asked, 0.5).done
        with serving(Echo, port=place.late):
            for number, one in enumerate(asked):
                response = one.result(120)
                assert response.status_code == 200
                assert sent_on(response) == (f"/{number}", "/waits")


def test_who_waits_in_vain_gets_the_page(place: Place) -> None:
    for method in ("GET", "HEAD", "POST"):
        response = place.asks("/tires/x", method, body=b"x" if method == "POST" else b"")
        assert response.status_code == 502
        assert response.text == ("" if method == "HEAD" else PAGE)


def test_the_next_backend_is_asked_for_the_same_path(place: Place) -> None:
    for _ in range(3):
        assert sent_on(place.asks("/second/x?y")) == ("/x?y", "/second")
        assert sent_on(place.asks("/second/x", "POST", body=b"z" * 9)) == ("/x", "/second")


# Answers made here


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_fixed_answer(place: Place, method: str) -> None:
    response = place.asks("/ping", method, body=b"x" if method == "POST" else b"")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/x-pong"
    assert response.headers["content-length"] == "4"
    assert response.headers["x-top"] == "all"
    assert response.text == ("" if method == "HEAD" else "pong")


def test_maintenance_stands_before_whatever_answers_else(place: Place) -> None:
    for path in ("/", "/app/x", "/nowhere"):
        response = place.asks(path, host="c.test")
        assert (response.status_code, response.text) == (503, "Back at noon.")
        assert response.headers["retry-after"] == "300"
    assert place.asks("/health", host="c.test").status_code == 200
    response = place.asks("/maintenance/x")
    assert (response.status_code, response.text) == (503, PAGE)
    assert response.headers["retry-after"] == "300"


def test_a_redirect_of_the_site_is_for_what_has_no_answer_of_its_own(place: Place) -> None:
    for path in ("/", "/x?a=b", "/inherits/x"):
        response = place.asks(path, host="b.test")
        assert response.status_code == 302
        assert response.headers["location"] == f"https://new.example{path}"
    assert place.asks("/.well-known/x.txt", host="b.test").text == "this is .well-known/x.txt"


# Routes that ask for more than a path


@pytest.mark.parametrize(
    ("method", "fields", "path", "status", "said"),
    [
        ("POST", {}, "/form", 200, '"method": "POST"'),
        ("GET", {}, "/form", 200, "a form"),
        ("HEAD", {}, "/form", 200, ""),
        ("GET", {"X_Version": "2.1"}, "/kind/x", 200, "two"),
        ("GET", {"X_Version": "1.2"}, "/kind/x", 404, PAGE),
        ("GET", {}, "/kind/x?beta=1", 200, "beta"),
        ("GET", {}, "/kind/x?a&b%65ta=%31", 200, "beta"),
        ("GET", {}, "/kind/x?beta=2&alphabeta=1", 404, PAGE),
        ("PUT", {}, "/kind/x", 200, "put"),
        ("PUT", {"X_Version": "2"}, "/kind/x?beta=1", 200, "two"),
    ],
)
def test_a_route_takes_what_it_asks_for(
    place: Place, method: str, fields: dict[str, str], path: str, status: int, said: str
) -> None:
    for _ in range(2):
        response = place.asks(path, method, **fields)
        assert response.status_code == status
        assert said in response.text


def test_a_route_goes_by_the_client_that_a_trusted_proxy_names(place: Place) -> None:
    found = place.asks("/kind/x", peer="127.0.0.2", X_Forwarded_For="192.0.2.7")
    assert found.text == "office"
    assert place.asks("/kind/x", X_Forwarded_For="192.0.2.7").status_code == 404


def test_where_only_the_method_fails_the_answer_says_which_are_taken(place: Place) -> None:
    for method in ("PUT", "DELETE", "OPTIONS", "HEAD"):
        response = place.asks("/form", method, host="e.test")
        if method == "HEAD":
            assert response.status_code == 200
            continue
        assert response.status_code == 405
        assert response.headers["allow"] == "POST, GET, HEAD"
        assert response.text == PAGE
    assert place.asks("/locked", "GET", host="e.test").status_code == 401
    known = place.asks("/locked", "GET", host="e.test", Authorization=RIGHT)
    assert (known.status_code, known.headers["allow"]) == (405, "PUT")
    assert place.asks("/locked", "PUT", host="e.test", Authorization=RIGHT).status_code == 204


def test_a_preflight_goes_by_the_method_that_it_asks_about(place: Place) -> None:
    asked = {"Origin": "https://app.test", "Access_Control_Request_Method": "GET"}
    response = place.asks("/shared/x", "OPTIONS", host="e.test", **asked)
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == "https://app.test"
    refused = place.asks("/shared/x", "PUT", host="e.test", Origin="https://app.test")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    assert refused.headers["access-control-allow-origin"] == "https://app.test"
    assert place.asks("/shared/x", "OPTIONS", host="e.test").status_code == 405


# Pages for errors


def test_an_error_has_its_page_and_keeps_its_status(place: Place) -> None:
    for path, status in [("/nothing", 404), ("/down/x", 502), ("/api/admin/x", 403)]:
        response = place.asks(path, Accept_Encoding="identity")
        assert response.status_code == status
        assert "etag" not in response.headers
        assert "last-modified" not in response.headers
        if status != 403:
            assert response.text == PAGE
            assert response.headers["content-type"].startswith("text/html")
            assert int(response.headers["content-length"]) == len(PAGE)
        head = place.asks(path, "HEAD", Accept_Encoding="identity")
        assert head.status_code == status
        assert head.headers["content-length"] == response.headers["content-length"]
        assert head.headers["x-top"] == "all"


def test_the_page_is_whole_whatever_part_or_version_was_asked_for(place: Place) -> None:
    for fields in ({"Range": "bytes=0-3"}, {"If_None_Match": "*"}, {"If_Match": '"x"'}):
        response = place.asks("/nothing", **fields)
        assert (response.status_code, response.text) == (404, PAGE)


def test_a_page_is_compressed_like_anything_else(place: Place) -> None:
    for path in ("/nothing", "/maintenance/x"):
        for _ in range(2):
            response = place.asks(path, Accept_Encoding="gzip")
            assert response.headers["content-encoding"] == "gzip"
            assert response.text == PAGE
            assert response.headers["vary"] == "accept-encoding"


def test_errors_of_backends_have_a_page_where_they_are_intercepted(place: Place) -> None:
    response = place.asks("/fails/x")
    assert (response.status_code, response.text) == (500, PAGE)
    assert response.headers["content-type"].startswith("text/html")
    assert response.headers["set-cookie"] == "session=1"
    alone = place.asks("/fails-alone/x")
    assert alone.status_code == 500
    assert alone.json()["target"] == "/fails-alone/x"
    assert place.asks("/fails/x", "POST", body=b"x" * 100_000).text == PAGE


def test_a_page_shows_nobody_what_a_password_protects(place: Place) -> None:
    for path in ("/office/x.txt", "/api/admin/x"):
        response = place.asks(path)
        assert response.status_code == 403
        assert "members" not in response.text
        assert response.headers["x-top"] == "all"
        allowed = place.asks(path, Authorization=RIGHT)
        assert (allowed.status_code, allowed.text) == (403, "for members only")


def test_a_page_behind_the_same_password_is_shown_to_those_who_lack_it(place: Place) -> None:
    response = place.asks("/", host="d.test")
    assert (response.status_code, response.text) == (401, "who are you?")
    assert response.headers["www-authenticate"].startswith("Basic ")
    assert place.asks("/", host="d.test", Authorization=RIGHT).text == "this is index.html"
    response = place.asks("/members/x")
    assert (response.status_code, response.text) == (401, "who are you?")


def test_a_page_that_fails_leaves_the_error_as_it_was(place: Place) -> None:
    """Not found itself, an error itself, of a backend that is down: nothing goes in circles."""
    assert place.asks("/teapot").status_code == 418
    response = place.asks("/gone/x")
    assert (response.status_code, response.text) == (410, "")


def told_of_page(response: httpx.Response) -> dict[str, str]:
    """The fields that the backend with the page was asked with."""
    assert response.json()["target"] == "/page"
    return dict(response.json()["fields"])


def test_what_is_for_one_backend_is_not_told_to_the_one_with_the_page(place: Place) -> None:
    """A login service's token, and a password that is verified here, right or wrong."""
    app = place.asks("/app/x", host="f.test", Authorization=RIGHT)
    assert dict(app.json()["fields"])["authorization"] == "Bearer of-the-service"
    for fields in ({}, {"Authorization": RIGHT}):
        response = place.asks("/fails/x", host="f.test", Cookie="a=1", **fields)
        told = told_of_page(response)
        assert (response.status_code, told["cookie"]) == (500, "a=1")
        assert told.keys().isdisjoint({"authorization", "remote-user"})
    for path, status, password in [("/fails/basic/x", 500, RIGHT), ("/basic/x", 401, RIGHT + "x")]:
        response = place.asks(path, host="f.test", Authorization=password)
        assert response.status_code == status
        assert told_of_page(response).keys().isdisjoint({"authorization", "remote-user"})
    own = place.asks("/fails/open/x", host="f.test", Authorization="Bearer of-the-client")
    assert told_of_page(own)["authorization"] == "Bearer of-the-client"


def test_an_upgrade_that_is_refused_gets_the_page(place: Place) -> None:
    with https(place.port, "a.test", place.ca) as talk:
        answer = talk.asks(
            "/nothing", "a.test", fields="Connection: Upgrade\r\nUpgrade: websocket\r\n"
        )
        assert (answer.status, answer.body.decode()) == (404, PAGE)
        again = talk.asks("/ping", "a.test", fields="Accept-Encoding: gzip\r\n")
        assert again.body == b"pong"
