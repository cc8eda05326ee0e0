"""The admin page in a real browser: both schemes, three widths, by keyboard; it lives, asks and acts."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socketserver
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from support.http.backend_app import Application, running, serving
from support.http.client import http, https
from support.program.browser import WITHIN, barriers, browser, overflow
from support.program.ports import free_ports
from support.program.server import REPOSITORY, Server, packages, treehouse

pytestmark = pytest.mark.program

# Words of a backend that would be markup if anybody took them for it.
EVIL = b"<img src=x onerror=document.title='taken'>"
EVENT = 'html[data-events="{}"]'


class Well(Application):
    def do_GET(self) -> None:  # the base class's name for it
        self.answers(b"ok")


class Rude(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(65536)
        self.request.sendall(b"HTTP/1.1 " + EVIL + b"\r\n\r\n")


@dataclass
class World:
    server: Server
    folder: Path
    https: int
    admin: int
    backends: tuple[int, int]

    @property
    def ca(self) -> Path:
        return self.folder / "state/internal-ca/root.pem"

    def url(self, page: str = "") -> str:
        return f"http://127.0.0.1:{self.admin}/#/{page}"

    def hour(self) -> list[list[float]]:
        """The rows of the chart of all requests, as a page is given them first."""
        address = f"http://127.0.0.1:{self.admin}/events"
        while True:
            with urllib.request.urlopen(address, timeout=WITHIN / 1000) as stream:
                data = next((line for line in stream if line.startswith(b"data: ")), b"data: 0")
            told = json.loads(data.removeprefix(b"data: "))
            # A worker that drains says nothing, and one whose supervisor is busy says that.
            if isinstance(told, dict) and "history" in told:
                rows: list[list[float]] = told["history"]["main"]["rows"]
                return rows

    def await_slot(self) -> None:
        """Until requests are in the hour that succeeded."""
        end = time.monotonic() + WITHIN / 1000
        while not any(row[1] for row in self.hour()):
            assert time.monotonic() < end
            time.sleep(0.2)  # the program's state

    @contextlib.contextmanager
    def load(self) -> Iterator[None]:
        """Visitors, some every second, until the end."""
        over = threading.Event()

        def visit() -> None:
            while not over.wait(0.05):
                for path in ("/", "/missing", "/app/x", "/rude/x"):
                    https(self.https, "a.test", self.ca).asks(path, "a.test")

        thread = threading.Thread(target=visit)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, shared_python: str) -> Iterator[World]:
    import os
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    os.chmod(folder, 0o755)
    (folder / "www").mkdir()
    (folder / "www/index.html").write_text("<p>hello\n")
    one, two, admin, rude = free_ports(4)
    with (
        serving(Well) as first,
        serving(Well) as second,
        running(socketserver.ThreadingTCPServer(("127.0.0.1", rude), Rude)),
    ):
        (folder / "config.yaml").write_text(
            f"""
