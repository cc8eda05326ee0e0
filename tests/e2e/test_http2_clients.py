"""HTTP/2 with the clients that people use, at the real program: a browser, the clients of Go, Java
and Node, curl, nghttp, h2load, httpx. (grpcio has files of its own.)"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from support.http.backend_app import serving
from support.http.chromium import Chromium
from support.http.clients.go import go_client
from support.http.streaming_app import Witness, application, content
from support.program.ports import free_ports
from support.program.server import Server

CLIENTS = Path(__file__).parents[1] / "support/http/clients"
BIG = os.urandom(3 << 20)
PAGE = b"<!doctype html><title>hello</title><p>hello\n"
DOWNLOAD = hashlib.sha256(content(20_000_000)).hexdigest()


@dataclass
class Running:
    server: Server
    port: int
    ca: Path
    folder: Path
    witness: Witness

    def curl(
        self, url: str, *options: str, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        host = re.split("[/:]", url.removeprefix("https://"))[0]
        url = url.replace(f"https://{host}", f"https://{host}:{self.port}", 1)
        return subprocess.run(
            ["curl", "-sS", "--http2", "--cacert", str(self.ca), "--resolve", f"*:{self.port}:127.0.0.1", *options, url],
            capture_output=True, timeout=60, input=stdin, check=False,
        )  # fmt: skip


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    folder.chmod(0o755)
    root = folder / "www"
    root.mkdir()
    (root / "index.html").write_bytes(PAGE)
    (root / "big").write_bytes(BIG)
    ca = trustme.CA()
    # Three sites in one certificate: one of them wants to see its clients' own, one has no HTTP/2.
    pair = ca.issue_cert("shared.test", "guarded.shared.test", "plain.shared.test")
    pair.private_key_pem.write_to_path(folder / "pair.key")
    pair.cert_chain_pems[0].write_to_path(folder / "pair.pem")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    one, other = free_ports(2)
    witness = Witness()
    config = folder / "config.yaml"
    with serving(application(witness)) as backend, contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        pair_of = f"certificate: {{chain: {folder}/pair.pem, key: {folder}/pair.key}}"
        config.write_text(
            f"""
