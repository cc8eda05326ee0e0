"""`forward_auth` at the real program: who gets in, what the application and the client are told, and
that nothing walks around it. The services behave by their documentation (`support`)."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from support.http.backend_app import serving
from support.http.client import context
from support.http.login_services import LoginServices, Verdict, leads_back_to
from support.program.ports import free_ports
from support.program.server import Server

CONFIG = """\
state: {state}
listen: {{http: ['127.0.0.1:{one}'], https: ['127.0.0.1:{two}']}}
fast_lane: {fast}
workers: 1
trusted_proxies: [127.0.0.2]
sites:
  - names: [a.test]
    routes:
      - path: /authelia/*
        backend: http://127.0.0.1:{back}
        forward_auth:
          url: http://127.0.0.1:{port}/api/authz/forward-auth
          copy: [Remote-User, Remote-Groups, Remote-Name, Remote-Email]
      - path: /authelia-nginx/*
        backend: http://127.0.0.1:{back}
        forward_auth:
          url: http://127.0.0.1:{port}/api/authz/auth-request
          copy: [Remote-User, Remote-Groups]
      - path: /authentik/*
        backend: http://127.0.0.1:{back}
        forward_auth:
          url: http://127.0.0.1:{port}/outpost.goauthentik.io/auth/caddy
          copy: [X-authentik-username, X-authentik-groups]
      - path: /authentik-nginx/*
        backend: http://127.0.0.1:{back}
        forward_auth:
          url: http://127.0.0.1:{port}/outpost.goauthentik.io/auth/nginx
          copy: [X-authentik-username, X-authentik-groups]
      - path: /oauth2-proxy/*
        backend: http://127.0.0.1:{back}
        forward_auth:
          url: http://127.0.0.1:{port}/oauth2/auth
          copy: [X-Auth-Request-User, X-Auth-Request-Email, Set-Cookie]
      - path: /oauth2-static/*
        backend: http://127.0.0.1:{back}
        forward_auth: {{url: "http://127.0.0.1:{port}", copy: [X-Auth-Request-User, Set-Cookie]}}
      - path: /tinyauth/*
        backend: http://127.0.0.1:{back}
        forward_auth: {{url: "http://127.0.0.1:{port}/api/auth/caddy", copy: [Remote-User]}}
      - path: /files/*
        root: {root}
        forward_auth: {{url: "http://127.0.0.1:{port}/oauth2/auth?a=b", copy: [Set-Cookie]}}
      - path: /kept/*
        backend: http://127.0.0.1:{back}
        forward_auth: {{url: "http://127.0.0.1:{port}/oauth2/auth", copy: X-Auth-Request-User, cache: 1h}}
      - path: /custom/*
        backend: http://127.0.0.1:{back}
        forward_auth: {{url: "http://127.0.0.1:{port}/custom", copy: [X-Forwarded-User, Authorization]}}
      - path: /strict/*
        backend: http://127.0.0.1:{back}
        forward_auth: {{url: "http://127.0.0.1:{port}/strict", trust_redirects: false}}
      - path: /slow/*
        backend: http://127.0.0.1:{back}
        forward_auth: {{url: "http://127.0.0.1:{port}/slow", timeout: 500ms}}
      - path: /dead/*
        backend: http://127.0.0.1:{back}
        forward_auth: {{url: "http://127.0.0.1:{dead}/auth"}}
      - path: /socket/*
        backend: http://127.0.0.1:{back}
        forward_auth: {{url: "unix:{folder}/missing.sock:/auth"}}
      - {{path: /*, backend: "http://127.0.0.1:{back}"}}
"""
FORMS = {
    "authelia": ("remote-user", "alice"),
    "authelia-nginx": ("remote-user", "alice"),
    "authentik": ("x-authentik-username", "alice"),
    "authentik-nginx": ("x-authentik-username", "alice"),
    "oauth2-proxy": ("x-auth-request-user", "alice"),
    "oauth2-static": ("x-auth-request-user", "alice"),
    "tinyauth": ("remote-user", "alice"),
}
ALICE = "session=alice"


class App(http.server.BaseHTTPRequestHandler):
    """Answers with what it was sent; echoes what comes behind an upgrade."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if self.headers.get("Upgrade") == "websocket":
            self.connection.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                b"Upgrade: websocket\r\n\r\nwelcome "
                + self.headers.get("Remote-User", "nobody").encode()
            )
            self.close_connection = True
            return
        told = [[name.lower(), value] for name, value in self.headers.items()]
        text = json.dumps({"method": self.command, "target": self.path, "fields": told,
                           "body": body.decode()}).encode()  # fmt: skip
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_POST = do_HEAD = do_PUT = do_OPTIONS = do_GET

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class Place:
    port: int
    ca: Path
    services: LoginServices
    server: Server
    http2: bool

    def asks(
        self,
        path: str,
        fields: dict[str, str] | list[tuple[str, str]] | None = None,
        method: str = "GET",
        body: bytes | None = None,
        peer: str = "127.0.0.1",
    ) -> httpx.Response:
        transport = httpx.HTTPTransport(
            verify=context(self.ca), http1=not self.http2, http2=self.http2, local_address=peer
        )
        given = list(fields.items()) if isinstance(fields, dict) else fields or []
        with httpx.Client(transport=transport, timeout=60) as client:
            return client.request(
                method, f"https://127.0.0.1:{self.port}{path}", content=body,
                headers=[("Host", "a.test"), *given], extensions={"sni_hostname": "a.test"},
            )  # fmt: skip

    def upgrades(self, path: str, cookie: str) -> bytes:
        """The beginning of the answer to a request for a WebSocket, over HTTP/1.1."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=60) as plain,
            context(self.ca).wrap_socket(plain, server_hostname="a.test") as sock,
        ):
            sock.sendall(
                b"GET %b HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Cookie: %b\r\nRemote-User: root\r\n\r\n" % (path.encode(), cookie.encode())
            )
            heard = b""
            while not _is_whole(heard) and (piece := sock.recv(65536)):
                heard += piece
            return heard


def _is_whole(heard: bytes) -> bool:
    """Whether all has come: the word of the application's user, or a refusal with its body."""
    head, ended, rest = heard.partition(b"\r\n\r\n")
    if not ended:
        return False
    if head.startswith(b"HTTP/1.1 101 "):
        return len(rest) >= len(b"welcome alice")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return length is not None and len(rest) >= int(length[1])


@pytest.fixture(scope="module", params=["fast", "h11", "h2"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    root = folder / "www"
    root.mkdir()
    (root / "x.txt").write_text("hello")
    one, two, dead = free_ports(3)
    config = folder / "config.yaml"
    try:
        with LoginServices() as services, serving(App) as back:
            config.write_text(
                CONFIG.format(
                    state=folder / "state", one=one, two=two, dead=dead, folder=folder,
                    back=back, port=services.port, root=root,
                    fast="false" if request.param == "h11" else "true",
                )
            )  # fmt: skip
            with Server(["--config", str(config)], folder) as server:
                server.await_log("a.test: certificate obtained")
                ca = folder / "state/internal-ca/root.pem"
                yield Place(two, ca, services, server, request.param == "h2")
    finally:
        shutil.rmtree(folder)


def told(response: httpx.Response, name: str) -> list[str]:
    """The values of a field that reached the application."""
    assert response.status_code == 200, response.text
    return [value for key, value in response.json()["fields"] if key == name]


@pytest.mark.parametrize("form", FORMS)
def test_who_has_logged_in_gets_in_and_the_application_learns_who(place: Place, form: str) -> None:
    name, user = FORMS[form]
    response = place.asks(
        f"/{form}/a?b=c", [("Cookie", ALICE), (name, "root"), (name.replace("-", "_"), "root"),
                           ("Remote-Groups", "wheel")]
    )  # fmt: skip
    assert told(response, name) == [user]
    assert "root" not in response.text
    if form != "tinyauth":
        assert "wheel" not in response.text or not form.startswith("authelia")
    asked = place.services.asked[-1]
    assert asked.method == "GET"
    assert asked.one("x-forwarded-method") == asked.one("x-original-method") == "GET"
    assert asked.one("x-forwarded-uri") == f"/{form}/a?b=c"
    assert asked.one("x-original-url") == f"https://a.test/{form}/a?b=c"
    assert asked.one("x-forwarded-for") == "127.0.0.1"
    assert asked.one("x-forwarded-proto") == "https"
    assert asked.one("x-forwarded-host") == asked.one("host") == "a.test"
    assert asked.all(name) == []  # the service is asked, not told


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.0.0.2"])  # the other one is trusted
def test_nobody_tells_the_service_of_another_request(place: Place, peer: str) -> None:
    forged = {
        "X-Forwarded-Uri": "/open", "X-Forwarded-Method": "OPTIONS", "X-Original-URL": "/open",
        "X-Original-Method": "OPTIONS", "X-Original-URI": "/open", "X_Forwarded_Uri": "/open",
        "X-Rewrite-URL": "/open", "Cookie": ALICE,
    }  # fmt: skip
    response = place.asks("/authelia/forbidden", forged, peer=peer)
    assert response.status_code == 403
    asked = place.services.asked[-1]
    assert asked.one("x-forwarded-uri") == asked.one("x-original-uri") == "/authelia/forbidden"
    assert asked.one("x-original-url") == "https://a.test/authelia/forbidden"
    assert asked.one("x-forwarded-method") == asked.one("x-original-method") == "GET"
    assert not [value for _, value in asked.fields if "/open" in value]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_everybody_else_gets_the_services_answer(place: Place, form: str, method: str) -> None:
    path = f"/{form}/a/%C3%A4?b=c&d=%2F"
    asked_before = len(place.services.asked)
    response = place.asks(
        path, {"Accept": "text/html", "Remote-User": "alice"}, method,
        body=b"x" * 2000 if method == "POST" else None,
    )  # fmt: skip
    assert len(place.services.asked) == asked_before + 1
    asked = place.services.asked[-1]
    assert asked.method == "GET"
    assert asked.one("x-forwarded-method") == method
    assert asked.all("content-length") == asked.all("transfer-encoding") == []
    expected = {
        "authelia": 303 if method == "POST" else 302, "authelia-nginx": 401, "authentik": 302,
        "authentik-nginx": 401, "oauth2-proxy": 401, "oauth2-static": 302, "tinyauth": 307,
    }[form]  # fmt: skip
    assert response.status_code == expected
    if form != "oauth2-proxy":
        back = leads_back_to(response.headers["location"])
        assert back == (path if form == "oauth2-static" else f"https://a.test{path}")
    if form in ("authentik", "authentik-nginx", "oauth2-static"):
        assert len(response.headers.get_list("set-cookie")) == 1
    assert (response.content == b"") == (method == "HEAD" or asked.target in (
        "/outpost.goauthentik.io/auth/caddy", "/outpost.goauthentik.io/auth/nginx", "/",
        "/api/auth/caddy"))  # fmt: skip


def test_a_service_that_forbids_is_obeyed(place: Place) -> None:
    response = place.asks("/authelia/forbidden", {"Cookie": ALICE})
    assert (response.status_code, response.text) == (403, "403 Forbidden")


@pytest.mark.parametrize(
    "fields", [{}, {"Range": "bytes=0-1"}, {"If-None-Match": "*"}, {"Expect": "100-continue"}]
)
@pytest.mark.parametrize("path", ["/files/x.txt", "/%66iles/x.txt", "//files/x.txt", "/files/no"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
def test_no_file_gets_past_it(place: Place, path: str, method: str, fields: dict[str, str]) -> None:
    place.asks("/files/x.txt", {"Cookie": ALICE})  # is cached now
    response = place.asks(path, fields, method)
    assert response.status_code == 401
    assert "hello" not in response.text
    asked = place.services.asked[-1]
    assert asked.target == "/oauth2/auth?a=b"
    assert asked.all("range") == asked.all("if-none-match") == []


def test_a_file_is_sent_in_all_its_ways_behind_a_login(place: Place) -> None:
    whole = place.asks("/files/x.txt", {"Cookie": ALICE})
    assert (whole.status_code, whole.text) == (200, "hello")
    assert whole.headers.get_list("cache-control") == ["private"]
    part = place.asks("/files/x.txt", {"Cookie": ALICE, "Range": "bytes=1-2"})
    assert (part.status_code, part.text) == (206, "el")
    tag = {"Cookie": ALICE, "If-None-Match": whole.headers["etag"]}
    assert place.asks("/files/x.txt", tag).status_code == 304
    renewed = place.asks("/files/x.txt", {"Cookie": ALICE + "; refresh=1"})
    assert len(renewed.headers.get_list("set-cookie")) == 2
    assert renewed.headers["cache-control"] == "private"
    assert "set-cookie" not in place.asks("/files/x.txt", {"Cookie": ALICE}).headers


def test_a_renewed_session_reaches_the_client(place: Place) -> None:
    response = place.asks("/oauth2-proxy/a", {"Cookie": ALICE + "; refresh=1"})
    assert told(response, "x-auth-request-user") == ["alice"]
    assert len(response.headers.get_list("set-cookie")) == 2
    assert told(response, "set-cookie") == []


def test_a_body_reaches_the_application_and_not_the_service(place: Place) -> None:
    response = place.asks(
        "/authelia/a", {"Cookie": ALICE, "Content-Type": "text/plain"}, "POST", b"y" * 100_000
    )
    assert response.json()["body"] == "y" * 100_000
    asked = place.services.asked[-1]
    assert asked.all("content-type") == asked.all("content-length") == []


def test_a_websocket_is_let_in_or_not(place: Place) -> None:
    heard = place.upgrades("/authelia/ws", ALICE)
    assert heard.startswith(b"HTTP/1.1 101 ")
    assert heard.endswith(b"welcome alice")
    refused = place.upgrades("/authelia/ws", "session2=alice")
    assert refused.startswith(b"HTTP/1.1 401 ")
    assert place.services.asked[-1].all("upgrade") == []


def test_no_client_of_the_site_says_who_it_is(place: Place) -> None:
    """On a route without a login that leads to the same application."""
    for name in ("Remote-User", "remote_user", "X-authentik-username", "X-Auth-Request-User"):
        response = place.asks("/open", {name: "root"})
        assert "root" not in response.text
        vouched = place.asks("/open", {name: "carol"}, peer="127.0.0.2")
        assert ("carol" in vouched.text) == ("_" not in name)
    kept = place.asks("/open", {"Authorization": "Bearer own"})
    assert told(kept, "authorization") == ["Bearer own"]  # which the application verifies itself


def test_copied_claims_reach_the_application_once(place: Place) -> None:
    place.services.answers["/custom"] = Verdict(
        200, [("X-Forwarded-User", "alice"), ("Authorization", "Bearer made"), ("X-Other", "no")]
    )
    for peer in ("127.0.0.1", "127.0.0.2"):
        response = place.asks(
            "/custom/a", {"X-Forwarded-User": "root", "Authorization": "Bearer own"}, peer=peer
        )
        assert told(response, "x-forwarded-user") == ["alice"]
        assert told(response, "authorization") == ["Bearer made"]
        assert told(response, "x-other") == []
        assert place.services.asked[-1].all("authorization") == ["Bearer own"]
        assert place.services.asked[-1].all("x-forwarded-user") == []
    place.services.answers["/custom"] = Verdict(204)
    response = place.asks("/custom/a", {"X-Forwarded-User": "root", "Authorization": "Bearer own"})
    assert told(response, "x-forwarded-user") == told(response, "authorization") == []


@pytest.mark.parametrize(
    ("location", "status"),
    [
        ("/login", 302), ("https://a.test/login", 302), ("login?rd=//b.test", 302),
        ("https://b.test/", 502), ("//b.test/", 502), ("http://a.test/", 502),
        ("/\\b.test/", 502), ("https:b.test", 502), ("https://a.test@b.test/", 502),
        ("https://a.test.b.test/", 502), ("javascript:alert(1)", 502),
    ],
)  # fmt: skip
def test_redirects_that_are_not_trusted_stay_here(place: Place, location: str, status: int) -> None:
    place.services.answers["/strict"] = Verdict(302, [("Location", location)])
    response = place.asks("/strict/a")
    assert response.status_code == status
    assert ("location" in response.headers) == (status == 302)


@pytest.mark.parametrize(
    ("path", "service", "status", "kind"),
    [("/slow/a", "/slow", 504, "auth_timeout"), ("/dead/a", "/auth", 502, "auth_refused"),
     ("/socket/a", "missing.sock:/auth", 502, "auth_refused")],
)  # fmt: skip
def test_a_service_that_cannot_be_asked_lets_nobody_in(
    place: Place, path: str, service: str, status: int, kind: str
) -> None:
    lines = len(place.server.log)
    response = place.asks(path, {"Cookie": ALICE})
    assert response.status_code == status
    assert "alice" not in response.text
    line = place.server.await_access(target=path)
    assert line["error"] == kind
    asked = rf"\(GET a\.test{path}\)"  # the client's request, and not the question
    place.server.await_log(f"{kind}: .*{service}.*{asked}", since=lines)
    said = [one for one in place.server.log[lines:] if one.get("backend", "").endswith(service)]
    assert [one["level"] for one in said] == ["warning"]


def test_a_verdict_is_remembered_for_the_very_same_request(place: Place) -> None:
    def questions(path: str, fields: dict[str, str], method: str = "GET") -> tuple[int, int]:
        before = len(place.services.asked)
        response = place.asks(path, fields, method)
        return response.status_code, len(place.services.asked) - before

    mine = {"Cookie": ALICE, "X-Request-Id": "one"}
    assert questions("/kept/a", mine) == (200, 1)
    assert questions("/kept/a", mine) == (200, 0)
    assert questions("/kept/a", mine | {"X-Request-Id": "two"}) == (200, 0)
    response = place.asks("/kept/a", mine | {"X-Auth-Request-User": "root"})
    assert told(response, "x-auth-request-user") == ["alice"]
    for path, fields in (
        ("/kept/b", mine),
        ("/kept/a?", mine),
        ("/kept/%61", mine),
        ("/kept/a", mine | {"Authorization": "Bearer x"}),
        ("/kept/a", mine | {"X-Tenant": "b"}),
        ("/kept/a", mine | {"User-Agent": "other"}),
    ):
        assert questions(path, fields) == (200, 1), (path, fields)
    assert questions("/kept/a", mine, "POST") == (200, 1)
    for _ in range(2):  # what is refused is asked again
        assert questions("/kept/a", {"Cookie": "session2=alice"}) == (401, 1)
        assert questions("/kept/a", {}) == (401, 1)
    for _ in range(2):  # who gets a cookie needs it each time
        assert questions("/kept/c", {"Cookie": ALICE + "; refresh=1"}) == (200, 1)
    assert place.asks("/kept/a", mine, peer="127.0.0.3").status_code == 200
    assert place.services.asked[-1].one("x-forwarded-for") == "127.0.0.3"
