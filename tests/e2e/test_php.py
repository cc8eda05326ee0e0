"""PHP-FPM behind the real program: scripts, the files beside them, and everything that must not
reach the interpreter. Over HTTP/1.1 with and without the fast parser, and over HTTP/2."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.sites.passwords import hashed
from support.http.client import context
from support.program.php_fpm import PhpFpm, php_fpm, program
from support.program.ports import free_ports
from support.program.server import Server, treehouse

pytestmark = pytest.mark.skipif(not program(), reason="needs php-fpm")

CONFIG = """\
state: {state}
listen: {{http: ['127.0.0.1:{one}'], https: ['127.0.0.1:{two}']}}
acme: {{directory: internal}}
fast_lane: {fast}
workers: 2
sites:
  - names: [a.test]
    root: {root}
    fastcgi: unix:{socket}
    wait_for_backend: 2m
    health: {{path: /ping, interval: 500ms}}
  - names: [strict.test]
    root: {root}
    fastcgi:
      url: unix:{socket}
      front_controller: false
      keep: 1
      params: {{APP_ENV: production}}
  - names: [below.test]
    routes:
      - {{path: /blog/*, root: {root}, fastcgi: 'unix:{socket}'}}
  - names: [staff.test]
    root: {root}
    fastcgi: unix:{socket}
    basic_auth: {{users: {{alice: "{hash}"}}}}
"""

SHOW = """<?php
header('Content-Type: application/json');
echo json_encode(['script' => __FILE__, 'server' => $_SERVER, 'get' => $_GET, 'post' => $_POST,
                  'body' => file_get_contents('php://input')]);
"""
SCRIPTS = {
    "index.php": SHOW,
    "show.php": SHOW,
    "admin/index.php": SHOW,
    "dir.php/inner.php": SHOW,
    "status.php": "<?php http_response_code((int) $_GET['s']); echo 'status';",
    "away.php": "<?php header('Location: https://b.test/x');",
    "cookies.php": "<?php setcookie('a', '1'); setcookie('b', '2'); echo 'two';",
    "length.php": "<?php header('Content-Length: 5'); echo 'hello'; ob_end_flush(); flush(); ignore_user_abort(true);"
    "while (!file_exists($_GET['f'] . '.go')) { usleep(10000); clearstatcache(); }"
    "file_put_contents($_GET['f'], 'done');",
    "short.php": "<?php header('Content-Length: 50'); echo 'hello';",
    "warn.php": "<?php error_log(\"line one\\nline two \\x1b[31m\"); echo 'warned';",
    "fatal.php": "<?php http_response_code(500); nothing();",
    "count.php": "<?php $n = 0; while ($p = fread($i ??= fopen('php://input', 'r'), 65536))"
    " { $n += strlen($p); } echo $n;",
    "large.php": "<?php for ($i = 0; $i < (int) $_GET['n']; $i++) { echo str_repeat('x', 65536); flush(); }",
    "stream.php": "<?php header('X-Accel-Buffering: no'); echo 'one'; while (ob_get_level()) ob_end_flush();"
    "flush(); while (!file_exists($_GET['f'])) { usleep(10000); clearstatcache(); } echo 'two';",
    "endless.php": "<?php register_shutdown_function(function () { file_put_contents($_GET['f'], 'over'); });"
    "while (true) { echo str_repeat('x', 4096); flush(); usleep(10000); }",
    "upload.php": "<?php echo md5_file($_FILES['f']['tmp_name']), ' ', $_FILES['f']['size'];",
    "pid.php": "<?php echo getmypid();",
}
FILES = {
    "style.css": "body {}",
    "uploads/cat.jpg": "<?php echo 'run';",
    "config.php.bak": "<?php $secret = 1;",
    "config.php~": "<?php $secret = 1;",
    "show.php.gz": "<?php $secret = 1;",
    "show.php.br": "<?php $secret = 1;",
    "show.php-2024": "<?php $secret = 1;",
    "shell.phtml": "<?php $secret = 1;",
    "plain/index.html": "<p>plain",
    ".hidden/x.php": SHOW,
}


@dataclass
class Place:
    server: Server
    fpm: PhpFpm
    folder: Path
    root: Path
    port: int
    http2: bool

    def client(self, site: str = "a.test") -> httpx.Client:
        using: ssl.SSLContext = context(self.folder / "state/internal-ca/root.pem")
        transport = httpx.HTTPTransport(verify=using, http1=not self.http2, http2=self.http2)
        return httpx.Client(transport=transport, base_url=f"https://127.0.0.1:{self.port}",
                            headers={"Host": site}, timeout=60)  # fmt: skip

    def asks(
        self, path: str, method: str = "GET", site: str = "a.test", **more: Any
    ) -> httpx.Response:
        with self.client(site) as client:
            # httpx would tidy the path up.
            asked = {"sni_hostname": site, "target": path.encode()}
            return client.request(method, "/", extensions=asked, **more)

    def shown(self, path: str, method: str = "GET", **more: Any) -> dict[str, Any]:
        answer = self.asks(path, method, **more)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture(scope="module", params=["fast", "h11", "http2"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    folder.chmod(0o755)
    root = folder / "www"
    for name, text in {**SCRIPTS, **FILES}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "show.php").chmod(0o644)
    (folder / "outside.php").write_text(SHOW)
    (root / "linked.php").symlink_to(folder / "outside.php")
    (root / "readme.txt").symlink_to("show.php")
    (root / "picture.php").symlink_to("uploads/cat.jpg")
    (root / "again.php").symlink_to("show.php")
    (folder / "marks").mkdir(mode=0o777)
    (folder / "marks").chmod(0o777)
    fpm = PhpFpm(folder)
    fpm.start()
    one, two = free_ports(2)
    config = folder / "config.yaml"
    config.write_text(
        CONFIG.format(
            state=folder / "state", one=one, two=two, root=root, socket=fpm.socket,
            fast=str(request.param != "h11").lower(), hash=hashed("geheim"),
        )
    )  # fmt: skip
    try:
        with Server(["--config", str(config)], folder) as server:
            server.await_status(
                folder / "state",
                lambda document: (
                    len(document["certificates"]) == 4
                    and all(one["served"] for one in document["certificates"])
                ),
            )
            yield Place(server, fpm, folder, root, two, request.param == "http2")
    finally:
        fpm.stop()
        shutil.rmtree(folder)


def test_a_script_learns_what_cgi_promises(place: Place) -> None:
    told = place.shown("/show.php?a=b%20c&d", headers={"X-One": "1", "Cookie": "k=v"})
    server = told["server"]
    assert told["get"] == {"a": "b c", "d": ""}
    expected = {
        "SCRIPT_FILENAME": f"{place.root}/show.php", "SCRIPT_NAME": "/show.php",
        "DOCUMENT_ROOT": str(place.root), "REQUEST_URI": "/show.php?a=b%20c&d",
        "QUERY_STRING": "a=b%20c&d", "REQUEST_METHOD": "GET", "HTTPS": "on",
        "REMOTE_ADDR": "127.0.0.1", "SERVER_NAME": "a.test", "SERVER_PORT": "443",
        "HTTP_HOST": "a.test", "HTTP_X_ONE": "1", "HTTP_COOKIE": "k=v", "REDIRECT_STATUS": "200",
        "GATEWAY_INTERFACE": "CGI/1.1", "HTTP_X_FORWARDED_PROTO": "https", "PATH_INFO": "",
        "PHP_SELF": "/show.php",
        "SERVER_PROTOCOL": "HTTP/2.0" if place.http2 else "HTTP/1.1",
    }  # fmt: skip
    assert {name: server.get(name) for name in expected} == expected
    assert "HTTP_TE" not in server
    assert "HTTP_CONNECTION" not in server


def test_no_field_speaks_as_another(place: Place) -> None:
    server = place.shown(
        "/show.php",
        headers=[
            ("Host", "a.test"), ("Proxy", "http://evil"), ("X_Real_IP", "6.6.6.6"),
            ("X_One", "under"), ("X-One", "dash"), ("X-Forwarded-For", "6.6.6.6"),
            ("X-Real-IP", "6.6.6.6"), ("Client-IP", "6.6.6.6"), ("X.One", "dot"),
            ("Remote_User", "root"),
        ],
    )["server"]  # fmt: skip
    assert "HTTP_PROXY" not in server
    assert server["HTTP_X_ONE"] == "dash"
    assert server["HTTP_X_REAL_IP"] == "127.0.0.1"
    assert server["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"
    assert "6.6.6.6" not in json.dumps(server)
    assert not {"HTTP_REMOTE_USER", "REMOTE_USER"} & server.keys()


@pytest.mark.parametrize(
    ("path", "script", "info"),
    [
        ("/show.php/a/b", "show.php", "/a/b"),
        ("/show.php/", "show.php", "/"),
        ("/show.php/a%20b/%C3%A4", "show.php", "/a b/ä"),
        ("/dir.php/inner.php/x", "dir.php/inner.php", "/x"),
        ("/again.php/x", "again.php", "/x"),
        ("/", "index.php", ""),
        ("/admin/", "admin/index.php", ""),
        ("/2026/11/a-permalink/", "index.php", ""),
        ("/missing.php", "index.php", ""),
        ("/missing.php/with/info", "index.php", ""),
        # What fix_pathinfo would have made a script of.
        ("/uploads/cat.jpg/x.php", "index.php", ""),
        ("/style.css/x.php", "index.php", ""),
        ("/uploads/cat.jpg%0a.php", "index.php", ""),
        ("/picture.php", "index.php", ""),  # a link to something that is no script
        ("/linked.php", None, ""),  # a link that leads out of the root
        ("/.hidden/x.php", "index.php", ""),
        ("/SHOW.PHP", "index.php", ""),
        ("/dir.php", "index.php", ""),
    ],
)
def test_a_path_names_its_script_and_nothing_else(
    place: Place, path: str, script: str | None, info: str
) -> None:
    if script is None:
        assert place.asks(path).status_code == 404
        return
    server = place.shown(path)["server"]
    assert server["SCRIPT_FILENAME"] == f"{place.root}/{script}"
    assert server["SCRIPT_NAME"] == f"/{script}"
    assert server["PATH_INFO"] == info
    assert server["REQUEST_URI"] == path


@pytest.mark.parametrize(
    "path",
    ["/../outside.php", "/%2e%2e/outside.php", "/show.php%00.jpg", "/uploads/cat.jpg%00.php",
     "/show.php%2fa", "/a/..%2f..%2foutside.php", "/show.php\\a", "/%c0%ae%c0%ae/outside.php"],
)  # fmt: skip
def test_a_path_that_can_be_read_in_two_ways_is_refused(place: Place, path: str) -> None:
    assert place.asks(path).status_code == 400


@pytest.mark.parametrize("site", ["a.test", "strict.test"])
@pytest.mark.parametrize(
    "path", ["/readme.txt", "/config.php.bak", "/config.php~", "/show.php.gz", "/show.php%2Ebr",
             "/show.php-2024", "/shell.phtml", "/SHOW.PHP",
             "/picture.php", "/uploads/cat.jpg/x.php", "/style.css/x.php"]
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_source_never_leaves_and_nothing_else_runs(
    place: Place, site: str, path: str, method: str
) -> None:
    answer = place.asks(path, method, site)
    assert "<?php" not in answer.text
    if site == "strict.test":
        assert answer.status_code == 404
    elif method != "HEAD":
        assert answer.json()["server"]["SCRIPT_NAME"] == "/index.php"


def test_files_beside_scripts_are_sent_by_us(place: Place) -> None:
    answer = place.asks("/style.css")
    assert (answer.status_code, answer.text) == (200, "body {}")
    assert answer.headers["content-type"].startswith("text/css")
    etag = answer.headers["etag"]
    assert place.asks("/style.css", headers={"If-None-Match": etag}).status_code == 304
    assert place.asks("/style.css", headers={"Range": "bytes=0-3"}).text == "body"
    assert place.asks("/style.css", "POST").status_code == 405
    assert place.asks("/plain/").text == "<p>plain"
    assert place.asks("/uploads/cat.jpg").text == "<?php echo 'run';"  # a picture, as it is


def test_a_folder_gets_its_slash(place: Place) -> None:
    for path in ("/admin?x=1", "/plain?x=1"):
        answer = place.asks(path)
        assert answer.status_code == 308
        assert answer.headers["location"] == path.replace("?", "/?")


def test_a_root_below_a_path(place: Place) -> None:
    server = place.shown("/blog/show.php/x", site="below.test")["server"]
    assert server["SCRIPT_NAME"] == "/blog/show.php"
    assert server["SCRIPT_FILENAME"] == f"{place.root}/show.php"
    assert (server["PATH_INFO"], server["DOCUMENT_URI"]) == ("/x", "/blog/show.php/x")
    assert (
        place.shown("/blog/any/thing", site="below.test")["server"]["SCRIPT_NAME"]
        == "/blog/index.php"
    )
    assert place.asks("/show.php", site="below.test").status_code == 404


def test_bodies_of_every_kind(place: Place) -> None:
    told = place.shown("/show.php", "POST", data={"a": "1", "b": "ü"})
    assert told["post"] == {"a": "1", "b": "ü"}
    assert told["server"]["CONTENT_TYPE"] == "application/x-www-form-urlencoded"
    assert place.shown("/show.php", "PUT", content=b"x" * 100)["body"] == "x" * 100
    assert place.shown("/show.php", "POST")["body"] == ""
    big = b"0123456789abcdef" * 1024 * 1024  # 16 MiB
    assert place.asks("/count.php", "PUT", content=big).text == str(len(big))
    files = {"f": ("a.bin", big)}
    assert place.asks("/upload.php", "POST", files=files).text.endswith(str(len(big)))


def test_a_body_without_a_length(place: Place) -> None:
    def pieces(count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield b"x" * 1000

    told = place.shown("/show.php", "POST", content=pieces(3))
    assert (told["body"], told["server"]["CONTENT_LENGTH"]) == ("x" * 3000, "3000")
    assert place.asks("/show.php", "POST", content=pieces(2000)).status_code == 411


def test_expectations_are_met_at_once(place: Place) -> None:
    took = [60.0]
    # Who waits for PHP to say so would be late each time, by a second; a busy machine is not.
    while min(took) > 0.9:
        assert len(took) < 20, took
        begun = time.monotonic()
        told = place.shown(
            "/show.php", "POST", content=b"hello", headers={"Expect": "100-continue"}
        )
        took.append(time.monotonic() - begun)
        assert told["body"] == "hello"


def test_status_location_and_cookies(place: Place) -> None:
    assert place.asks("/status.php?s=404").status_code == 404
    assert place.asks("/status.php?s=204").status_code == 204
    away = place.asks("/away.php")
    assert (away.status_code, away.headers["location"]) == (302, "https://b.test/x")
    assert len(place.asks("/cookies.php").headers.get_list("set-cookie")) == 2
    head = place.asks("/show.php", "HEAD")
    assert (head.status_code, head.text) == (200, "")
    assert head.headers["content-type"].startswith("application/json")


def test_what_a_script_writes_to_stderr_is_in_our_log(place: Place) -> None:
    seen = len(place.server.log)
    assert place.asks("/warn.php").text == "warned"
    line = place.server.await_log("a script says: .*line one", since=seen)
    assert line["site"] == "a.test"
    assert "\x1b" not in place.server.text()
    assert place.asks("/fatal.php").status_code == 500
    place.server.await_log("undefined function nothing", since=seen)


def test_a_body_that_is_cut_short_is_not_taken_for_a_whole_one(place: Place) -> None:
    seen = len(place.server.log)
    with pytest.raises(httpx.HTTPError):
        place.asks("/short.php")
    place.server.await_log("45 bytes of the body are missing", since=seen)


def test_a_script_works_on_when_its_answer_is_complete(place: Place) -> None:
    mark, go = place.folder / "marks/length", place.folder / "marks/length.go"
    for path in (mark, go):
        path.unlink(missing_ok=True)
    assert place.asks(f"/length.php?f={mark}").text == "hello"
    assert not mark.exists()
    go.touch()
    deadline = time.monotonic() + 60
    while not mark.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_answer_streams(place: Place) -> None:
    mark = place.folder / "marks/stream"
    mark.unlink(missing_ok=True)
    with (
        place.client() as client,
        client.stream(
            "GET",
            f"/stream.php?f={mark}",
            extensions={"sni_hostname": "a.test"},
            headers={"Accept-Encoding": "identity"},
        ) as answer,
    ):
        pieces = answer.iter_raw()
        assert next(pieces) == b"one"
        mark.touch()
        assert b"".join(pieces) == b"two"


def test_a_large_answer_costs_no_memory(place: Place) -> None:
    """The client reads nothing for a while: the script waits, and so does its answer."""
    with (
        place.client() as client,
        client.stream(
            "GET",
            "/large.php?n=1000",
            extensions={"sni_hostname": "a.test"},
            headers={"Accept-Encoding": "identity"},
        ) as answer,
    ):
        pieces = answer.iter_raw()
        count = len(next(pieces))
        workers = [pid for pid in place.server.children() if _is_worker(pid)]
        assert workers
        assert all(_resident(pid) < 150 * 1024 for pid in workers)
        count += sum(map(len, pieces))
    assert count == 1000 * 65536


def _is_worker(pid: int) -> bool:
    return Path(f"/proc/{pid}/comm").read_text().startswith("th-worker")


def _resident(pid: int) -> int:
    """In KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def test_a_script_ends_when_its_client_leaves(place: Place) -> None:
    mark = place.folder / "marks/endless"
    mark.unlink(missing_ok=True)
    with (
        place.client() as client,
        client.stream(
            "GET", f"/endless.php?f={mark}", extensions={"sni_hostname": "a.test"}
        ) as answer,
    ):
        next(answer.iter_raw())
    deadline = time.monotonic() + 60
    while not mark.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_user_who_has_logged_in(place: Place) -> None:
    assert place.asks("/show.php", site="staff.test").status_code == 401
    assert place.asks("/index.php/x", site="staff.test").status_code == 401
    server = place.shown("/show.php", site="staff.test", auth=("alice", "geheim"))["server"]
    assert (server["REMOTE_USER"], server["AUTH_TYPE"]) == ("alice", "Basic")
    assert server["HTTP_REMOTE_USER"] == "alice"
    assert not {"HTTP_AUTHORIZATION", "PHP_AUTH_PW"} & server.keys()


def test_own_parameters_and_kept_connections(place: Place) -> None:
    with place.client("strict.test") as client:
        options: dict[str, Any] = {"extensions": {"sni_hostname": "strict.test"}}
        assert client.get("/show.php", **options).json()["server"]["APP_ENV"] == "production"
        processes = {client.get("/pid.php", **options).text for _ in range(8)}
    assert len(processes) == 1


def test_php_that_restarts_costs_a_pause(place: Place) -> None:
    place.fpm.stop()
    seen = len(place.server.access)
    with place.client() as client:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(place.asks, "/show.php")
            time.sleep(0.3)
            assert place.asks("/show.php", site="strict.test").status_code == 502
            place.fpm.start()
            assert waiting.result().status_code == 200
        del client
    place.server.await_access(since=seen, status=502, host="strict.test")
    place.server.await_status(
        place.folder / "state",
        lambda document: all(one["healthy"] == "yes" for one in document["upstreams"]
                             if one["last_error"] is None),
    )  # fmt: skip


@pytest.mark.parametrize("place", ["fast"], indirect=True)
def test_explain_doctor_and_check(place: Place) -> None:
    config = str(place.folder / "config.yaml")
    page = treehouse("explain", "https://a.test/show.php/x?y", "--config", config).stdout
    assert f"{place.root}/show.php" in page
    assert "/x" in page
    assert str(place.fpm.socket) in page
    page = treehouse("explain", "https://a.test/some/thing", "--config", config).stdout
    assert f"{place.root}/index.php" in page
    doctor = treehouse("doctor", "--config", config)
    assert "speaks FastCGI" in doctor.stdout
    checked = treehouse("check", "--config", config)
    assert (checked.returncode, "no socket" in checked.stdout + checked.stderr) == (0, False)


def test_php_over_tcp_and_behind_a_root_of_its_own(folder: Path, ports: tuple[int, int]) -> None:
    """The FastCGI server sees the scripts elsewhere, as in a container."""
    (folder / "here").mkdir()
    (folder / "there").mkdir()
    for place in ("here", "there"):
        (folder / place / "x.php").write_text(
            f"<?php echo '{place} ', $_SERVER['PATH_INFO'] ?? '-';"
        )
    (port,) = free_ports(1)
    with php_fpm(folder, more=f"listen = 127.0.0.1:{port}") as fpm:
        fpm.socket.touch()
        config = folder / "config.yaml"
        config.write_text(
            f"listen: {{http: ['127.0.0.1:{ports[0]}'], https: ['127.0.0.1:{ports[1]}']}}\n"
            f"state: {folder}/state\nacme: {{directory: internal}}\n"
            f"sites:\n  - names: [a.test]\n    root: {folder}/here\n"
            f"    fastcgi: {{url: '127.0.0.1:{port}', script_root: {folder}/there}}\n"
        )
        with Server(["--config", str(config)], folder) as server:
            server.await_log("certificate obtained")
            place = Place(server, fpm, folder, folder / "here", ports[1], False)
            assert place.asks("/x.php/info").text == "there /info"


def test_check_says_what_is_missing(folder: Path, tmp_path: Path) -> None:
    config = folder / "config.yaml"
    config.write_text(
        f"state: {folder}/state\nsites:\n  - names: [a.test]\n    root: {folder}/none\n"
        f"    fastcgi: unix:{folder}/php.sock\n"
    )
    done = treehouse("check", "--config", str(config))
    assert done.returncode == 2
    assert f"{folder}/none does not exist" in done.stdout + done.stderr
    (folder / "none").mkdir()
    done = treehouse("check", "--config", str(config))
    assert done.returncode == 0
    assert f"there is no socket {folder}/php.sock yet" in done.stdout + done.stderr
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "php.sock"))
        (folder / "php.sock").chmod(0o600)
        done = treehouse("check", "--config", str(config))
        assert "may not connect" in done.stdout + done.stderr
