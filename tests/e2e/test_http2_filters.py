"""What stands before and behind handlers does the same over HTTP/1.1 and HTTP/2: each request of a table is
asked over both, and the answers are alike."""

from __future__ import annotations

import base64
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.h2_peer import data
from support.http.backend_app import Application, serving
from support.http.client import context, https
from support.http.h2_talk import H2Talk, h2_context, request
from support.http.streaming_app import Witness, application
from support.program.ports import free_ports
from support.program.server import Server

PASSWORD = base64.b64encode(b"alice:secret").decode()
# bcrypt, of "secret"
HASH = "$2b$04$ZhO7rgJmEa4SoO7C9RVPXeKGW6.GM3UEjKtGlecTd7gbRn4SYFsIm"
# What differs from one answer to the next, or belongs to one version.
OF_ITS_OWN = {"date", "connection", "keep-alive", "transfer-encoding", "x-request-id", "alt-svc"}


class Login(Application):
    """Lets in whoever brings the cookie."""

    def do_GET(self) -> None:
        if "sso=1" in self.headers.get("Cookie", ""):
            self.answers(Remote_User="carol")
        else:
            self.answers(b"who are you?", 401, WWW_Authenticate="Login")


@dataclass(frozen=True)
class Asked:
    path: str
    method: str = "GET"
    fields: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    status: int = 200


TABLE = {
    "a file": Asked("/page.html"),
    "a file that has not changed": Asked("/page.html", fields={"if-none-match": "*"}, status=304),
    "a part of a file": Asked("/page.html", fields={"range": "bytes=2-9"}, status=206),
    "a compressed file": Asked("/long.txt", fields={"accept-encoding": "gzip"}),
    "a compressed answer": Asked("/app/bytes?size=9000", fields={"accept-encoding": "gzip"}),
    "HEAD of a compressed answer": Asked("/long.txt", "HEAD", {"accept-encoding": "gzip"}),
    "no page": Asked("/nothing", status=404),
    "a listing": Asked("/list/"),
    "a fixed answer": Asked("/fixed/x", status=503),
    "a redirect": Asked("/away/x?y=1", status=302),
    "a path without its prefix": Asked("/stripped/fields"),
    "a path that is another": Asked("/old/fields"),
    "a forbidden address": Asked("/denied/x", status=403),
    "a second spelling of it": Asked("/%64enied/x", status=403),
    "a way around it": Asked("/app/..%2fdenied/x", status=400),
    "no password": Asked("/secret/fields", status=401),
    "a wrong password": Asked("/secret/fields", fields={"authorization": "Basic YTpi"}, status=401),
    "a password": Asked("/secret/fields", fields={"authorization": f"Basic {PASSWORD}"}),
    "HEAD without a password": Asked("/secret/fields", "HEAD", status=401),
    "no login": Asked("/sso/fields", status=401),
    "a login": Asked("/sso/fields", fields={"cookie": "a=b; sso=1", "remote-user": "mallory"}),
    "a POST with a login": Asked("/sso/digest", "POST", {"cookie": "sso=1"}, b"x" * 5000),
    "a POST without": Asked("/sso/digest", "POST", {}, b"x" * 5000, status=401),
    "a preflight": Asked(
        "/cors/x", "OPTIONS",
        {"origin": "https://app.test", "access-control-request-method": "POST"}, status=204),
    "another origin": Asked("/cors/fields", fields={"origin": "https://app.test"}),
    "a body within its limit": Asked("/small/digest", "POST", {}, b"x" * 1000),
    "a body beyond it": Asked("/small/digest", "POST", {}, b"x" * 2000, status=413),
    "a body beyond it that nobody announced": Asked("/small/digest", "POST", {"chunked": "yes"}, b"x" * 2000, status=413),
    "a route by a field": Asked("/chosen", fields={"x-version": "2"}),
    "and without the field": Asked("/chosen", status=404),
    "fields that are changed": Asked("/headed/fields"),
    "a route that others may not write to": Asked("/cors/fields", "PATCH", {}, b"x", status=501),
}  # fmt: skip


