"""Who gets in at the admin listener of the real program: by password, by certificate, by a login
service; and what a page of another site cannot have done."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from proxy.sites.passwords import hashed
from support.http.client import Answer, Talk, context, http, https
from support.http.login_services import LoginServices
from support.program.ports import free_ports
from support.program.server import Server, treehouse

pytestmark = pytest.mark.program

RIGHT = "Authorization: Basic " + base64.b64encode(b"alice:correct horse").decode() + "\r\n"
WRONG = "Authorization: Basic " + base64.b64encode(b"alice:wrong").decode() + "\r\n"


def configuration(folder: Path, root: Path, admin: str) -> tuple[int, int]:
    """Writes it; returns the ports of HTTPS and of the admin listener."""
    one, two, three = free_ports(3)
    (folder / "config.yaml").write_text(
        f"""
listen: {{http: ["127.0.0.1:{one}"], https: ["127.0.0.1:{two}"]}}
admin: {{listen: "127.0.0.1:{three}", {admin}}}
workers: 1
state: {folder / "state"}
sites: [{{names: [a.test], root: {root}}}]
"""
    )
    return two, three


def started(folder: Path) -> Server:
    return Server(["--config", str(folder / "config.yaml")], folder)


@pytest.fixture
def clients(folder: Path) -> tuple[Path, Path]:
    """The CA's file, and somebody's certificate and key."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "staff.pem"))
    ca.issue_cert("ada@example.org").private_key_and_cert_chain_pem.write_to_path(
        str(folder / "ada.pem")
    )
    return folder / "staff.pem", folder / "ada.pem"


def test_by_password(folder: Path, root: Path) -> None:
    line = hashed("correct horse")
    _, port = configuration(folder, root, f'basic_auth: {{users: {{alice: "{line}"}}}}')
    with started(folder):
        for path in ("/", "/status", "/metrics", "/events", "/page.js", "/api/site?name=a.test"):
            assert http(port).asks(path, "127.0.0.1").status == 401, path
            assert http(port).asks(path, "127.0.0.1", fields=WRONG).status == 401
        assert http(port).asks("/status", "127.0.0.1", fields=RIGHT).status == 200
        assert http(port).asks("/", "127.0.0.1", fields=RIGHT).status == 200
        # A password is no way around the rest.
        assert http(port).asks("/", "evil.example", fields=RIGHT).status == 421
        crossing = RIGHT + "Sec-Fetch-Site: cross-site\r\n"
        assert http(port).asks("/status", "127.0.0.1", fields=crossing).status == 403


def test_by_certificate(folder: Path, root: Path, clients: tuple[Path, Path]) -> None:
    staff, ada = clients
    public, port = configuration(
        folder, root, f"names: [admin.test], client_auth: {{ca_file: {staff}}}"
    )
    ca = folder / "state/internal-ca/root.pem"
    with started(folder) as server:
        server.await_log("a.test: certificate obtained")
        server.await_log("admin.test: certificate obtained")
        member = context(ca)
        member.load_cert_chain(ada)
        with https(port, "admin.test", None, using=member) as talk:
            assert talk.asks("/status", "admin.test").status == 200
            assert talk.asks("/", "127.0.0.1").status == 421
        with pytest.raises((ssl.SSLError, ConnectionError)):
            https(port, "admin.test", ca).asks("/status", "admin.test")
        # The handshake of a site that asks for no certificate opens nothing here.
        assert https(port, "a.test", ca).asks("/status", "admin.test").status == 421
        assert https(port, "a.test", ca).asks("/status", "a.test").status == 421
        # On the public port the name has nothing, whoever comes.
        with https(public, "admin.test", None, using=member) as talk:
            assert talk.asks("/status", "admin.test").status == 404
        # In the clear there is nothing.
        with http(port) as talk:
            talk.says(b"GET /status HTTP/1.1\r\nHost: admin.test\r\n\r\n")
            assert talk.hears().status == 400


@pytest.fixture
def services() -> Iterator[LoginServices]:
    with LoginServices() as found:
        yield found


def test_by_a_login_service(folder: Path, root: Path, services: LoginServices) -> None:
    _, port = configuration(
        folder,
        root,
        "names: [admin.test], forward_auth: {url: "
        f'"http://127.0.0.1:{services.port}/api/authz/forward-auth", copy: [Remote-User]}}',
    )
    ca = folder / "state/internal-ca/root.pem"
    with started(folder) as server:
        server.await_log("admin.test: certificate obtained")
        with https(port, "admin.test", ca) as talk:
            assert talk.asks("/status", "admin.test").status in (302, 303, 401)
            session = "Cookie: session=alice\r\n"
            assert talk.asks("/status", "admin.test", fields=session).status == 200


def _act(port: int, token: str, document: object, *fields: str) -> Answer:
    lines = (
        f"X-Treehouse-Token: {token}",
        "Content-Type: application/json",
        f"Origin: http://127.0.0.1:{port}",
        *fields,
    )
    given = "".join(f"{line}\r\n" for line in lines)
    body = json.dumps(document).encode()
    host = f"127.0.0.1:{port}"
    return http(port).asks("/act", host, "POST", body=body, fields=given)


