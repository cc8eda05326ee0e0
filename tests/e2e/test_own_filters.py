"""Filters that users write in Python, at the real program: the three of docs/filters.md, and those
that go wrong. Over HTTP/1.1 with and without the fast parser, and over HTTP/2."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.sites.passwords import hashed
from support.http.backend_app import serving
from support.http.client import context
from support.program.ports import free_ports
from support.program.server import REPOSITORY, Server, treehouse

DOCUMENT = (REPOSITORY / "docs/filters.md").read_text()
# The three examples, by the names of their files.
EXAMPLES = dict(re.findall(r"```python\n# (\S+\.py)\n(.*?)```", DOCUMENT, re.DOTALL))
MARK = '''
from proxy.filters import BodyTooLarge, Fields, FieldRefused, Request, Response
from helpers.words import MARK


class Mark:
    """Marks requests and answers, and keeps count of its instances."""

    made = 0

    def __init__(self, word="none", number=0, flag=False, items=(), text=""):
        Mark.made += 1
        self.told = repr((word, number, flag, items, text))

    def request(self, request):
        request.fields.set("X-Marked", MARK)
        request.fields.remove("X-Unwanted")
        request.state["seen"] = f"{request.method} {request.target} {request.client} {request.site}"

    def response(self, request, response):
        response.fields.add("X-Mark", f"{response.status} {Mark.made} {self.told}")
        response.fields.set("X-Seen", request.state.get("seen", "nothing"))
        return response


class LaterMark(Mark):
    async def request(self, request):
        import asyncio
        await asyncio.sleep(0)
        return Mark.request(self, request)

    async def response(self, request, response):
        import asyncio
        await asyncio.sleep(0)
        return Mark.response(self, request, response)


class Bodies:
    async def request(self, request):
        body = await request.body()
        if body == b"replace":
            request.set_body(b"another")
        if request.path.endswith("/early"):
            request.set_body(b"never read")
        return Response(200, b"it was " + body) if body == b"answer" else None

    async def response(self, request, response):
        if request.query == "upper":
            response.set_body((await response.body()).upper())
        if request.query == "small":
            try:
                await response.body(10)
            except BodyTooLarge:
                response.fields.set("X-Too-Large", "yes")
        return response
'''
BAD = """
import time
from proxy.filters import Request, Response


class Bad:
    async def request(self, request):
        kind = request.query
        if kind == "raise":
            raise KeyError("a secret\\nwith a line end")
        if kind == "exit":
            raise SystemExit(3)
        if kind == "cancel":
            import asyncio
            raise asyncio.CancelledError
        if kind == "nonsense":
            return 42
        if kind == "status":
            return Response(99)
        if kind == "framing":
            request.fields.set("Content-Length", "5")
        if kind == "forge":
            request.fields.set("X-Forwarded-For", "192.0.2.99")
        if kind == "split":
            request.fields.set("X-A", "b\\r\\nX-B: c")
        if kind == "wait":
            import asyncio
            await asyncio.sleep(60)
        if kind == "large":
            await request.body(10)
        if kind == "split-answer":
            return Response(200, "x", fields={"X-A": "b\\nc"})
        if kind == "framing-answer":
            return Response(200, "x", fields={"Transfer-Encoding": "chunked"})

    def response(self, request, response):
        kind = request.query
        if kind == "raise-late":
            raise ValueError("late")
        if kind == "none-late":
            return None
        if kind == "status-late":
            response.status = 1000
        if kind == "block":
            time.sleep(0.12)
        if kind == "stuck":
            time.sleep(5)
        if kind == "own":
            return Response(201, "my own")
        return response
