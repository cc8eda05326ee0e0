"""A real browser logs in with a login service, hears events that are compressed, and is answered plain
where a page of another site makes it ask."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from support.http.backend_app import Application, serving
from support.http.chromium import Chromium
from support.program.ports import free_ports
from support.program.server import Server

CONFIG = """\
listen: {{http: ['127.0.0.1:{one}'], https: ['127.0.0.1:{two}']}}
state: {state}
sites:
  - {{names: [evil.test], root: {root}}}
  - names: [app.test]
    forward_auth: {{url: "http://127.0.0.1:{port}/auth", copy: [Remote-User]}}
    routes:
      - {{path: /login/*, backend: "http://127.0.0.1:{port}", forward_auth: off}}
      - {{path: /*, backend: "http://127.0.0.1:{port}"}}
"""
EVENT = b"data: " + b"the same again " * 100 + b"\n\n"
HTML = "text/html; charset=utf-8"
BIG = b"<p>a token, and what the request says</p>\n" * 500


class App(Application):
    """An app, and in the same process its login service: whoever has the cookie is alice."""

    more = threading.Event()
    asked: ClassVar[list[tuple[str, str | None, str | None]]] = []

    def do_GET(self) -> None:
        cookie, path = self.headers.get("Cookie"), urlsplit(self.path).path
        if path == "/auth":
            self._verdict(cookie or "")
        elif path == "/login/":
            target = parse_qs(urlsplit(self.path).query)["rd"][0]
            self.answers(
                Content_Type=HTML, body=f"<form method=post action='/login/?rd={target}'>".encode()
            )
        elif path == "/events":
            self._events()
        else:
            self.asked.append((path, self.headers.get("Sec-Fetch-Site"), cookie))
            who = self.headers.get("Remote-User", "nobody").encode()
            self.answers(BIG if path == "/big" else b"<p id=who>" + who, Content_Type=HTML)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answers(
            status=303,
            Location=parse_qs(urlsplit(self.path).query)["rd"][0],
            Set_Cookie="session=alice; Secure; HttpOnly; Path=/; SameSite=None",
        )

    def _verdict(self, cookie: str) -> None:
        if "session=alice" in cookie:
            self.answers(Remote_User="alice")
        else:
            self.answers(status=302, Location=f"/login/?rd={self.headers['X-Forwarded-Uri']}")

    def _events(self) -> None:
        """Two events; the second one only when the test says so."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(2):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
            self.wfile.flush()
            self.more.wait(60)
        self.wfile.write(b"0\r\n\r\n")


@dataclass
class Place:
    browser: Chromium


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    root = folder / "www"
    root.mkdir()
    (root / "index.html").write_text("<!doctype html><title>elsewhere</title>")
    one, two = free_ports(2)
    config, state = folder / "config.yaml", folder / "state"
    try:
        with serving(App) as port:
            config.write_text(CONFIG.format(one=one, two=two, state=state, root=root, port=port))
            with Server(["--config", str(config)], folder) as server:
                for name in ("evil.test", "app.test"):
                    server.await_log(f"{name}: certificate obtained")
                with Chromium(folder, two, [state / "internal-ca/root.pem"]) as browser:
                    yield Place(browser)
    finally:
        App.more.set()
        shutil.rmtree(folder)


def shown(browser: Chromium, path: str) -> str:
    """The text of the page, as soon as the browser is there."""
    deadline = time.monotonic() + 60
    while True:
        try:
            where, text = browser.does("[location.pathname, document.body.innerText.trim()]")
            if where == path:
                return str(text)
        except (AssertionError, TypeError):
            pass  # between two pages
        assert time.monotonic() < deadline
        time.sleep(0.05)


def logged_in(browser: Chromium) -> None:
    browser.visit("https://app.test/notes?id=1")
    if browser.does("location.pathname") == "/login/":
        browser.does("{ document.forms[0].submit(); }")
    assert shown(browser, "/notes") == "alice"


def test_a_browser_logs_in_and_comes_back_to_where_it_wanted_to_go(place: Place) -> None:
    browser = place.browser
    browser.visit("https://app.test/notes?id=1")
    assert browser.does("[location.pathname, location.search]") == ["/login/", "?rd=/notes?id=1"]
    logged_in(browser)
    assert browser.does("location.search") == "?id=1"


def test_events_reach_a_browser_at_once_and_compressed(place: Place) -> None:
    browser = place.browser
    logged_in(browser)
    App.more.clear()
    script = (
        "{ window.heard = []; window.source = new EventSource('/events');"
        " await new Promise(done => source.onmessage = e => { heard.push(e.data); done(); });"
        " source.onmessage = e => heard.push(e.data); return heard.length; }"
    )
    assert browser.does(script) == 1  # before the app says more
    App.more.set()
    deadline = time.monotonic() + 60
    while browser.does("heard.length") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    browser.does("{ source.close(); }")
    told = {name.lower(): value for name, value in browser.answer("/events")["headers"].items()}
    assert told["content-encoding"] in ("zstd", "br", "gzip")


def test_another_sites_page_never_measures_a_compressed_answer(place: Place) -> None:
    """The session goes along with both requests."""
    browser = place.browser
    logged_in(browser)
    App.asked.clear()
    assert browser.does("{ return (await fetch('/big')).status; }") == 200
    own = {name.lower() for name in browser.answer("/big")["headers"]}
    assert "content-encoding" in own
    browser.visit("https://evil.test/")
    browser.does("{ location.href = 'https://app.test/big?guess'; }")
    assert "a token" in shown(browser, "/big")
    strange = {name.lower() for name in browser.answer("/big?guess")["headers"]}
    assert "content-encoding" not in strange
    sites = [(site, cookie) for path, site, cookie in App.asked if path == "/big"]
    assert sites == [("same-origin", "session=alice"), ("cross-site", "session=alice")]