def _first_event(port: int) -> dict[str, object]:
    with http(port) as talk:
        talk.says(b"GET /events HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        told = b""
        while b"\n\n" not in told.partition(b"data: ")[2]:
            told += talk.sock.recv(65536)
    found: dict[str, object] = json.loads(told.partition(b"data: ")[2].partition(b"\n\n")[0])
    return found


def test_what_may_be_done(folder: Path, root: Path) -> None:
    _, port = configuration(folder, root, "actions: true")
    with started(folder) as server:
        server.await_log("certificate obtained")
        token = str(_first_event(port)["token"])
        told = _act(port, token, {"action": "reload", "name": ""})
        assert json.loads(told.body) == {"ok": True, "generation": 2, "notices": []}
        told = _act(port, token, {"action": "renew", "name": "a.test"})
        assert json.loads(told.body)["ok"], told.body
        for document, status in (
            ({"action": "stop", "name": ""}, 200),
            ({"action": "renew", "name": "nobody.test"}, 200),
            ({"action": "drain", "name": "http://10.0.0.1:80"}, 200),
            ({"action": ["reload"], "name": ""}, 400),
            ({"action": "reload"}, 400),
            ([], 400),
            ("reload", 400),
        ):
            told = _act(port, token, document)
            assert (told.status, json.loads(told.body)["ok"]) == (status, False), document
        told = _act(port, "0" * 64, {"action": "reload", "name": ""})
        assert told.status == 403
        assert told.body.startswith(b"403 The field X-Treehouse-Token is not this server's")
        assert http(port).asks("/act", "127.0.0.1").status == 405
        large = _act(port, token, {"action": "reload", "name": "x" * 40000})
        assert large.status == 413
        assert server.status(folder / "state")["generation"] == 2
        # The token outlives the generation that gave it.
        assert _first_event(port)["token"] == token


def test_only_looking(folder: Path, root: Path) -> None:
    _, port = configuration(folder, root, "actions: false")
    with started(folder):
        assert _first_event(port)["token"] is None
        assert _act(port, "None", {"action": "reload", "name": ""}).status == 403
        answer = http(port).asks("/", "127.0.0.1")
        policy = answer["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer["x-content-type-options"] == "nosniff"
        # Also of what is refused.
        refused = http(port).asks("/nothing", "127.0.0.1")
        assert refused.status == 404
        assert refused["content-security-policy"] == policy
        for bad in ("/api/site", "/api/site?name=%ff", "/api/find?name=" + "x" * 3000):
            assert http(port).asks(bad, "127.0.0.1").status == 200, bad
        told = http(port).asks("/api/explain?url=https://a.test/&fields=A:b%0d%0aC", "127.0.0.1")
        assert told.status == 200
        assert http(port).asks("/api/explain?url=http://[", "127.0.0.1").status == 200
        told = http(port).asks("/api/explain?url=https://a.test/", "127.0.0.1")
        assert json.loads(told.body)["rows"][-1]["text"].startswith("200, content-type: text/html")
        plain = http(port).asks("/metrics", "127.0.0.1")
        assert plain["content-type"].startswith("text/plain; version=0.0.4")
        accept = "Accept: application/openmetrics-text;version=x, text/plain;q=0.1\r\n"
        answer = http(port).asks("/metrics", "127.0.0.1", fields=accept)
        assert answer["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert answer.body.endswith(b"# EOF\n")


def test_too_many_streams(folder: Path, root: Path) -> None:
    _, port = configuration(folder, root, "actions: false")
    with started(folder):
        open_ones: list[Talk] = []
        try:
            for _ in range(16):
                talk = http(port)
                open_ones.append(talk)
                talk.says(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                assert talk.sock.recv(15) == b"HTTP/1.1 200 OK"
        finally:
            for talk in open_ones:
                talk.sock.close()
        assert http(port).asks("/status", "127.0.0.1").status == 200


@pytest.mark.parametrize(
    ("admin", "said"),
    [
        ('listen: "0.0.0.0:2020"', "would be open to every network"),
        ('listen: ":2020"', "would be open to every network"),
        ('listen: "10.1.2.3:2020"', "give it basic_auth, forward_auth or client_auth"),
        (
            'listen: "127.0.0.1:2020", forward_auth: {url: "http://127.0.0.1:9/x"}',
            "add names: [admin.example.org]",
        ),
        ('listen: "127.0.0.1:2020", names: [a.test]', "is a site's name as well"),
        ('listen: "127.0.0.1:2020", names: ["*.b.test"]', "write them out"),
        ('listen: "127.0.0.1:2020", action: true', "actions"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, root: Path, admin: str, said: str) -> None:
    path = folder / "config.yaml"
    path.write_text(
        f"state: {folder / 'state'}\nadmin: {{{admin}}}\nsites: [{{names: [a.test], root: {root}}}]\n"
    )
    done = treehouse("check", "--config", str(path))
    assert done.returncode == 2
    assert said in done.stderr
    assert f"{path}:2:" in done.stderr
