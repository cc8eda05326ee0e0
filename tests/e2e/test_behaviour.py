"""Ports 80 and 443 as interface.md has them, one running server for all of it."""

from __future__ import annotations

import json
import shutil
import signal
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.http.client import Talk, http, https
from support.program.ports import free_ports
from support.program.server import Server, treehouse


@dataclass
class Running:
    server: Server
    http_port: int
    https_port: int
    ca: Path

    def plain(self) -> Talk:
        return http(self.http_port)

    def secure(self, name: str) -> Talk:
        return https(self.https_port, name, self.ca)


# The last without the accelerated lane, which the first has where it is built.
MODES = {"lane": [], "h11 alone": ["--no-fast-lane"], "asyncio's loop": ["--no-uvloop"]}
ENVIRONMENTS = {"asyncio's loop": {"TREEHOUSE_PURE_PYTHON": "1"}}


@pytest.fixture(scope="module", params=MODES)
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    folder.chmod(0o755)
    root = folder / "www"
    (root / "sub").mkdir(parents=True)
    (root / "index.html").write_text("index\n")
    (root / "sub" / "index.html").write_text("sub\n")
    (root / "text.txt").write_text("text\n")
    (root / ".hidden").write_text("hidden\n")
    (root / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n")
    (root / "docs").symlink_to("https://docs.example/")
    (root / "out.txt").symlink_to("/etc/passwd")
    one, other = free_ports(2)
    config = folder / "config.yaml"
    config.write_text(
        f"""
listen: {{http: ["127.0.0.1:{one}"], https: ["127.0.0.1:{other}"]}}
workers: 2
state: {folder / "state"}
limits: {{header_timeout: 1s, body_size: 1MiB}}
sites:
  - {{names: [a.test, www.a.test], root: {root}}}
  - {{names: [b.test], redirect: "https://a.test{{path}}"}}
  - names: [c.test]
    routes:
      - {{path: /static/*, root: {root}}}
      - {{path: /old/*, redirect: "/new/{{rest}}", status: 301}}
      - {{path: /down/*, backend: "http://127.0.0.1:1"}}
"""
    )
    try:
        options, environment = MODES[request.param], ENVIRONMENTS.get(request.param)
        with Server(["--config", str(config), *options], folder, environment=environment) as server:
            for name in ("a.test", "b.test", "c.test"):
                server.await_log(f"{name}: certificate obtained")
            yield Running(server, one, other, folder / "state/internal-ca/root.pem")
    finally:
        shutil.rmtree(folder)


# Port 80


def test_a_known_name_is_sent_to_https_with_path_and_query(running: Running) -> None:
    for method in ("GET", "HEAD", "POST"):
        answer = running.plain().asks("/a%20b?c=d&e", "A.test", method)
        assert answer.status == 308
        assert answer["location"] == f"https://a.test:{running.https_port}/a%20b?c=d&e"


def test_an_old_client_gets_a_redirect_that_it_knows(running: Running) -> None:
    for method, status in (("GET", 301), ("HEAD", 301), ("POST", 308)):
        with running.plain() as talk:
            talk.says(f"{method} / HTTP/1.0\r\nHost: a.test\r\n\r\n".encode())
            assert talk.hears(method).status == status


def test_an_unknown_host_gets_404_and_no_redirect(running: Running) -> None:
    for host in ("nobody.test", "127.0.0.1", "x.a.test"):
        answer = running.plain().asks("/", host)
        assert answer.status == 404
        assert answer.get("location") is None


def test_an_unknown_token_is_404_and_not_reflected(running: Running) -> None:
    answer = running.plain().asks("/.well-known/acme-challenge/s3cr3t", "a.test")
    assert answer.status == 404
    assert b"s3cr3t" not in answer.body


# Port 443


def test_each_name_is_served_with_its_certificate(running: Running) -> None:
    assert running.secure("a.test").asks("/", "a.test").body == b"index\n"
    assert running.secure("www.a.test").asks("/", "www.a.test").body == b"index\n"
    assert running.secure("b.test").asks("/x?y", "b.test")["location"] == "https://a.test/x?y"


def test_unknown_sni_is_refused_in_the_handshake(running: Running) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized"):
        https(running.https_port, "nobody.test", None)


def test_a_host_of_another_certificate_is_misdirected(running: Running) -> None:
    with running.secure("a.test") as talk:
        assert talk.asks("/", "www.a.test").status == 200
        assert talk.asks("/", "b.test").status == 421
        assert talk.asks("/", "nobody.test").status == 421
        assert talk.asks("/", "a.test").status == 200


def test_plain_http_on_443_is_told_so(running: Running) -> None:
    answer = http(running.https_port).asks("/", "a.test")
    assert answer.status == 400
    assert b"HTTPS" in answer.body


def test_alpn_is_strict(running: Running) -> None:
    context = ssl.create_default_context(cafile=str(running.ca))
    for offered, chosen in ((["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "h2"), (["h2"], "h2")):
        context.set_alpn_protocols(offered)
        with https(running.https_port, "a.test", None, using=context) as talk:
            assert isinstance(talk.sock, ssl.SSLSocket)
            assert talk.sock.selected_alpn_protocol() == chosen
    with running.secure("a.test") as talk:  # offers none
        assert talk.asks("/", "a.test").status == 200
    for others in (["h2c"], ["acme-tls/1"], ["h3", "spdy/3"], ["http/1.0"]):
        context.set_alpn_protocols(others)
        with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
            https(running.https_port, "a.test", None, using=context)


BAD = {
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n",
    "CL and TE": b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "obs-fold": b"GET / HTTP/1.1\r\nHost: a.test\r\nX: a\r\n b\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: a.test\n\n",
    "NUL": b"GET / HTTP/1.1\r\nHost: a.test\r\nX: \0\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nHost : a.test\r\n\r\n",
    "unknown coding": b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip\r\n\r\n",
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("port", ["plain", "secure"])
def test_what_is_malformed_is_400_and_close(running: Running, case: str, port: str) -> None:
    with running.plain() if port == "plain" else running.secure("a.test") as talk:
        talk.says(BAD[case])
        answer = talk.hears()
        assert answer.status == 400
        assert answer["connection"] == "close"
        assert talk.rest() == b""


def test_limits_have_their_statuses(running: Running) -> None:
    def status(data: bytes) -> int:
        with running.secure("a.test") as talk:
            talk.says(data)
            return talk.hears().status

    head = b"GET / HTTP/1.1\r\nHost: a.test\r\n"
    assert status(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a.test\r\n\r\n") == 414
    assert status(head + b"X: " + b"a" * 40_000 + b"\r\n\r\n") == 431
    assert status(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2000000\r\n\r\n") == 413
    assert status(head) == 408  # and nothing more


def test_a_backend_that_is_down_is_502(running: Running) -> None:
    assert running.secure("c.test").asks("/down/x", "c.test").status == 502
    line = running.server.await_access(status=502, error="backend_refused")
    assert line["backend"].startswith("http://127.0.0.1:")


def test_routes(running: Running) -> None:
    with running.secure("c.test") as talk:
        assert talk.asks("/static/text.txt", "c.test").body == b"text\n"
        assert talk.asks("/static/../old/x", "c.test").status == 400
        answer = talk.asks("/old/a/b?c", "c.test")
        assert (answer.status, answer["location"]) == (301, "/new/a/b?c")
        assert talk.asks("/%6fld/a", "c.test")["location"] == "/new/a"
        assert talk.asks("/nowhere", "c.test").status == 404


# Files


FORBIDDEN = (
    "/.hidden", "/key.pem", "/out.txt", "/%2e%2e/%2e%2e/etc/passwd", "/../etc/passwd",
    "/..%2fetc/passwd", "/sub/..%5c..%5cetc/passwd", "/%00", "/text.txt%00.html", "/sub\\..\\text.txt",
    "/%c0%ae%c0%ae/etc/passwd", "/.%2e/etc/passwd", "/nothing", "/text.txt/",
)  # fmt: skip


@pytest.mark.parametrize("target", FORBIDDEN)
def test_what_is_not_to_be_sent_is_not_sent(running: Running, target: str) -> None:
    answer = running.secure("a.test").asks(target, "a.test")
    assert answer.status in (400, 404)
    assert b"root:" not in answer.body
    assert b"PRIVATE" not in answer.body


def test_directories_and_links(running: Running) -> None:
    with running.secure("a.test") as talk:
        assert talk.asks("/sub/", "a.test").body == b"sub\n"
        answer = talk.asks("/sub?x=1", "a.test")
        assert (answer.status, answer["location"]) == (308, "/sub/?x=1")
        assert talk.asks("//sub", "a.test")["location"] == "/sub/"
        assert talk.asks("/docs", "a.test")["location"] == "https://docs.example/"
        answer = talk.asks("/", "a.test", "POST")
        assert (answer.status, answer["allow"]) == (405, "GET, HEAD")


def test_conditions_and_ranges(running: Running) -> None:
    with running.secure("a.test") as talk:
        full = talk.asks("/text.txt", "a.test")
        assert full["content-type"] == "text/plain; charset=utf-8"
        etag = full["etag"]
        assert talk.asks("/text.txt", "a.test", fields=f"If-None-Match: {etag}\r\n").status == 304
        modified = full["last-modified"]
        assert (
            talk.asks("/text.txt", "a.test", fields=f"If-Modified-Since: {modified}\r\n").status
            == 304
        )
        part = talk.asks("/text.txt", "a.test", fields="Range: bytes=1-2\r\n")
        assert (part.status, part.body, part["content-range"]) == (206, b"ex", "bytes 1-2/5")
        assert talk.asks("/text.txt", "a.test", fields="Range: bytes=9-\r\n").status == 416
        assert talk.asks("/text.txt", "a.test", "HEAD")["content-length"] == "5"


# Logs


def test_each_request_has_its_line_and_nothing_can_be_smuggled_into_it(running: Running) -> None:
    with running.secure("a.test") as talk:
        answer = talk.asks('/"%0d%0a|\x7f'.replace("\x7f", "~"), "a.test")
        assert answer.status == 404
    line = running.server.await_access(status=404, target='/"%0d%0a|~')
    for key in (
        "time",
        "peer",
        "host",
        "method",
        "bytes",
        "duration_ms",
        "handler",
        "backend",
        "request_id",
        "tls",
        "error",
    ):
        assert key in line
    assert line["tls"] == "TLSv1.3"
    assert line["error"] == "not_found"
    assert line["request_id"]
    assert all(byte == 10 or 32 <= byte < 127 for one in running.server.raw for byte in one)


def test_the_status_document(running: Running) -> None:
    done = treehouse("status", "--json", "--state", str(running.ca.parent.parent))
    document = json.loads(done.stdout)
    assert document["pid"] == running.server.pid
    assert (document["uid"], document["gid"]) == (65534, 65534)
    assert document["generation"] == 1
    assert len(document["workers"]) == 2
    assert {one["state"] for one in document["workers"]} == {"serving"}
    assert {one["kind"] for one in document["listeners"]} == {"http", "https"}
    certificate = next(one for one in document["certificates"] if "a.test" in one["names"])
    assert certificate["source"] == "internal"
    assert certificate["served"] is True
    assert certificate["serial"]
    (upstream,) = document["upstreams"]
    assert upstream["url"] == "http://127.0.0.1:1"
    for key in ("healthy", "in_flight", "failures"):
        assert key in upstream


def test_hsts_is_sent_and_warned_of() -> None:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    folder.chmod(0o755)
    one, other = free_ports(2)
    config = folder / "config.yaml"
    config.write_text(
        f"""
listen: {{http: ["127.0.0.1:{one}"], https: ["127.0.0.1:{other}"]}}
workers: 1
state: {folder / "state"}
tls: {{hsts: {{max_age: 60d}}}}
sites: [{{names: [a.test], redirect: "https://b.test{{path}}"}}]
"""
    )
    try:
        with Server(["--config", str(config)], folder) as server:
            server.await_log("tls.hsts: whoever comes now .* for [0-9dw]+, also when")
            server.await_log("a.test: certificate obtained")
            answer = https(other, "a.test", folder / "state/internal-ca/root.pem").asks(
                "/", "a.test"
            )
            assert answer["strict-transport-security"] == "max-age=5184000"
            assert http(one).asks("/", "a.test").get("strict-transport-security") is None
            server.signal(signal.SIGHUP)
            server.await_log("generation 1 has finished")
            assert sum("tls.hsts" in line["message"] for line in server.log) == 1
    finally:
        shutil.rmtree(folder)


def test_the_log_has_no_traceback(running: Running) -> None:
    assert "Traceback" not in running.server.text()
