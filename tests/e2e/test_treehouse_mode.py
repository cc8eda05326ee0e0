"""Treehouse mode, sentence by sentence: what interface.md promises of ``--sites DIR``, with the real
program, real links and real backends."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from support.http.client import Answer, http, https
from support.program.server import Server, treehouse


class Backend(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"{self.server.server_name} {self.path}\n".encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "a client"  # one on a unix socket has no address

    def log_message(self, *_: object) -> None:
        pass


class UnixServer(ThreadingHTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        os.chmod(self.server_address, 0o666)  # type: ignore[arg-type]
        self.server_port = 0


@pytest.fixture
def backends(folder: Path) -> Iterator[dict[str, str]]:
    """An address of each kind; the one with TLS is trusted by the environment of the test."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "backend-ca.pem")
    (folder / "backend-ca.pem").chmod(0o644)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    path = folder / "app.sock"
    servers = {
        "plain": ThreadingHTTPServer(("127.0.0.1", 0), Backend),
        "tls": ThreadingHTTPServer(("127.0.0.1", 0), Backend),
        "unix": UnixServer(str(path), Backend),  # type: ignore[arg-type]
    }
    servers["tls"].socket = context.wrap_socket(servers["tls"].socket, server_side=True)
    for name, server in servers.items():
        server.server_name = name
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield {
        "plain": f"http://127.0.0.1:{servers['plain'].server_port}",
        "tls": f"https://localhost:{servers['tls'].server_port}",
        "unix": f"unix:{path}",
    }
    for server in servers.values():
        server.shutdown()
        server.server_close()


@pytest.fixture
def sites(folder: Path) -> Path:
    made = folder / "sites"
    page(made / "a.test", "a")
    return made


def page(root: Path, text: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "index.html").write_text(text + "\n")


def exchange(one: Path, other: Path) -> None:
    """Give each the other's name at once: renameat2(2). Between two renames the server might look."""
    at_fdcwd, rename_exchange = -100, 2
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(at_fdcwd, bytes(one), at_fdcwd, bytes(other), rename_exchange):
        raise OSError(ctypes.get_errno(), f"{one} and {other} are not exchanged")


class Place:
    """A running server, and what it answers."""

    def __init__(self, folder: Path, sites: Path, ports: tuple[int, int]) -> None:
        self.folder, self.ports = folder, ports
        self.ca = folder / "state/internal-ca/root.pem"
        self.options = [
            "--sites", str(sites), "--state", str(folder / "state"), "--bind", "127.0.0.1",
            "--http-port", str(ports[0]), "--https-port", str(ports[1]), "--workers", "1",
        ]  # fmt: skip

    def start(self, **environment: str) -> Server:
        return Server(self.options, self.folder, environment=environment)

    def asks(self, name: str, target: str = "/") -> Answer:
        return https(self.ports[1], name, self.ca).asks(target, name)

    def certified(self, server: Server, *names: str, since: int = 0) -> None:
        for name in names:
            server.await_log(f"(?<![a-z.]){name}: certificate obtained", since=since)


@pytest.fixture
def place(folder: Path, sites: Path, ports: tuple[int, int]) -> Place:
    return Place(folder, sites, ports)