listen: {{http: ["127.0.0.1:{one}"], https: ["127.0.0.1:{other}"]}}
workers: 1
state: {folder / "state"}
sites:
  - names: [a.test, www.a.test, localhost]
    routes:
      - {{path: /app/*, backend: "http://127.0.0.1:{backend}"}}
      - {{path: /*, root: {root}}}
  - {{names: [shared.test], {pair_of}, root: {root}}}
  - names: [guarded.shared.test]
    {pair_of}
    root: {root}
    tls: {{client_auth: {{ca_file: {folder}/ca.pem, mode: request}}}}
  - {{names: [plain.shared.test], {pair_of}, root: {root}, http2: off}}
"""
        )
        with Server(["--config", str(config)], folder) as server:
            server.await_log("a.test.*: certificate obtained")
            internal = folder / "state/internal-ca/root.pem"
            yield Running(server, other, internal, folder, witness)
            assert server.stop() == 0
            assert "Traceback" not in server.text()
            assert not [one for one in server.log if one["level"] == "error"]


# Browsers


@pytest.fixture(scope="module")
def browser(running: Running) -> Iterator[Chromium]:
    with Chromium(running.folder, running.port, [running.ca, running.folder / "ca.pem"]) as made:
        made.visit("https://a.test/")
        yield made


@needs("chromium")
def test_chromium_comes_over_http2(running: Running, browser: Chromium) -> None:
    page = browser.answer("//a.test/")
    assert (page["protocol"], page["status"]) == ("h2", 200)
    assert browser.does("document.body.innerText") == "hello"
    assert running.server.await_access(host="a.test", target="/")["protocol"] == "HTTP/2.0"


@needs("chromium")
def test_chromium_says_in_its_net_log_that_it_speaks_http2(browser: Chromium) -> None:
    answered = browser.await_net_log("HTTP2_SESSION_RECV_HEADERS")
    assert ":status: 200" in answered["headers"]
    assert browser.await_net_log("HTTP2_SESSION")["host"].startswith("a.test:443")
    assert not browser.net_log("HTTP2_SESSION_RECV_INVALID_HEADER")
    assert not browser.net_log("HTTP2_SESSION_RECV_GOAWAY")


@needs("chromium")
def test_chromium_keeps_eight_event_streams_open_and_does_more(
    running: Running, browser: Chromium
) -> None:
    """Over HTTP/1.1 six connections are all it opens: the streams would wait for each other."""
    running.witness.gathering = threading.Barrier(8)
    got = browser.does(
        """{
        const streams = Array.from({length: 8}, (_, n) => new Promise((resolve, reject) => {
            const source = new EventSource(`/app/events?count=5&together=1&stream=${n}`);
            const seen = [];
            source.onmessage = (event) => {
                seen.push(event.data);
                if (seen.length === 5) { source.close(); resolve(seen.join()); }
            };
            source.onerror = () => reject(new Error(`stream ${n} broke off`));
        }));
        const aside = (await fetch('/app/aside')).text();
        return [await aside, ...await Promise.all(streams)];
    }"""
    )
    assert got == ["/app/aside", *["0,1,2,3,4"] * 8]
    assert browser.answer("stream=7")["protocol"] == "h2"
    kept = {one["connectionId"] for one in browser.answers if "stream=" in one["url"]}
    assert len(kept) == 1


@needs("chromium")
def test_chromium_uploads_and_downloads(browser: Chromium) -> None:
    digest = "Array.from(new Uint8Array(await crypto.subtle.digest('SHA-256', %s)), (b) => b.toString(16).padStart(2, '0')).join('')"
    sent, got = browser.does(
        f"""{{
        const large = new Uint8Array(10_000_000).map((_, n) => n * 7);
        const own = {digest % "large"};
        const posts = await Promise.all(
            [1, 2, 3].map((n) => fetch(`/app/digest?n=${{n}}`, {{method: 'POST', body: large}}).then((a) => a.text())));
        const down = await (await fetch('/app/bytes?size=20000000')).arrayBuffer();
        return [posts.every((one) => one === own), {digest % "down"}];
    }}"""
    )
    assert sent is True
    assert got == DOWNLOAD
    assert browser.answer("/app/digest?n=3")["protocol"] == "h2"


@needs("chromium")
def test_chromium_shares_a_connection_between_names_of_a_certificate(browser: Chromium) -> None:
    browser.does(
        "await fetch('https://www.a.test/app/other', {mode: 'no-cors', credentials: 'include'})"
    )
    browser.does("await fetch('/app/own', {credentials: 'include'})")
    own, other = browser.answer("//a.test/app/own"), browser.answer("//www.a.test/app/other")
    assert (own["status"], other["status"]) == (200, 200)
    assert own["connectionId"] == other["connectionId"]


@needs("chromium")
@pytest.mark.parametrize(("host", "protocol"), [("guarded", "h2"), ("plain", "http/1.1")])
def test_chromium_asks_a_misdirected_request_again_elsewhere(
    running: Running, browser: Chromium, host: str, protocol: str
) -> None:
    """The certificate allows one connection for these sites, and their rules forbid it."""
    browser.visit("https://shared.test/")
    since = len(running.server.access)
    name = f"{host}.shared.test"
    browser.does(f"await fetch('https://{name}/', {{mode: 'no-cors', credentials: 'include'}})")
    answer = browser.answer(f"//{name}/")
    assert (answer["status"], answer["protocol"]) == (200, protocol)
    running.server.await_access(since=since, host=name, status=421)
    running.server.await_access(since=since, host=name, status=200)


# Languages


def saw(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.timeout(720)  # Go's library is compiled for it
def test_go(running: Running) -> None:
    told = saw(
        subprocess.run(
            [str(go_client()), "check", f"127.0.0.1:{running.port}", str(running.ca)],
            capture_output=True, text=True, timeout=120, check=False,
        )
    )  # fmt: skip
    trailed = hashlib.sha256(b"trailed").hexdigest()
    assert told == {
        "at once": 100,
        "upload": True,
        "stream": True,
        "download": DOWNLOAD,
        "expects": True,
        "trailers": f"trailed {trailed}",
        "cancelled": True,
        "connections": 1,
    }
    running.server.await_access(host="a.test", error="client_gone")


@needs("node")
def test_node(running: Running) -> None:
    told = saw(
        subprocess.run(
            ["node", str(CLIENTS / "client.mjs"), str(running.port), str(running.ca)],
            capture_output=True, text=True, timeout=120, check=False,
        )
    )  # fmt: skip
    trailed = hashlib.sha256(b"trailed").hexdigest()
    assert told == {
        "pages": 100,
        "upload": True,
        "download": DOWNLOAD,
        "trailers": f"trailed {trailed}",
        "head": str(len(PAGE)),
        "range": PAGE[3:8].decode(),
        "cancelled": 8,
        "ping": True,
        "after": "/app/after",
        "streams": 128,
        "failure": None,
    }


@needs("javac")
def test_java(running: Running) -> None:
    hosts = running.folder / "hosts"
    hosts.write_text("127.0.0.1 a.test\n")
    since = len(running.server.access)
    told = saw(
        subprocess.run(
            ["java", f"-Djdk.net.hosts.file={hosts}", str(CLIENTS / "Client.java"),
             str(running.port), str(running.ca)],
            capture_output=True, text=True, timeout=120, check=False,
        )
    )  # fmt: skip
    assert told == {
        "version": "HTTP_2",
        "pages": 100,
        "upload": True,
        "download": DOWNLOAD,
        "head": str(len(PAGE)),
        "after": "/app/after",
    }
    running.server.await_access(since=since, target="/app/after")
    running.server.await_access(since=since, handler="upstream", error="client_gone")


async def test_httpx_asks_a_hundred_at_once_on_one_connection(running: Running) -> None:
    context = ssl.create_default_context(cafile=str(running.ca))
    base = f"https://127.0.0.1:{running.port}/app"
    more = {"sni_hostname": "a.test"}
    body = BIG[:500_000]
    async with httpx.AsyncClient(
        http2=True, verify=context, headers={"host": "a.test"}, timeout=60
    ) as client:

        async def ask(number: int) -> str:
            if number % 4:
                got = await client.get(f"{base}/{number}", extensions=more)
            else:
                got = await client.post(f"{base}/digest", content=body, extensions=more)
            assert (got.http_version, got.status_code) == ("HTTP/2", 200)
            return got.text

        got = await asyncio.gather(*(ask(number) for number in range(100)))
        digest = hashlib.sha256(body).hexdigest()
        assert got == [f"/app/{n}" if n % 4 else digest for n in range(100)]
        # Given up in the middle; the connection goes on.
        asked = client.stream("GET", f"{base}/events?count=100000&pause=0.01", extensions=more)
        async with asked as events:
            await anext(aiter(events.aiter_bytes()))
        assert await ask(1) == "/app/1"
    running.server.await_access(host="a.test", handler="upstream", error="client_gone")


# Command lines


def test_curl_in_parallel(running: Running) -> None:
    said = running.curl(
        "https://a.test/app/[1-60]", "--parallel", "--parallel-max", "60",
        "-w", " %{http_version} %{response_code} %{num_connects}\\n",
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    lines = said.stdout.decode().splitlines()
    assert len(lines) == 60
    assert all(" 2 200 " in line for line in lines), lines
    connections = sum(int(line.rpartition(" ")[2]) for line in lines)
    assert connections < 6, "they share connections"


def test_curl_sends_to_who_does_not_want_it(running: Running) -> None:
    """An answer before the end of the upload is read, and no failure."""
    said = running.curl(
        "https://a.test/nothing-here", "-T", "-", "-w", " %{response_code}", stdin=BIG
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.endswith(b" 405"), said.stdout


@needs("nghttp")
def test_nghttp(running: Running, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(BIG)
    text = tmp_path / "text"
    text.write_text("trailed\n" * 10_000)
    base = f"https://localhost:{running.port}/app"

    def nghttp(*words: str) -> str:
        done = subprocess.run(
            ["nghttp", "-y", *words], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    sent = nghttp("--expect-continue", "-d", str(body), f"{base}/digest")
    assert sent == hashlib.sha256(BIG).hexdigest()
    trailed = nghttp("-v", "--trailer=x-sum: 1", "-d", str(text), f"{base}/trailers")
    assert f"x-digest: {hashlib.sha256(text.read_bytes()).hexdigest()}" in trailed
    # By its old tree of priorities, with small windows and with padding.
    many = nghttp("-ns", "-m30", "-w12", "-W14", "-b100", f"{base}/bytes?size=200000")
    assert len(re.findall(r" 200 +\d+", many)) == 30, many
    assert running.server.await_access(host="localhost", target="/app/digest")["status"] == 200


@needs("h2load")
def test_h2load_with_posts(running: Running, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"x" * 50_000)
    done = subprocess.run(
        ["h2load", "-n600", "-c6", "-m10", "-d", str(body), f"--connect-to=127.0.0.1:{running.port}", f"https://a.test:{running.port}/app/digest"],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert "600 succeeded, 0 failed, 0 errored" in done.stdout, done.stdout
