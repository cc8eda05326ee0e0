"""One configuration served twice: by the program that it was written for, and by us.

A case is a file of the other program, with the requests that are asked of both in comments at its
beginning:

    #? GET https://shop.test/cart?x=1 Accept: text/html; Origin: https://a.test !own-page

A word with an exclamation mark names a difference that `docs/moving.md` explains: where one is
named, the two must differ in just that; where none is, they must not differ.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import re
import shutil
import socket
import socketserver
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import trustme

from support.http.backend_app import Application, running, serving
from support.program.netns import Netns
from support.program.php_fpm import php_fpm

# Each difference: in what of a response it shows.
DIFFERENCES: dict[str, frozenset[str]] = {
    "permanent": frozenset({"status"}),
    "two-steps": frozenset({"location"}),
    "fallback-is-for-pages": frozenset({"status", "body", "content-type", "cache-control"}),
    "query-stays": frozenset({"location"}),
    "own-listing": frozenset(
        {"body", "cache-control", "content-security-policy", "x-content-type-options"}
    ),
    "errors-too": frozenset({"x-content-type-options"}),
    "unreachable": frozenset({"status"}),
    "errors-keep-fields": frozenset({"x-powered-by"}),
    "pages-are-public": frozenset({"status", "body"}),
    "too-many": frozenset({"status", "retry-after"}),
    "hidden": frozenset({"status"}),
    "source-shown": frozenset({"status"}),
    "which-backend": frozenset(),
    "by-ending": frozenset({"access-control-allow-origin"}),
    "port-in-host": frozenset({"body"}),
}
FIELDS = (
    "cache-control", "strict-transport-security", "x-frame-options", "x-content-type-options",
    "referrer-policy", "permissions-policy", "content-security-policy", "content-encoding",
    "access-control-allow-origin", "x-request-host", "content-range", "retry-after",
    "x-powered-by",
)  # fmt: skip
OWN = b"[ours]"  # stands in every page of the fixtures: an error page that has it is the site's


@dataclass(frozen=True, slots=True)
class Ask:
    method: str
    url: str
    fields: Mapping[str, str]
    differences: frozenset[str]
    expected: str = ""  # where the other program cannot be had: status, and Location or a text

    def __str__(self) -> str:
        more = "".join(f" {name}: {value}" for name, value in self.fields.items())
        return f"{self.method} {self.url}{more}"


@dataclass(slots=True)
class Answer:
    status: int
    fields: dict[str, str]
    body: bytes
    location: str

    def shown(self) -> str:
        kept = {name: value for name, value in self.fields.items() if name in FIELDS}
        return f"{self.status} {self.location} {kept} {self.body[:300]!r}"


@dataclass(slots=True)
class Case:
    path: Path
    asks: list[Ask]
    left: list[str] = field(default_factory=list)  # what the case says that is left out
    text: str = ""

    @property
    def name(self) -> str:
        return self.path.stem


def cases(folder: Path) -> list[Case]:
    found = []
    for path in sorted(folder.iterdir()):
        text = path.read_text()
        asks = [_ask(line[3:]) for line in text.splitlines() if line.startswith("#? ")]
        left = [line[3:].strip() for line in text.splitlines() if line.startswith("#- ")]
        found.append(Case(path, asks, left, text))
    return found


def _ask(line: str) -> Ask:
    line, _arrow, expected = line.partition(" => ")
    line, *named = re.split(r" !(?=[a-z-]+(?: |$))", line)
    method, url, fields = (*line.split(" ", 2), "")[:3]
    pairs = dict(re.split(r": ?", one.strip(), maxsplit=1) for one in fields.split("; ") if one)
    return Ask(method, url, pairs, frozenset(one.strip() for one in named), expected)


# The world in which both serve


class Echo(Application):
    """A backend that tells what it was asked."""

    server_version = "echo"

    def _any(self) -> None:
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.end_headers()
            self.close_connection = True
            return
        length = int(self.headers.get("Content-Length") or 0)
        said = {
            "method": self.command,
            "target": self.path,
            "host": self.headers.get("Host"),
            "service": self.headers.get("X-Service"),
            "authorization": self.headers.get("Authorization"),
            "scheme": self.headers.get("X-Forwarded-Proto", "https"),
            "body": self.rfile.read(length).decode(),
            "app": getattr(self, "port", ""),
        }
        status = 404 if self.path.endswith("/missing") else 500 if "broken" in self.path else 200
        self.answers(json.dumps(said).encode(), status, Content_Type="application/json",
                     X_Powered_By="echo")  # fmt: skip

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _any

    def answers(self, body: bytes = b"", status: int = 200, **fields: str) -> None:
        if self.command == "HEAD":
            self.send_response(status)
            for name, value in fields.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            return
        Application.answers(self, body, status, **fields)


@dataclass(slots=True)
class World:
    """``folder`` holds /srv, and the certificates and password files of the configurations."""

    folder: Path
    netns: Netns

    def place(self, text: str) -> str:
        """A configuration's text with its folders where they are in this test."""
        return re.sub(
            r"(?<![\w.])/(?=srv/|etc/ssl/private/|etc/apache2/htpasswd)", f"{self.folder}/", text
        )

    def write(self, case: Case, folder: Path) -> None:
        (folder / case.path.name).write_text(self.place(case.text))