"""
CONFIG = """\
state: {state}
listen: {{http: ['127.0.0.1:{one}'], https: ['127.0.0.1:{two}']}}
acme: {{directory: internal}}
fast_lane: {fast}
workers: 1
sites:
  - names: [a.test]
    use: [{{use: "{mark}", with: {{word: w, number: 7, flag: true, items: [1, a], text: "5"}}}}]
    routes:
      - {{path: /app/*, backend: 'http://127.0.0.1:{back}'}}
      - {{path: /away/*, redirect: "https://b.test/{{rest}}"}}
      - {{path: /office/*, root: {root}, allow: [192.0.2.0/24]}}
      - {{path: /bare/*, root: {root}, use: []}}
      - {{path: /bodies/*, backend: 'http://127.0.0.1:{back}', use: "own:Bodies"}}
      - {{path: /files/*, root: {root}, use: "own:Bodies"}}
      - {{path: /bad/*, backend: 'http://127.0.0.1:{back}', use: {{use: "bad:Bad", timeout: 1s}}}}
      - {{path: /badfiles/*, root: {root}, use: {{use: "bad:Bad", timeout: 1s}}}}
      - {{path: /signed/*, root: {root}, use: {{use: "signed:SignedUrl", with: {{key_file: {folder}/url.key}}}}}}
      - {{path: /team/*, backend: 'http://127.0.0.1:{back}', basic_auth: {{users: {{alice: "{hash}"}}}},
          use: {{use: "team:Team", with: {{teams: {{alice: ops}}}}}}}}
      - {{path: /json/*, backend: 'http://127.0.0.1:{back}', use: {{use: "json_body:JsonBody", with: {{required: [name], limit: 100}}}}}}
      - {{path: /*, root: {root}}}
"""


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what it was sent."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers.get("Upgrade") == "websocket":
            self.send_response(101)
            self.send_header("Connection", "upgrade")
            self.send_header("Upgrade", "websocket")
            self.end_headers()
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        text = "".join(f"{name.lower()}: {value}\n" for name, value in self.headers.items())
        data = f"{self.command} {self.path}\n{text}\n".encode() + body
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        if "chunks" in self.path:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for start in range(0, len(data), 50):
                piece = data[start : start + 50]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("ETag", '"theirs"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_HEAD = do_POST = do_PUT = do_GET

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class Place:
    server: Server
    folder: Path
    port: int
    http2: bool
    ca: Path

    def asks(self, path: str, method: str = "GET", **more: Any) -> httpx.Response:
        using: ssl.SSLContext = context(self.ca)
        transport = httpx.HTTPTransport(verify=using, http1=not self.http2, http2=self.http2)
        with httpx.Client(transport=transport, timeout=30) as client:
            return client.request(
                method, f"https://127.0.0.1:{self.port}/",
                headers={"Host": "a.test", "Accept-Encoding": "identity", **more.pop("headers", {})},
                extensions={"sni_hostname": "a.test", "target": path.encode()}, **more,
            )  # fmt: skip


def write_filters(folder: Path) -> None:
    for name, code in {**EXAMPLES, "own.py": MARK, "bad.py": BAD}.items():
        (folder / name).write_text(code)
    (folder / "helpers").mkdir()
    (folder / "helpers/words.py").write_text("MARK = 'once'\n")
    (folder / "url.key").write_text("a key\n")


@pytest.fixture(scope="module", params=["fast", "h11", "h2", "later"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    folder.chmod(0o755)
    write_filters(folder)
    root = folder / "www"
    (root / "sub").mkdir(parents=True)
    (root / "x.txt").write_text("hello")
    (root / "large.txt").write_text("hello" * 100_000)
    one, two = free_ports(2)
    config = folder / "config.yaml"
    try:
        with serving(Handler) as back:
            config.write_text(
                CONFIG.format(
                    state=folder / "state", one=one, two=two, back=back, root=root,
                    folder=folder, hash=hashed("geheim"), fast=str(request.param != "h11").lower(),
                    mark="own:LaterMark" if request.param == "later" else "own:Mark",
                )
            )  # fmt: skip
            with Server(["--config", str(config)], folder) as server:
                server.await_log("a.test: certificate obtained")
                ca = folder / "state/internal-ca/root.pem"
                yield Place(server, folder, two, request.param == "h2", ca)
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("path", "method", "fields", "status"),
    [
        ("/x.txt", "GET", {}, 200),
        ("/x.txt", "HEAD", {}, 200),
        ("/large.txt", "GET", {}, 200),
        ("/x.txt", "GET", {"Range": "bytes=1-2"}, 206),
        ("/x.txt", "GET", {"Range": "bytes=99-"}, 416),
        ("/x.txt", "GET", {"If-None-Match": "*"}, 304),
        ("/x.txt", "POST", {}, 405),
        ("/nothing", "GET", {}, 404),
        ("/sub", "GET", {}, 308),
        ("/%78.txt", "GET", {}, 200),
        ("//x.txt", "GET", {}, 200),
        ("/app/x", "GET", {}, 200),
        ("/app/x", "HEAD", {}, 200),
        ("/app/chunks", "GET", {}, 200),
        ("/away/x", "GET", {}, 308),
        ("/office/x.txt", "GET", {}, 403),
    ],
)
def test_a_filter_acts_on_everything_once(
    place: Place, path: str, method: str, fields: dict[str, str], status: int
) -> None:
    for _ in range(2):  # the second time from the cache
        answer = place.asks(path, method, headers=fields)
        assert answer.status_code == status
        told = "('w', 7, True, [1, 'a'], '5')"
        assert answer.headers.get_list("x-mark") == [f"{status} 1 {told}"]
        seen = "nothing" if status == 403 else f"{method} {path} 127.0.0.1 a.test"
        assert answer.headers["x-seen"] == seen


def test_a_route_without_filters_has_none(place: Place) -> None:
    answer = place.asks("/bare/x.txt")
    assert (answer.status_code, answer.text) == (200, "hello")
    assert "x-mark" not in answer.headers


def test_what_a_filter_writes_reaches_the_backend_once(place: Place) -> None:
    headers = {"X-Marked": "forged", "X_Marked": "forged", "X-Unwanted": "a", "x-unwanted": "b"}
    lines = place.asks("/app/x", headers=headers).text.splitlines()
    assert [line for line in lines if "marked" in line] == ["x-marked: once"]
    assert not [line for line in lines if "unwanted" in line]


def test_an_upgrade_meets_the_filter(place: Place) -> None:
    with (
        socket.create_connection(("127.0.0.1", place.port)) as plain,
        context(place.ca).wrap_socket(plain, server_hostname="a.test") as sock,
    ):
        sock.sendall(
            b"GET /app/ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\n\r\n"
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(4096)
        assert head.startswith(b"HTTP/1.1 101 ")
        assert head.lower().count(b"x-mark: 101 1 ") == 1


@pytest.mark.parametrize("kind", ["whole", "pieces"])
def test_bodies_are_read_and_replaced(place: Place, kind: str) -> None:
    def content(data: bytes) -> Any:
        return data if kind == "whole" else iter([data[:3], data[3:]])

    def body_of(data: bytes) -> str:
        text = place.asks("/bodies/x", "POST", content=content(data)).text
        return text.partition("\n\n")[2]

    assert body_of(b"as it is") == "as it is"
    assert body_of(b"replace") == "another"
    assert place.asks("/bodies/x", "POST", content=content(b"answer")).text == "it was answer"
    early = place.asks("/bodies/early", "POST", content=content(b"x" * 300_000))
    assert early.text.partition("\n\n")[2] == "never read"


@pytest.mark.parametrize("path", ["/bodies/x", "/bodies/chunks", "/files/x.txt"])
def test_answers_are_read_and_replaced(place: Place, path: str) -> None:
    answer = place.asks(f"{path}?upper")
    assert answer.text == answer.text.upper() != ""
    assert "etag" not in answer.headers
    if path != "/bodies/chunks":
        assert int(answer.headers["content-length"]) == len(answer.content)
    assert place.asks(f"{path}?upper", "HEAD").text == ""
    plain = place.asks(path)
    assert plain.text != plain.text.upper()
    assert ("etag" in plain.headers) == (path != "/bodies/chunks")
    if path == "/files/x.txt":
        part = place.asks(f"{path}?upper", headers={"Range": "bytes=0-1"})
        assert (part.status_code, part.text, "content-range" in part.headers) == (200, "HE", False)


@pytest.mark.parametrize("path", ["/bodies/x", "/bodies/chunks", "/files/large.txt"])
def test_an_answer_that_is_too_large_is_sent_nevertheless(place: Place, path: str) -> None:
    answer = place.asks(f"{path}?small")
    assert answer.headers["x-too-large"] == "yes"
    assert len(answer.content) > 100


@pytest.mark.parametrize(
    ("kind", "status", "line"),
    [
        ("raise", 500, r"bad:Bad failed: .*/bad\.py:\d+: KeyError: 'a secret"),
        ("exit", 500, "SystemExit"),
        ("cancel", 500, "CancelledError"),
        ("nonsense", 500, "it returned int instead of a Response"),
        ("status", 500, "99 is no status"),
        ("framing", 500, "written by the protocol"),
        ("forge", 500, "says who the client is"),
        ("split", 500, "is no value of a field"),
        ("split-answer", 500, "is no value of a field"),
        ("framing-answer", 500, "written by the protocol"),
        ("wait", 500, "no result within 1 s"),
        ("raise-late", 500, "ValueError: late"),
        ("none-late", 500, "it returned NoneType"),
        ("status-late", 500, "1000 is no status"),
        ("block", 200, "held all other requests up for [0-9]{3,} ms in response"),
    ],
)
@pytest.mark.parametrize("path", ["/bad/x", "/badfiles/x.txt"])
def test_a_filter_that_goes_wrong_costs_its_request(
    place: Place, path: str, kind: str, status: int, line: str
) -> None:
    answer = place.asks(f"{path}?{kind}")
    assert answer.status_code == status
    assert "secret" not in answer.text
    assert "Bad" not in answer.text
    assert place.asks(path).status_code == 200
    if kind in ("raise", "block") and path == "/bad/x":  # others of the same filter are counted
        told = place.server.await_log(line)
        assert told["level"] == "warning"