listen: {{http: ["127.0.0.1:{one}"], https: ["127.0.0.1:{two}"]}}
admin: {{listen: "127.0.0.1:{admin}", actions: true}}
workers: 2
state: {folder / "state"}
sites:
  - names: [a.test, www.a.test]
    routes:
      - {{path: /app/*, backend: ["http://127.0.0.1:{first}", "http://127.0.0.1:{second}"]}}
      - {{path: /rude/*, backend: "http://127.0.0.1:{rude}"}}
      - {{path: /*, root: {folder / "www"}}}
"""
        )
        try:
            with Server(
                ["--config", str(folder / "config.yaml")], folder,
                python=shared_python, environment=packages(REPOSITORY),
            ) as server:  # fmt: skip
                server.await_log("certificate obtained")
                yield World(server, folder, two, admin, (first, second))
        finally:
            treehouse("stop", "--state", str(folder / "state"))
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture
def page(world: World, chromium: Browser) -> Iterator[Page]:
    """A page of which nothing goes wrong, and which asks nobody else."""
    made = chromium.new_page()
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error" and "ERR_INCOMPLETE_CHUNKED" not in message.text:
            complaints.append(message.text)

    made.on("console", hear)
    made.on("pageerror", lambda error: complaints.append(str(error)))
    asked: list[str] = []
    made.on("request", lambda request: asked.append(request.url))
    yield made
    made.close()
    assert complaints == []
    assert {re.match(r"[a-z]+://[^/]*", url)[0] for url in asked} == {  # type: ignore[index] # all are URLs
        f"http://127.0.0.1:{world.admin}"
    }


PAGES = ("", "site/a.test", "certificate/a.test", "certificates", "explain", "site/nobody.test")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_readable_by_everybody(world: World, chromium: Browser, scheme: str) -> None:
    backend = f"backend/http%3A%2F%2F127.0.0.1%3A{world.backends[0]}"
    with world.load():
        for width in (390, 768, 1280):
            context = chromium.new_context(
                color_scheme=scheme,  # type: ignore[arg-type] # one of the two
                viewport={"width": width, "height": 800},
            )
            page = context.new_page()
            page.goto(world.url())
            page.wait_for_selector(EVENT.format(2), state="attached", timeout=WITHIN)
            for name in (*PAGES, backend):
                page.goto(world.url(name))
                page.wait_for_selector("main section")
                expect(page.locator("#live")).to_have_text("live")
                assert overflow(page) <= 0, (width, name)
                assert barriers(page) == [], (width, name)
            context.close()


@pytest.mark.parametrize("state", ["empty", "full"])
def test_readable_in_each_state(world: World, chromium: Browser, state: str) -> None:
    """With nothing to show, and with very long names, many troubles and lines that are unfolded."""
    document = _first_event(world)
    board = document["board"]
    if state == "empty":
        board |= {"attention": [], "sites": [], "others": [], "backends": [], "warnings": []}
        board["certificates"] = {"known": 0, "states": {}, "first": []}
        for series in document["history"].values():
            series["rows"] = []
    else:
        name = "a-very-long-name-" * 12 + ".test"
        trouble = {"about": name, "text": f"{name}: {'word ' * 60}", "step": "x" * 300}
        board["attention"] = [
            {**trouble, "level": level, "page": f"certificate/{name}"}
            for level in ("wrong", "look") * 5
        ]
        board["attention_more"] = 33
        board["warnings"] = [
            {"at": 1.8e9, "level": level, "process": "worker 1", "text": name * 3, "times": 9}
            for level in ("warning", "error") * 20
        ]
        first = board["certificates"]["first"][0]
        board["certificates"]["first"] = [{**first, "name": name, "last_error": name}] * 3
        board["backends"] = [{**board["backends"][0], "url": f"http://{name}", "last_error": name}]
    told = f"event: board\ndata: {json.dumps(document)}\n\n"
    for scheme in ("light", "dark"):
        page = chromium.new_page(
            color_scheme=scheme,  # type: ignore[arg-type] # one of the two
            viewport={"width": 390, "height": 800},
        )
        page.route(
            "**/events*",
            lambda route: route.fulfill(body=told, content_type="text/event-stream"),
        )
        page.goto(world.url())
        page.wait_for_selector("#warnings")
        if state == "full":
            page.locator("#more-warnings summary").click()
        assert overflow(page) <= 0, scheme
        assert barriers(page) == [], scheme
        page.close()


def test_charts_move_under_load(world: World, page: Page) -> None:
    page.goto(world.url())
    chart = page.locator('figure[data-chart="Requests a second"] svg')
    expect(chart).to_have_attribute("aria-label", re.compile("Now: "), timeout=WITHIN)
    with world.load():
        expect(chart).to_have_attribute("aria-label", re.compile(r"2xx [1-9]"), timeout=WITHIN)
        drawn = chart.inner_html()
        expect(page.locator("#sites")).to_contain_text("a.test", timeout=WITHIN)
        expect(page.locator("#charts")).to_contain_text("TLSv1.3", timeout=WITHIN)
        end = time.monotonic() + 60
        while chart.inner_html() == drawn:
            assert time.monotonic() < end
            page.wait_for_timeout(250)
        # The figures behind a chart, for who cannot see it.
        figures = page.locator('figure[data-chart="Requests a second"] details')
        figures.locator("summary").click()
        expect(figures.locator("table")).to_contain_text("highest")


def test_what_needs_attention_leads_to_its_page(world: World, page: Page) -> None:
    with world.load():
        page.goto(world.url())
        bad = page.locator("#attention li", has_text="http://127.0.0.1:").first
        expect(bad).to_contain_text("Next: ", timeout=WITHIN)
        link = bad.locator("a")
        name = link.inner_text().removeprefix("More on ")
        link.click()
        expect(page.locator("main")).to_contain_text(f"Backend {name}")
        # And there it stands with its next step again.
        expect(page.locator("#attention li").first).to_contain_text("Next: ")


def _spoilt(value: Any) -> Any:
    """The same document, where every text has markup in it."""
    match value:
        case str() if re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", value):
            return value  # a moment, which no other process writes
        case str():
            return value + EVIL.decode()
        case dict():
            return {key: _spoilt(one) for key, one in value.items()}
        case list():
            return [_spoilt(one) for one in value]
    return value


def _first_event(world: World) -> dict[str, Any]:
    """What a page is told first, with the whole hour."""
    with http(world.admin) as talk:
        talk.says(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        told = b""
        while b"\n\n" not in told.partition(b"data: ")[2]:
            told += talk.sock.recv(65536)
    # A chunk's size may stand within the text.
    text = b"".join(
        piece
        for piece in told.partition(b"\r\n\r\n")[2].split(b"\r\n")
        if not re.fullmatch(rb"[0-9a-f]+", piece)
    )
    document: dict[str, Any] = json.loads(text.partition(b"data: ")[2].partition(b"\n\n")[0])
    return document


def test_nothing_that_is_shown_is_markup(world: World, page: Page) -> None:
    """Whatever CAs, backends and configurations say: here all of it is hostile."""
    document = _first_event(world)
    board = _spoilt(document["board"])
    for one in board["attention"] + board["certificates"]["first"]:
        one["page"] = "site/" + EVIL.decode()
    board["warnings"].append(
        {"at": 2e9, "level": "error", "process": "worker 1", "text": EVIL.decode(), "times": 1}
    )
    forged = json.dumps({**document, "board": board})
    page.route(
        "**/events*",
        lambda route: route.fulfill(
            body=f"event: board\ndata: {forged}\n\n", content_type="text/event-stream"
        ),
    )
    page.goto(world.url())
    expect(page.locator("#warnings")).to_contain_text("onerror")
    assert page.locator("img").count() == 0
    assert "taken" not in page.title()


def test_an_action_asks_and_does(world: World, page: Page) -> None:
    url = f"http://127.0.0.1:{world.backends[0]}"
    page.goto(world.url(f"backend/http%3A%2F%2F127.0.0.1%3A{world.backends[0]}"))
    page.get_by_role("button", name="Drain it").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"Send no new clients to {url}?")
    dialog.get_by_role("button", name="No, leave it").click()
    expect(dialog).to_be_hidden()
    status = {one["url"]: one for one in world.server.status(world.folder / "state")["upstreams"]}
    assert not status[url]["draining"]
    page.get_by_role("button", name="Drain it").click()
    dialog.get_by_role("button", name="Yes").click()
    expect(page.locator("#outcome")).to_contain_text("Done")
    expect(page.get_by_role("button", name="Give it its share again")).to_be_visible(timeout=WITHIN)
    status = {one["url"]: one for one in world.server.status(world.folder / "state")["upstreams"]}
    assert status[url]["draining"]
    # Also in the next generation, whoever asked for that.
    world.server.signal(signal.SIGHUP)
    world.server.await_log("generation 1 has finished")
    status = {one["url"]: one for one in world.server.status(world.folder / "state")["upstreams"]}
    assert status[url]["draining"]
    page.get_by_role("button", name="Give it its share again").click()
    dialog.get_by_role("button", name="Yes").click()
    expect(page.get_by_role("button", name="Drain it")).to_be_visible(timeout=WITHIN)


def test_the_stream_lives_through_a_reload(world: World, page: Page) -> None:
    page.goto(world.url())
    expect(page.locator("#live")).to_have_text("live", timeout=WITHIN)
    before = int(re.search(r"generation (\d+)", page.locator("#facts").inner_text())[1])  # type: ignore[index] # it is there
    page.get_by_role("button", name="Reload the configuration").click()
    page.get_by_role("dialog").get_by_role("button", name="Yes").click()
    expect(page.locator("#outcome")).to_contain_text("Done", timeout=WITHIN)
    expect(page.locator("#facts")).to_contain_text(f"generation {before + 1}", timeout=WITHIN)
    expect(page.locator("#live")).to_have_text("live", timeout=WITHIN)
    # The generation before ends, although it had a stream that would never have ended.
    world.server.await_log(f"generation {before} has finished")
    events = int(page.locator("html").get_attribute("data-events") or 0)
    page.wait_for_selector(EVENT.format(events + 2), state="attached", timeout=WITHIN)


def test_a_reload_that_is_refused_is_told(world: World, page: Page) -> None:
    path = world.folder / "config.yaml"
    good = path.read_text()
    page.goto(world.url())
    try:
        path.write_text(good + "nonsense: 1\n")
        page.get_by_role("button", name="Reload the configuration").click()
        page.get_by_role("dialog").get_by_role("button", name="Yes").click()
        expect(page.locator("#outcome")).to_contain_text("nonsense", timeout=WITHIN)
        expect(page.locator("#attention")).to_contain_text(
            "the last reload was refused", timeout=WITHIN
        )
    finally:
        path.write_text(good)
    page.get_by_role("button", name="Reload the configuration").click()
    page.get_by_role("dialog").get_by_role("button", name="Yes").click()
    expect(page.locator("#outcome")).to_contain_text("Done", timeout=WITHIN)


def test_by_keyboard_and_by_search(world: World, page: Page) -> None:
    page.goto(world.url())
    expect(page.locator("#live")).to_have_text("live", timeout=WITHIN)
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.get_by_label("Find a site, backend or certificate").focus()
    page.keyboard.type("www.a")
    expect(page.locator("#found a").first).to_have_text("www.a.test")
    page.keyboard.press("Enter")
    expect(page.locator("main h2").first).to_be_visible()
    assert page.url.endswith("#/site/www.a.test")
    expect(page.locator("main")).to_be_focused()
    page.goto(world.url("explain"))
    page.get_by_label("Address", exact=True).fill("https://a.test/app/x")
    page.keyboard.press("Enter")
    expect(page.locator("#explained")).to_contain_text("/app/*")
    page.get_by_label("Address", exact=True).fill("nonsense://")
    page.keyboard.press("Enter")
    expect(page.locator("#explained .wrong")).to_be_visible()
    page.goto(world.url("certificate/a.test"))
    expect(page.locator("main pre")).to_contain_text("the built-in CA")
    exact = page.locator("main time").first.get_attribute("title")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", exact or "")


def test_the_stream_lives_through_an_upgrade(world: World, page: Page) -> None:
    """The last one with this server: the process that the test has started ends."""
    with world.load():
        world.await_slot()
    before = world.hour()
    page.goto(world.url())
    expect(page.locator("#facts")).to_contain_text(f"process {world.server.pid}", timeout=WITHIN)
    done = treehouse("upgrade", "--state", str(world.folder / "state"))
    assert done.returncode == 0, done.stderr
    successor = done.stdout.split()[2]
    expect(page.locator("#facts")).to_contain_text(f"process {successor}", timeout=WITHIN)
    expect(page.locator("#live")).to_have_text("live", timeout=WITHIN)
    # The hour goes on where the predecessor has ended, also for whoever opens the page now.
    after = world.hour()
    assert after[: len(before)] == before
    # What the page has drawn of it stays.
    events = int(page.locator("html").get_attribute("data-events") or 0)
    page.wait_for_selector(EVENT.format(events + 2), state="attached", timeout=WITHIN)


def test_a_thousand_sites(folder: Path, chromium: Browser) -> None:
    """The page is there within a second, and what it asks for is bounded."""
    one, two, admin = free_ports(3)
    sites = "\n".join(
        f"  - {{names: [s{n}.test], backend: 'http://127.0.0.1:{20000 + n % 200}'}}"
        for n in range(1000)
    )
    (folder / "config.yaml").write_text(
        f"""
listen: {{http: ["127.0.0.1:{one}"], https: ["127.0.0.1:{two}"]}}
admin: {{listen: "127.0.0.1:{admin}"}}
workers: 1
state: {folder / "state"}
sites:
{sites}
"""
    )
    with Server(["--config", str(folder / "config.yaml")], folder) as server:
        server.await_log("s999.test: certificate obtained", within=120)
        page = chromium.new_page()
        url = f"http://127.0.0.1:{admin}/"
        times = [WITHIN / 1000]
        # Once is enough: a busy machine has quiet moments, a page that takes longer has none.
        while min(times) > 1:
            assert len(times) < 30, times
            begun = time.monotonic()
            page.goto(url)
            page.wait_for_selector("#certificates svg", timeout=WITHIN)
            times.append(time.monotonic() - begun)
        expect(page.locator("#certificates")).to_contain_text("1000 in all")
        page.get_by_label("Find a site, backend or certificate").fill("s77.test")
        page.locator("#found a").first.click()
        expect(page.locator("main")).to_contain_text("http://127.0.0.1:20077")
        # Without actions there is nothing to press.
        assert page.get_by_role("button", name="Reload the configuration").is_hidden()
        page.close()