@contextlib.contextmanager
def world(folder: Path, netns: Netns) -> Iterator[World]:
    made = World(folder, netns)
    _files(folder / "srv")
    _certificates(folder)
    with contextlib.ExitStack() as stack:
        with netns.entered():
            for port in ("3000", "3001"):
                app = type(f"Echo{port}", (Echo,), {"port": port})
                stack.enter_context(serving(app, port=int(port)))
        (folder / "srv/run").mkdir()
        stack.enter_context(php_fpm(folder / "srv/run"))
        stack.enter_context(_on_socket(folder / "srv/run/app.sock"))
        yield made


class _OnSocket(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextlib.contextmanager
def _on_socket(path: Path) -> Iterator[None]:
    server = _OnSocket(str(path), Echo)
    os.chmod(path, 0o666)
    with running(server):
        yield


def _files(srv: Path) -> None:
    def put(name: str, text: str) -> None:
        path = srv / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    for name in ("index.html", "about.html", "docs/index.html", "articles/a"):
        put(f"site/{name}", f"<p>[ours] {name}\n")
    put("site/css/site.css", "body { color: #333 }\n" * 10)
    put("site/img/logo.svg", "<svg xmlns='http://www.w3.org/2000/svg'/>\n")
    put("site/feed.xml", "<feed/>\n")
    put("site/favicon.ico", "icon")
    put("site/.htpasswd", "alice:secret")
    put("spa/index.html", "<div id=app>[ours]</div>\n")
    put("spa/assets/app.js", "start()\n")
    for name in ("index.html", "admin/index.html", "office/index.html", "banned/index.html",
                 "home/index.html", "open/note.txt"):  # fmt: skip
        put(f"private/{name}", f"<p>[ours] {name}\n")
    put("downloads/readme.txt", "read me\n")
    put("downloads/files/a.bin", "abcdefgh")
    put("media/b.bin", "ijklmnop")
    for name in ("index.html", "404.html", "50x.html", "502.html"):
        put(f"errors/{name}", f"<p>[ours] {name}\n")
    put("compress/big.json", json.dumps([{"number": n, "word": "again"} for n in range(500)]))
    put("compress/small.txt", "short\n")
    put("socket/static/app.js", "started()\n")
    script = (
        "<?php header('Content-Type: text/plain'); $s = $_SERVER; echo $s['REQUEST_METHOD'], ' ',"
        "$s['REQUEST_URI'], ' ', $s['SCRIPT_NAME'], ' ', $s['QUERY_STRING'], ' ', $s['HTTP_HOST'],"
        "' ', $s['HTTPS'] ?? '', ' ', $s['APP_ENV'] ?? '', ' ', file_get_contents('php://input');\n"
    )
    for name in ("php/index.php", "php/wp-login.php", "php/wp-admin/index.php",
                 "symfony/public/index.php"):  # fmt: skip
        put(name, script)
    put("php/wp-content/uploads/a.jpg", "image")
    put("php/wp-content/uploads/evil.php", "<?php echo 'run';")
    put("php/wp-content/style.css", "p {}\n")
    put("symfony/public/style.css", "p {}\n")
    put("cors/fonts/a.woff2", "font")


def _certificates(folder: Path) -> None:
    ca = trustme.CA()
    private = folder / "etc/ssl/private"
    private.mkdir(parents=True)
    for name, *names in (
        ("own", "own-certificate.test", "*.own-certificate.test"),
        ("wild", "*.wild.test"),
        ("any", "any.test"),
    ):
        made = ca.issue_cert(*names)
        chain = b"".join(one.bytes() for one in made.cert_chain_pems)
        (private / f"{name}.pem").write_bytes(chain)
        made.private_key_pem.write_to_path(private / f"{name}.key")
    # Where certbot keeps certificates, which the import leaves to us.
    live = folder / "etc/letsencrypt/live/any.test"
    live.mkdir(parents=True)
    shutil.copy(private / "any.pem", live / "fullchain.pem")
    shutil.copy(private / "any.key", live / "privkey.pem")
    os.chmod(private, 0o755)


# Asking


# Whose certificate it is, is the matter of other tests; a name of nobody is served by nobody.
_ANY_CERTIFICATE = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_ANY_CERTIFICATE.check_hostname = False
_ANY_CERTIFICATE.verify_mode = ssl.CERT_NONE


def ask(netns: Netns, one: Ask) -> Answer:
    parts = urlsplit(one.url)
    secure = parts.scheme == "https"
    host = parts.hostname or ""
    port = parts.port or (443 if secure else 80)
    with netns.entered():
        sock: socket.socket = socket.create_connection(("127.0.0.1", port), 20)
    with contextlib.ExitStack() as stack:
        if secure:
            sock = _ANY_CERTIFICATE.wrap_socket(sock, server_hostname=host)
        stack.callback(sock.close)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        upgrade = "Upgrade" in one.fields
        lines = [f"{one.method} {target} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in one.fields.items()]
        if upgrade:
            lines += ["Connection: Upgrade", "Sec-WebSocket-Version: 13",
                      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]  # fmt: skip
        else:
            lines += ["Connection: close"]
        body = b"name=value" if one.method in ("POST", "PUT") else b""
        if body:
            lines += [f"Content-Length: {len(body)}"]
        sock.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        heard = stack.enter_context(http.client.HTTPResponse(sock, method=one.method))
        heard.begin()
        fields = {name.lower(): value for name, value in heard.getheaders()}
        for name in FIELDS:
            several = heard.headers.get_all(name)
            if several and len(several) > 1:
                fields[name] = ", ".join(several)
        content = b"" if heard.status == 101 else heard.read()
        if fields.get("content-encoding") == "gzip" and content:
            content = gzip.decompress(content)
        location = urljoin(one.url, fields["location"]) if "location" in fields else ""
        return Answer(heard.status, fields, content, location)


def ask_until(netns: Netns, one: Ask, within: float = 60.0) -> Answer:
    """Ask again while the server has no certificate for the name: Caddy makes its own meanwhile."""
    deadline = time.monotonic() + within
    while True:
        try:
            return ask(netns, one)
        except ssl.SSLError:
            if time.monotonic() > deadline:
                raise
            # What another program has done has no event that could be awaited here.
            time.sleep(0.05)


def is_as_expected(one: Ask, answer: Answer) -> bool:
    """Whether the answer is what the case says: a status, and beside it where it leads to, one
    field, or a text of its body."""
    status, _blank, more = one.expected.partition(" ")
    if str(answer.status) != status:
        return False
    if status.startswith("3"):
        return answer.location == more
    field_name, colon, value = more.partition(": ")
    if colon and not more.startswith('"'):
        return answer.fields.get(field_name) == value
    return more in answer.body.decode()


def differences(one: Ask, theirs: Answer, ours: Answer) -> set[str]:
    """In what two answers to one request differ."""
    any_backend = "which-backend" in one.differences
    found = set()
    if theirs.status != ours.status:
        found.add("status")
    if _plain(theirs.location) != _plain(ours.location):
        found.add("location")
    if theirs.status < 300 or OWN in theirs.body + ours.body:
        if _comparable(theirs.body, any_backend) != _comparable(ours.body, any_backend):
            found.add("body")
        if _media_type(theirs) != _media_type(ours):
            found.add("content-type")
    for name in FIELDS:
        if theirs.fields.get(name, "") != ours.fields.get(name, ""):
            found.add(name)
    return found


def _plain(location: str) -> str:
    """Hosts without an ending "/" lead to the same place."""
    return location.removesuffix("/") if urlsplit(location).path in ("", "/") else location


def _comparable(body: bytes, any_backend: bool) -> bytes:
    return re.sub(rb', "app": "\d*"', b"", body) if any_backend else body


def _media_type(answer: Answer) -> str:
    kind = answer.fields.get("content-type", "").partition(";")[0]
    same = {"text/javascript": "application/javascript", "text/xml": "application/xml",
            "image/vnd.microsoft.icon": "image/x-icon", "font/woff2": "application/octet-stream"}  # fmt: skip
    return same.get(kind, kind)