@pytest.mark.parametrize("place", ["fast"], indirect=True)
def test_a_call_that_does_not_end_is_named_while_it_lasts(place: Place) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(place.asks, "/bad/x?stuck")
        told = place.server.await_log(r"bad:Bad has held all requests .* at .*/bad\.py:\d+$")
        assert told["level"] == "error"
        assert not waiting.done()
        assert waiting.result().status_code == 200


def test_every_failure_is_told_in_the_access_log(place: Place) -> None:
    seen = len(place.server.access)
    assert place.asks("/bad/x?raise").status_code == 500
    place.server.await_access(since=seen, error="filter_failed", status=500)


def test_a_body_beyond_the_bound(place: Place) -> None:
    assert place.asks("/bad/x?large", "POST", content=b"x" * 11).status_code == 413
    assert place.asks("/bad/x?large", "POST", content=b"x" * 10).status_code == 200
    assert place.asks("/bad/x?own").text == "my own"


# The three examples


def test_a_signed_url(place: Place) -> None:
    sys.path.insert(0, str(place.folder))
    try:
        from signed import SignedUrl  # type: ignore[import-not-found] # written by the test
    finally:
        sys.path.remove(str(place.folder))
    signer = SignedUrl(str(place.folder / "url.key"), seconds=60)
    good = signer.link("/signed/x.txt")
    assert place.asks(good).text == "hello"
    for wrong in (
        "/signed/x.txt",
        good.replace("x.txt", "large.txt"),
        good.replace("/x.txt", "//x.txt"),
        good.replace("x.txt", "%78.txt"),
        good[:-1] + ("0" if good[-1] != "0" else "1"),
        good.replace("until=", "until=9"),
        good.replace("until=", "until=%C2%B2"),
    ):
        for method in ("GET", "HEAD"):
            assert place.asks(wrong, method).status_code == 403, wrong
    assert (
        place.asks(SignedUrl(str(place.folder / "url.key"), -60).link("/signed/x.txt")).status_code
        == 410
    )