def test_directories_links_and_addresses(
    folder: Path, sites: Path, place: Place, backends: dict[str, str]
) -> None:
    port = place.ports[1]
    page(folder / "elsewhere", "elsewhere")
    links = {
        "www.a.test": "a.test",
        "old.test": "www.a.test",
        "plain.test": backends["plain"],
        "tls.test": backends["tls"],
        "unix.test": backends["unix"],
        "shop.test": str(folder / "elsewhere"),
        ".hidden.test": "a.test",
    }
    for name, target in links.items():
        (sites / name).symlink_to(target)
    (sites / "README").write_text("nobody's site\n")
    with place.start(SSL_CERT_FILE=str(folder / "backend-ca.pem")) as server:
        names = {"a.test", *links} - {".hidden.test"}
        place.certified(server, *names)
        # Each directory is its domain's document root, wherever it lies.
        assert place.asks("a.test").body == b"a\n"
        assert place.asks("shop.test").body == b"elsewhere\n"
        # A domain with no directory gets 404; over TLS there is no certificate to say it with.
        for name in ("b.test", "test", "www.www.a.test", "hidden.test", "README"):
            assert http(place.ports[0]).asks("/", name).status == 404
            with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized"):
                https(port, name, None)
        # A link to another entry redirects there, step by step, path and query kept.
        assert http(place.ports[0]).asks("/x/y?q=1&r", "www.a.test")["location"] == (
            f"https://www.a.test:{port}/x/y?q=1&r"
        )
        for target in ("/", "/x/y%20z?q=%2F&r=1", "/?", "//x", "/a?b?c"):
            answer = place.asks("www.a.test", target)
            assert (answer.status, answer["location"]) == (308, f"https://a.test:{port}{target}")
        assert place.asks("old.test", "/p?q")["location"] == f"https://www.a.test:{port}/p?q"
        # One to an address is a proxied site.
        for kind in ("plain", "tls", "unix"):
            answer = place.asks(f"{kind}.test", "/path?query")
            assert (answer.status, answer.body) == (200, f"{kind} /path?query\n".encode()), kind
        server.await_certificates(folder / "state", names)


def test_links_inside_a_document_root(folder: Path, sites: Path, place: Place) -> None:
    root = sites / "a.test"
    (root / "docs").mkdir()
    (root / "out").symlink_to("https://docs.example/page?x=1#y")
    (root / "docs" / "plain").symlink_to("http://other.example/")
    (root / "app").symlink_to("unix:/run/app.sock")
    (root / "split").symlink_to("https://x.example/\r\nX: y")
    (root / ".hidden").symlink_to("https://x.example/")
    (root / "again").symlink_to("out")
    (folder / "secret").write_text("secret\n")
    (root / "outside").symlink_to(folder / "secret")
    (root / "inside").symlink_to("index.html")
    with place.start() as server:
        place.certified(server, "a.test")
        answer = place.asks("a.test", "/out?ignored")
        assert (answer.status, answer["location"]) == (302, "https://docs.example/page?x=1#y")
        assert place.asks("a.test", "/docs/plain")["location"] == "http://other.example/"
        assert place.asks("a.test", "/docs/plain/")["location"] == "http://other.example/"
        assert place.asks("a.test", "/inside").body == b"a\n"
        for target in ("/app", "/split", "/.hidden", "/outside", "/out/below"):
            assert place.asks("a.test", target).status == 404, target
        # What lies in a document root needs nobody's notice.
        (root / "new").symlink_to("https://new.example/")
        assert place.asks("a.test", "/new")["location"] == "https://new.example/"


def test_an_entry_that_is_no_site_is_left_out_and_keeps_nobody_from_being_served(
    folder: Path, sites: Path, place: Place
) -> None:
    (sites / "loop.test").symlink_to("loop.test")
    (sites / "lost.test").symlink_to("nobody.test")
    (sites / "not_a_domain").mkdir()
    (sites / "bad.test").symlink_to("http://no host:99999")
    (sites / "A.test").mkdir()  # the same domain once more
    done = treehouse("check", *place.options)
    assert done.returncode == 0
    assert "loop.test: left out: the link leads back to itself" in done.stderr
    assert 'left out: there is no "nobody.test" here' in done.stderr
    for name in ("not_a_domain", "bad.test", "A.test"):
        assert f"{name}: left out: " in done.stderr
    with place.start() as server:
        server.await_log("not_a_domain: left out: ")
        place.certified(server, "a.test")
        (sites / "nonsense entry").mkdir()
        page(sites / "b.test", "b")
        server.await_log("nonsense entry: left out: ")
        place.certified(server, "b.test")
        assert place.asks("b.test").body == b"b\n"
        assert place.asks("a.test").status == 200
        # A link that leads somewhere by now is a site.
        page(sites / "nobody.test", "nobody")
        place.certified(server, "lost.test", "nobody.test")


