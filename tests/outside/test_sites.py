"""What applications, browsers and proxies send, met by the real program: one server for all of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.http.backend_app import Application, serving
from support.http.client import Talk, https
from support.program.ports import free_ports
from support.program.server import Server

pytestmark = pytest.mark.program


class App(Application):
    """Answers with the target that it saw, and with HSTS of its own."""

    def do_GET(self) -> None:
        own = {"Strict_Transport_Security": "max-age=31536000"} if "hsts" in self.path else {}
        self.answers(self.path.encode(), 500 if "fails" in self.path else 200, **own)


def forwarded_for(client: str) -> str:
    return f"X-Forwarded-For: {client}\r\n"


@dataclass
class Running:
    server: Server
    port: int
    ca: Path
    root: Path

    def talk(self, name: str) -> Talk:
        return https(self.port, name, self.ca)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    folder.chmod(0o755)
    root = folder / "www"
    (root / "repo").mkdir(parents=True)
    (root / "repo" / "Packages").write_text("Package: a\n")
    (root / "empty").touch()
    (root / "closed.html").write_text("closed\n")
    (root / "closed.html").chmod(0o600)
    one, other = free_ports(2)
    config = folder / "config.yaml"
    with serving(App) as backend, serving(App) as second:
        config.write_text(
            f"""
listen: {{http: ["127.0.0.1:{one}"], https: ["127.0.0.1:{other}"]}}
workers: 1
state: {folder / "state"}
tls: {{hsts: {{max_age: 60d}}}}
trusted_proxies: [127.0.0.0/8]
sites:
  - names: [files.test]
    root: {root}
  - names: [app.test]
    routes:
      - {{path: /api/*, backend: "http://127.0.0.1:{backend}"}}
      - {{path: /*, backend: "http://127.0.0.1:{backend}"}}
  - names: [two.test]
    routes:
      - {{path: /api/*, backend: "http://127.0.0.1:{backend}"}}
      - {{path: /*, backend: "http://127.0.0.1:{second}"}}
  - names: [old.test]
    redirect: "https://new.example{{path}}"
  - names: [limited.test]
    root: {root}
    rate_limit: [{{rate: 1/h, burst: 3, by: address}}]
  - names: [hashed.test]
    backend: ["http://127.0.0.1:{backend}", "http://127.0.0.1:{second}"]
    balance: hash
    hash_by: address
"""
        )
        try:
            with Server(["--config", str(config)], folder) as server:
                for name in ("files", "app", "two", "old", "limited", "hashed"):
                    server.await_log(f"{name}.test: certificate obtained")
                yield Running(server, other, folder / "state/internal-ca/root.pem", root)
        finally:
            shutil.rmtree(folder)


@pytest.mark.parametrize(
    "target",
    [
        "/api/v4/projects/group%2Fproject",
        "/api/permissions/%2F/guest",
        "/a/../b",
        "/api/./x",
        "/%zz",
    ],
)
def test_a_backend_behind_routes_sees_the_target_as_it_came(running: Running, target: str) -> None:
    answer = running.talk("app.test").asks(target, "app.test")
    assert (answer.status, answer.body) == (200, target.encode())


def test_what_two_backends_would_read_differently_is_refused(running: Running) -> None:
    talk = running.talk("two.test")
    assert talk.asks("/api/group%2Fproject", "two.test").status == 200
    assert talk.asks("/api/..%2Fx", "two.test").status == 400
    assert running.server.await_access(target="/api/..%2Fx")["error"] == "bad_path"


@pytest.mark.parametrize(
    "target", ["/a%2Fb", "/web/https://a.example/b", "/a?", "/a/./b", "/a%5Cb"]
)
def test_a_redirect_keeps_the_target(running: Running, target: str) -> None:
    answer = running.talk("old.test").asks(target, "old.test")
    assert (answer.status, answer["location"]) == (308, f"https://new.example{target}")


@pytest.mark.parametrize(
    ("name", "target", "status"),
    [
        ("app.test", "/hsts", 200),
        ("app.test", "/plain", 200),
        ("app.test", "/hsts/fails", 500),
        ("files.test", "/repo/Packages", 200),
        ("files.test", "/empty", 200),
        ("files.test", "/nothing", 404),
        ("files.test", "/repo", 308),
        ("old.test", "/", 308),
        ("two.test", "/api/..%2Fx", 400),
    ],
)
def test_every_answer_of_a_site_says_hsts_once(
    running: Running, name: str, target: str, status: int
) -> None:
    answer = running.talk(name).asks(target, name)
    assert answer.status == status
    said = [value for field, value in answer.fields if field == "strict-transport-security"]
    assert said == ["max-age=5184000"]


def test_files_are_asked_for_as_package_managers_and_players_do(running: Running) -> None:
    talk = running.talk("files.test")
    assert talk.asks("/repo/./Packages", "files.test").body == b"Package: a\n"
    assert talk.asks("//repo//Packages", "files.test").status == 200
    for asked in ("bytes=0-", "bytes=-1"):
        answer = talk.asks("/empty", "files.test", fields=f"Range: {asked}\r\n")
        assert (answer.status, answer.body) == (200, b"")


def test_what_cannot_be_sent_is_told_with_the_command_that_mends_it(running: Running) -> None:
    talk = running.talk("files.test")
    assert talk.asks("/closed.html", "files.test").status == 404
    running.server.await_log(rf"unreadable: .*chmod a\+r {running.root}/closed\.html")
    assert running.server.await_access(target="/closed.html")["error"] == "unreadable"
    assert talk.asks("/repo/", "files.test").status == 404
    running.server.await_log(rf"no_index: {running.root}/repo/ has no index\.html")
    assert running.server.await_access(target="/repo/")["error"] == "no_index"


def test_behind_a_trusted_proxy_each_client_is_one_of_its_own(running: Running) -> None:
    for number in range(8):
        talk = running.talk("limited.test")
        client = f"203.0.113.{number}"
        answer = talk.asks(f"/repo/Packages?{number}", "limited.test", fields=forwarded_for(client))
        assert answer.status == 200
        line = running.server.await_access(target=f"/repo/Packages?{number}")
        assert line["peer"] == client
    # One client, on one connection and on others, through one proxy and a chain of them.
    same = running.talk("limited.test")
    statuses = [
        same.asks("/repo/Packages", "limited.test", fields=forwarded_for(said)).status
        for said in (
            "203.0.113.99",
            "evil, 203.0.113.99",
            "203.0.113.99, 127.0.0.2",
            "203.0.113.99",
        )
    ]
    assert statuses == [200, 200, 200, 429]


def test_clients_behind_a_trusted_proxy_are_spread_by_their_addresses(running: Running) -> None:
    backends = set()
    for number in range(30):
        talk = running.talk("hashed.test")
        talk.asks(f"/hashed/{number}", "hashed.test", fields=forwarded_for(f"203.0.113.{number}"))
        backends.add(running.server.await_access(target=f"/hashed/{number}")["backend"])
    assert len(backends) == 2