def test_a_field_by_user(place: Place) -> None:
    answer = place.asks("/team/x", auth=("alice", "geheim"), headers={"X_Team": "root"})
    teams = [line for line in answer.text.splitlines() if "team:" in line]
    assert teams == ["x-team: ops"]
    assert answer.headers["x-served-team"] == "ops"
    assert place.asks("/team/x").headers["x-served-team"] == "nobody"  # a refusal


def test_a_json_body(place: Place) -> None:
    good = place.asks("/json/x", "POST", json={"name": "a"})
    assert json.loads(good.text.partition("\n\n")[2]) == {"name": "a"}
    for content, status in (
        (b'{"other": 1}', 422), (b"[]", 400), (b"{", 400), (b'"' + b"x" * 100 + b'"', 413),
        (b"[" * 99, 400),
    ):  # fmt: skip
        answer = place.asks("/json/x", "POST", content=content)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
        assert "error" in answer.json()


# Loading


FILES = "state: {folder}/state\nsites: [{{names: [a.test], root: {folder}/www, use: '{use}'}}]\n"


@pytest.mark.parametrize(
    ("use", "code", "why"),
    [
        ("mine:Mine", "class Other: pass", "has no Mine"),
        ("mine:Mine", "class Mine: pass", "neither a method request nor a method response"),
        ("mine:Mine", "Mine = 5", "is no class"),
        ("mine:Mine", "class Mine(:", "mine.py:1: "),
        ("mine:Mine", "import nowhere", "No module named 'nowhere'"),
        ("mine:Mine", "raise ValueError('at load')", "mine.py:1: ValueError: at load"),
        ("mine:Mine", "raise SystemExit", "SystemExit"),
        ("mine:Mine", "import os; os._exit(5)", "has ended"),
        ("mine:Mine", "class Mine:\n def __init__(self, key): pass\n def request(self, r): pass",
         "missing 1 required positional argument"),
        ("mine:Mine", "class Mine:\n request = 5", "must be methods"),
        ("mine:Mine", "open('/dev/full', 'w').write('x' * 99999)", "No space left"),
        ("gone:Mine", "", "No module named 'gone'"),
        ("collections:OrderedDict", "", "neither a method"),
        ("mine.Mine", "", "write mine:Mine"),
        ("mine", "", "names no class in a module"),
        ("../mine:Mine", "", "names no class in a module"),
    ],
)  # fmt: skip
def test_a_filter_that_cannot_be_loaded_is_a_fault(
    folder: Path, use: str, code: str, why: str
) -> None:
    (folder / "www").mkdir()
    (folder / "mine.py").write_text(code)
    config = folder / "config.yaml"
    config.write_text(FILES.format(folder=folder, use=use))
    done = treehouse("check", "--config", str(config))
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert why in said
    assert re.search(rf"{config}:2:\d+: sites\[0\]\.use", said), said