def test_nothing_of_a_faulty_tree_takes_effect(folder: Path, sites: Path, place: Place) -> None:
    with place.start() as server:
        place.certified(server, "a.test")
        # A sound entry beside one that the server may not enter waits for that to be mended.
        (sites / "closed.test").mkdir(mode=0o700)
        page(sites / "b.test", "b")
        server.await_log("nothing was changed")
        assert http(place.ports[0]).asks("/", "b.test").status == 404
        assert place.asks("a.test").status == 200
        (sites / "closed.test").rmdir()
        place.certified(server, "b.test")
        assert place.asks("b.test").body == b"b\n"


def test_changes_are_picked_up_without_a_reload(
    folder: Path, sites: Path, place: Place, backends: dict[str, str]
) -> None:
    page(folder / "two", "two")
    (sites / "b.test").symlink_to("a.test")
    with place.start() as server:
        place.certified(server, "a.test", "b.test")
        # A link turned to an address, in one step as a deployment does it.
        (folder / "next").symlink_to(backends["plain"])
        (folder / "next").rename(sites / "b.test")
        server.await_log("generation 1 has finished")
        assert place.asks("b.test", "/x").body == b"plain /x\n"
        # A document root replaced by another directory of its name, in one step.
        exchange(folder / "two", sites / "a.test")
        server.await_log("generation 2 has finished")
        assert place.asks("a.test").body == b"two\n"
        # An entry that goes, renamed, is gone; the new name is there.
        (sites / "a.test").rename(sites / "c.test")
        place.certified(server, "c.test")
        server.await_log("generation 3 has finished")
        assert place.asks("c.test").body == b"two\n"
        assert http(place.ports[0]).asks("/", "a.test").status == 404
        shutil.rmtree(sites / "c.test")
        server.await_log("generation 4 has finished")
        assert http(place.ports[0]).asks("/", "c.test").status == 404


@pytest.mark.parametrize("kind", ["inside", "around", "by a link"])
def test_the_state_directory_stays_out_of_document_roots(
    folder: Path, sites: Path, place: Place, kind: str
) -> None:
    """At the start, and when an entry appears that leads there."""
    state = folder / "state"
    match kind:
        case "inside":
            place.options += ["--state", str(sites / "a.test/state")]
        case "around":
            state.mkdir()
            (state / "www").mkdir()
            (sites / "b.test").symlink_to(state / "www")
        case "by a link":
            state.mkdir()
            (folder / "alias").symlink_to(state)
            (sites / "b.test").symlink_to(folder / "alias")
    done = treehouse("check", *place.options)
    assert done.returncode == 2
    assert "the state directory" in done.stderr
    if kind == "by a link":
        (sites / "b.test").unlink()
        with place.start() as server:
            place.certified(server, "a.test")
            (sites / "b.test").symlink_to(folder / "alias")
            server.await_log("keys would be served|lies in the state directory")
            server.await_log("nothing was changed")


def test_a_bind_mount_does_not_hide_where_the_state_directory_is(
    folder: Path, sites: Path, place: Place
) -> None:
    """The same directory under another name: of the state, of what is above it, of a part of a
    document root."""
    real = folder / "real"
    (real / "state").mkdir(parents=True)
    (sites / "a.test/deep/state").mkdir(parents=True)
    for name in ("b.test", "mounted"):
        (sites / name if "." in name else folder / name).mkdir()
    for source, target, state in (
        (real, sites / "b.test", real / "state"),
        (real / "state", sites / "b.test", real / "state"),
        (sites / "a.test/deep", folder / "mounted", folder / "mounted/state"),
    ):
        options = [*place.options, "--state", str(state)]
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"',
             str(source), str(target), "env", *_command("check", *options)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 2, (source, target, done.stdout, done.stderr)
        assert "the state directory" in done.stderr


def _command(*words: str) -> list[str]:
    import sys

    from support.program.server import REPOSITORY

    return [f"PYTHONPATH={REPOSITORY}", sys.executable, "-m", "proxy", *words]