@dataclass
class Running:
    port: int
    ca: Path
    server: Server


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    folder.chmod(0o755)
    root = folder / "www"
    (root / "list").mkdir(parents=True)
    (root / "list/one.txt").write_text("one\n")
    (root / "page.html").write_text("<p>a page\n")
    (root / "missing.html").write_text("<p>there is no such page\n")
    (root / "long.txt").write_text("all the same\n" * 500)
    one, other = free_ports(2)
    try:
        with serving(application(Witness())) as app, serving(Login) as login:
            to = f'backend: "http://127.0.0.1:{app}"'
            (folder / "config.yaml").write_text(
                f"""
listen: {{http: ["127.0.0.1:{one}"], https: ["127.0.0.1:{other}"]}}
workers: 1
state: {folder / "state"}
tls: {{hsts: {{max_age: 30d}}}}
sites:
  - names: [a.test]
    error_pages: {{404: /missing.html}}
    headers: {{set: {{X-Site: "{{host}} {{path}}"}}}}
    routes:
      - {{path: /app/*, {to}, compress: true}}
      - {{path: /list/*, root: {root / "list"}, listing: true, strip_prefix: true}}
      - {{path: /fixed/*, respond: {{status: 503, body: "Back at noon.", retry_after: 5m}}}}
      - {{path: /away/*, redirect: "https://b.test/", status: 302}}
      - {{path: /stripped/*, {to}, strip_prefix: true}}
      - {{path: /old/*, {to}, rewrite: "/new/{{rest}}"}}
      - {{path: /denied/*, {to}, deny: [loopback]}}
      - {{path: /secret/*, {to}, basic_auth: {{users: {{alice: "{HASH}"}}}}}}
      - {{path: /sso/*, {to}, forward_auth: {{url: "http://127.0.0.1:{login}/", copy: [Remote-User]}}}}
      - {{path: /cors/*, {to}, cors: {{origins: [https://app.test], methods: [GET, POST]}}}}
      - {{path: /small/*, {to}, body_size: 1500}}
      - {{path: /chosen, match: {{header: {{X-Version: "2"}}}}, {to}}}
      - {{path: /headed/*, {to}, headers: {{remove: [Server], default: {{X-A: "1"}}}}, request_headers: {{set: {{X-B: "2"}}}}}}
      - {{path: /*, root: {root}}}
"""
            )
            with Server(["--config", str(folder / "config.yaml")], folder) as server:
                server.await_log("a.test: certificate obtained")
                yield Running(other, folder / "state/internal-ca/root.pem", server)
                assert "Traceback" not in server.text()
    finally:
        shutil.rmtree(folder)


Answer = tuple[int, dict[str, str], bytes]


def over_http1(running: Running, asked: Asked) -> Answer:
    fields = dict(asked.fields)
    chunked = fields.pop("chunked", None)
    lines = [f"{asked.method} {asked.path} HTTP/1.1", "Host: a.test"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    body = asked.body
    if chunked:
        lines.append("Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    elif body:
        lines.append(f"Content-Length: {len(body)}")
    with https(running.port, "a.test", None, using=context(running.ca)) as talk:
        talk.says("\r\n".join([*lines, "", ""]).encode() + body)
        got = talk.hears(asked.method)
    return got.status, dict(got.fields), got.body


def over_http2(running: Running, asked: Asked) -> Answer:
    fields = dict(asked.fields)
    if fields.pop("chunked", None) is None and asked.body:
        fields["content-length"] = str(len(asked.body))
    more = [(name.encode(), value.encode()) for name, value in fields.items()]
    with H2Talk(running.port, "a.test", h2_context(running.ca)) as talk:
        head = request(asked.path, "a.test", *more, method=asked.method.encode())
        body = [data(1, asked.body, end=True)] if asked.body else []
        number = talk.asks(head, *body)
        told = {name.decode(): value.decode() for name, value in talk.heads(number)[0]}
        return int(told.pop(":status")), told, talk.body(number)


@pytest.mark.parametrize("name", TABLE)
def test_both_versions_answer_alike(running: Running, name: str) -> None:
    asked = TABLE[name]
    first, second = over_http1(running, asked), over_http2(running, asked)
    assert first[0] == second[0] == asked.status, (first, second)
    kept = [
        {field: value for field, value in answer[1].items() if field not in OF_ITS_OWN}
        for answer in (first, second)
    ]
    if "transfer-encoding" in first[1]:
        kept[1].pop("content-length", None)  # which a body that is here has over HTTP/2
    assert kept[0] == kept[1]
    bodies = [_plain(first[2]), _plain(second[2])]
    assert bodies[0] == bodies[1]


def _plain(body: bytes) -> bytes:
    """Without the ids that a backend is told, which are others each time."""
    if body.startswith(b'[["'):
        pairs = body.decode().split("], [")
        kept = [pair for pair in pairs if not pair.lower().lstrip('["').startswith("x-request-id")]
        return "], [".join(kept).encode()
    return body