def test_explain_names_filters_and_tells_nothing_of_what_they_are_made_of(folder: Path) -> None:
    (folder / "www").mkdir()
    (folder / "mine.py").write_text(
        "class Mine:\n def __init__(self, key): pass\n def request(self, request): pass\n"
    )
    config = folder / "config.yaml"
    use = "{use: 'mine:Mine', with: {key: topsecret}}"
    config.write_text(
        f"state: {folder}/state\nsites: [{{names: [a.test], root: {folder}/www, use: {use}}}]\n"
    )
    page = treehouse("explain", "https://a.test/", "--config", str(config)).stdout
    assert "mine:Mine" in page
    assert f"{config}:2:" in page
    assert "topsecret" not in page


def test_check_runs_filters_as_the_servers_user_in_a_child(folder: Path) -> None:
    (folder / "www").mkdir()
    (folder / "open").mkdir()
    (folder / "open").chmod(0o777)
    (folder / "mine.py").write_text(
        "import os\nprint('noise')\n"
        f"open('{folder}/open/mark', 'w').write(f'{{os.getuid()}} {{os.getgroups()}}')\n"
        "class Mine:\n def request(self, request): pass\n"
    )
    (folder / "mine.py").chmod(0o600)  # root reads it, and never runs it
    config = folder / "config.yaml"
    config.write_text(FILES.format(folder=folder, use="mine:Mine"))
    done = treehouse("check", "--config", str(config))
    assert (done.returncode, "noise" in done.stdout + done.stderr) == (0, False)
    assert (folder / "open/mark").read_text() == "65534 []"


def test_a_changed_module_is_in_force_after_a_reload(folder: Path, ports: tuple[int, int]) -> None:
    code = (
        "from proxy.filters import Request, Response\nfrom words import WORD\n"
        "class Mine:\n def request(self, request): return Response(200, WORD)\n"
    )
    (folder / "www").mkdir()
    (folder / "mine.py").write_text(code)
    (folder / "words.py").write_text("WORD = 'before'\n")
    config = folder / "config.yaml"
    words = (
        f"listen: {{http: ['127.0.0.1:{ports[0]}'], https: ['127.0.0.1:{ports[1]}']}}\n"
        f"state: {folder}/state\nacme: {{directory: internal}}\n"
        f"sites: [{{names: [a.test], root: {folder}/www, use: 'mine:Mine'}}]\n"
    )
    config.write_text(words)
    with Server(["--config", str(config)], folder) as server:
        server.await_log("certificate obtained")
        place = Place(server, folder, ports[1], False, folder / "state/internal-ca/root.pem")
        assert place.asks("/").text == "before"
        (folder / "words.py").write_text("WORD = 'after'\n")
        done = treehouse("reload", "--config", str(config))
        assert done.returncode == 0, done.stdout + done.stderr
        assert place.asks("/").text == "after"
        (folder / "words.py").write_text("WORD = \n")
        done = treehouse("reload", "--config", str(config))
        assert done.returncode == 2
        assert "words.py:1" in done.stdout + done.stderr
        assert place.asks("/").text == "after"
        (folder / "words.py").write_text("WORD = 'watched'\n")
        config.write_text(f"{words}watch: true\n")
        done = treehouse("reload", "--config", str(config))
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / "words.py").write_text("WORD = 'seen by itself'\n")
        deadline = time.monotonic() + 60
        while place.asks("/").text != "seen by itself":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        # Confined: nothing is read that the worker has no use for.
        (folder / "words.py").write_text("WORD = 'x'\n")
        (folder / "mine.py").write_text(
            "from proxy.filters import Request, Response\n"
            "class Mine:\n def request(self, request):\n"
            "  try: open('/etc/passwd').read(); return Response(200, 'read')\n"
            "  except OSError: return Response(200, 'confined')\n"
        )
        assert treehouse("reload", "--config", str(config)).returncode == 0
        assert place.asks("/").text == "confined"
