"""Folders and single-page apps at the real program, with the clients that people use: Chromium on a
phone, curl, wget, git."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.http.chromium import Chromium
from support.http.client import Answer, https
from support.program.ports import free_ports
from support.program.server import Server

BROWSER = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n"
KEY = "-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\n"
LONG = "a-name-that-is-much-too-long-for-one-line-of-a-phone-" * 4 + ".txt"
APP = """\
<!DOCTYPE html><html><head><meta charset="utf-8"><title>app</title></head><body>
<a id="go" href="/users/7">to a user</a><p id="shown"></p>
<script src="/assets/app.js"></script></body></html>
"""
SCRIPT = """\
function show() { document.getElementById('shown').textContent = 'at ' + location.pathname }
document.getElementById('go').addEventListener('click', (event) => {
  event.preventDefault(); history.pushState({}, '', '/users/7'); show() })
addEventListener('popstate', show)
show()
"""
CONFIG = """\
state: {folder}/state
admin: null
listen: {{http: ['127.0.0.1:{one}'], https: ['127.0.0.1:{two}']}}
sites:
  - names: [list.test]
    root: {folder}/list
    listing: true
    headers: {{security: strict}}
  - names: [spa.test]
    root: {folder}/spa
    fallback: /index.html
    extensions: [.html]
    cache_control: {{"/assets/*": "public, max-age=31536000, immutable", "*": "no-cache"}}
  - names: [repo.test]
    root: {folder}/repo
  - names: [page.test]
    root: {folder}/page
    compress: false
  - names: [php.test]
    root: {folder}/php
    fastcgi: {{url: 'unix:{folder}/php.sock', front_controller: false}}
    listing: true
    error_pages: {{502: /sorry.html}}
    cache_control: {{"*": no-cache}}
"""


@dataclass
class Place:
    folder: Path
    port: int
    server: Server

    @property
    def ca(self) -> Path:
        return self.folder / "state/internal-ca/root.pem"

    def asks(self, host: str, target: str, fields: str = "", method: str = "GET") -> Answer:
        with https(self.port, host, self.ca) as talk:
            return talk.asks(target, host, method, fields)

    def runs(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A client, for which the names lead here."""
        return subprocess.run(
            words, capture_output=True, text=True, timeout=120, check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
        )  # fmt: skip


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    for name in ("list/docs/inner", "list/closed", "spa/assets", "repo", "page/empty"):
        (folder / name).mkdir(parents=True)
    docs = folder / "list/docs"
    for name in ("a.txt", LONG, "tabelle für später.csv", "inner/deep.txt"):
        (docs / name).write_text(f"this is {name}")
    (docs / "big.bin").write_bytes(bytes(3_000_000))
    (docs / ".hidden").write_text("never")
    (docs / "unreadable.txt").write_text("never")
    (docs / "unreadable.txt").chmod(0o600)
    (docs / "unreadable").mkdir(mode=0o700)
    (docs / "key.pem").write_text(KEY)
    (docs / "out.txt").symlink_to("/etc/passwd")
    (folder / "list/closed").chmod(0o711)
    (folder / "list/many").mkdir()
    for number in range(1500):
        (folder / f"list/many/a-file-with-a-long-name-{number}").touch()
    (folder / "repo/404.html").write_text("<h1>lost</h1>" * 200)
    (folder / "spa/index.html").write_text(APP)
    (folder / "spa/imprint.html").write_text("imprint")
    (folder / "spa/assets/app.js").write_text(SCRIPT)
    for name in ("show.php", "config.php.bak", "config.php~", "old.phps", "a.txt", "sorry.html",
                 "404.html", "show.php.gz", "show.php.zip"):  # fmt: skip
        (folder / "php").mkdir(exist_ok=True)
        (folder / "php" / name).write_text(f"this is {name}")
    for link, target in {"run.txt": "show.php", "again.php": "show.php", "none.php": "a.txt",
                         "b.txt": "a.txt", "packed": "show.php.gz"}.items():  # fmt: skip
        (folder / "php" / link).symlink_to(target)
    (folder / "page/404.html").write_text("<h1>lost</h1>" * 100)
    (folder / "page/index.html").write_text("home")
    one, two = free_ports(2)
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(folder=folder, one=one, two=two))
    try:
        with Server(["--config", str(config)], folder) as server:
            for name in ("list", "spa", "repo", "page", "php"):
                server.await_log(f"{name}.test: certificate obtained")
            yield Place(folder, two, server)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def browser(place: Place) -> Iterator[Chromium]:
    with Chromium(place.folder, place.port, [place.ca]) as made:
        made.calls(
            "Emulation.setDeviceMetricsOverride",
            width=390, height=844, deviceScaleFactor=2, mobile=True,
        )  # fmt: skip
        yield made


def test_a_listing_names_what_the_servers_user_may_send(place: Place) -> None:
    answer = place.asks("list.test", "/docs/", "Accept: application/json\r\n")
    assert answer["content-type"] == "application/json"
    found = {one["name"] for one in json.loads(answer.body)}
    assert found == {"a.txt", LONG, "tabelle für später.csv", "inner", "big.bin"}
    assert "closed" not in place.asks("list.test", "/", BROWSER).body.decode()
    closed = place.asks("list.test", "/closed/", BROWSER)
    assert closed.status == 404
    place.server.await_log("may not read .*closed")


def test_a_listing_is_readable_on_a_phone(place: Place, browser: Chromium) -> None:
    for query in ("", "?sort=size&order=desc"):
        browser.visit(f"https://list.test/docs/{query}")
        sizes = browser.does(
            "[document.documentElement.scrollWidth, innerWidth,"
            " ...[...document.querySelectorAll('a')].map(a => a.getBoundingClientRect().right)]"
        )
        assert sizes[1] == 390
        assert max(sizes) <= 390, sizes
        styled = browser.does("getComputedStyle(document.querySelector('table')).borderCollapse")
        assert styled == "collapse"  # the style is let through by the page's own policy
        letters = browser.does("parseFloat(getComputedStyle(document.querySelector('a')).fontSize)")
        assert letters >= 16
        assert browser.does("document.querySelectorAll('script').length") == 0


def test_a_listing_is_sorted_by_a_click_and_dark_at_night(place: Place, browser: Chromium) -> None:
    browser.visit("https://list.test/docs/")
    link = browser.does("[...document.querySelectorAll('th a')].map(a => a.href)[1]")
    browser.visit(link)
    order = browser.does("[...document.querySelectorAll('td a')].map(a => a.textContent)")
    assert order[:2] == ["../", "inner/"]
    assert order[-1] == "big.bin"
    browser.visit(browser.does("[...document.querySelectorAll('th a')].map(a => a.href)[1]"))
    order = browser.does("[...document.querySelectorAll('td a')].map(a => a.textContent)")
    assert order[2] == "big.bin"
    colours = []
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.calls("Emulation.setEmulatedMedia", features=features)
        browser.visit("https://list.test/docs/")
        colours.append(browser.does("getComputedStyle(document.querySelector('td')).color"))
    assert colours == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]


def test_wget_takes_a_whole_folder(place: Place) -> None:
    target = place.folder / "wget"
    done = place.runs(
        "unshare", "-m", "sh", "-c",
        'echo "127.0.0.1 list.test" > "$1"; mount --bind "$1" /etc/hosts; shift; exec "$@"', "sh",
        str(place.folder / "hosts"),
        "wget", "-q", "-r", "-np", "-nH", "-R", "index.html*", "--ca-certificate", str(place.ca),
        "-P", str(target), f"https://list.test:{place.port}/docs/",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    taken = {str(one.relative_to(target)) for one in target.rglob("*") if one.is_file()}
    assert taken == {
        "docs/a.txt", f"docs/{LONG}", "docs/tabelle für später.csv", "docs/inner/deep.txt",
        "docs/big.bin",
    }  # fmt: skip
    assert (target / "docs/inner/deep.txt").read_text() == "this is inner/deep.txt"


@pytest.mark.parametrize("folder", ["docs", "many"])
def test_curl_gets_a_listing_compressed_and_in_part(place: Place, folder: str) -> None:
    curl = (
        "curl", "-sS", "--cacert", str(place.ca), "--resolve", f"list.test:{place.port}:127.0.0.1",
        f"https://list.test:{place.port}/{folder}/",
    )  # fmt: skip
    plain = place.runs(*curl)
    assert plain.stdout.endswith("</html>\n")
    assert plain.stdout.count("<tr>") == (7 if folder == "docs" else 1502)
    for more in (["--compressed"], ["--http1.1"], ["-r", "0-9"], ["--http1.1", "--compressed"]):
        assert place.runs(*curl, *more).stdout == plain.stdout
    for more in ("--http1.1", "--http2"):
        head = place.runs(*curl, "-I", more)
        assert f"content-length: {len(plain.stdout.encode())}" in head.stdout


def test_the_page_for_what_is_missing_is_compressed_once(place: Place) -> None:
    for name in ("a", "b", "a"):
        answer = place.asks("repo.test", f"/{name}", "Accept-Encoding: gzip\r\n")
        assert (answer.status, answer["content-encoding"]) == (404, "gzip")
        assert gzip.decompress(answer.body) == b"<h1>lost</h1>" * 200
        plain = place.asks("repo.test", f"/{name}")
        assert (plain.status, plain.body) == (404, b"<h1>lost</h1>" * 200)
        line = place.server.await_access(target=f"/{name}", error="not_found")
        assert line["handler"] == "error"


def test_git_clones_over_dumb_http(place: Place) -> None:
    bare, work = place.folder / "repo/project.git", place.folder / "work"
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.test", "-c", "init.defaultBranch=main")
    (place.folder / "source").mkdir()
    (place.folder / "source/file.txt").write_text("content")
    source = str(place.folder / "source")
    for words in (
        ("-C", source, "init", "-q"), ("-C", source, "add", "."),
        ("-C", source, "commit", "-q", "-m", "first"), ("clone", "-q", "--bare", source, str(bare)),
        ("-C", str(bare), "update-server-info"),
    ):  # fmt: skip
        done = place.runs(*git, *words)
        assert done.returncode == 0, done.stderr
    done = place.runs(
        *git, "-c", f"http.sslCAInfo={place.ca}",
        "-c", f"http.curloptResolve=repo.test:{place.port}:127.0.0.1",
        "clone", "-q", f"https://repo.test:{place.port}/project.git", str(work),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (work / "file.txt").read_text() == "content"


def test_a_single_page_app_is_found_at_all_its_addresses(place: Place, browser: Chromium) -> None:
    browser.visit("https://spa.test/")
    assert browser.does("document.getElementById('shown').textContent") == "at /"
    browser.does("document.getElementById('go').click()")
    assert browser.does("document.getElementById('shown').textContent") == "at /users/7"
    browser.visit("https://spa.test/users/7")  # as if it were loaded anew
    assert browser.does("document.getElementById('shown').textContent") == "at /users/7"
    assert browser.answer("/users/7")["status"] == 200
    browser.does("(async () => { history.pushState({}, '', '/x'); history.back() })()")
    missing = "(await fetch('/assets/old.js')).status"
    assert browser.does(missing) == 404
    assert browser.does("(await fetch('/imprint').then(r => r.text()))") == "imprint"


def test_what_an_app_is_made_of_is_kept_as_long_as_it_says(place: Place) -> None:
    script = place.asks("spa.test", "/assets/app.js")
    assert script["cache-control"] == "public, max-age=31536000, immutable"
    assert len(script["etag"]) == 34
    for target in ("/", "/deep/route"):
        answer = place.asks("spa.test", target, BROWSER)
        assert (answer.status, answer["cache-control"]) == (200, "no-cache")
        again = place.asks("spa.test", target, f"{BROWSER}If-None-Match: {answer['etag']}\r\n")
        assert (again.status, again.body) == (304, b"")


def test_the_root_has_its_own_page_for_what_is_missing(place: Place) -> None:
    for target in ("/nothing", "/empty/", "/.git/config"):
        answer = place.asks("page.test", target)
        assert (answer.status, answer.body) == (404, b"<h1>lost</h1>" * 100)
        assert answer["content-type"] == "text/html; charset=utf-8"
        head = place.asks("page.test", target, method="HEAD")
        assert (head.status, head["content-length"]) == (404, "1300")
    place.server.await_log("no_index: .*page/empty")


def test_files_beside_scripts_have_the_same_rules(place: Place) -> None:
    """PHP-FPM is not there: what does not need it works, its page for errors among it."""
    listed = json.loads(place.asks("php.test", "/", "Accept: application/json\r\n").body)
    names = [one["name"] for one in listed]
    assert names == ["404.html", "a.txt", "again.php", "b.txt", "show.php", "sorry.html"]
    assert place.asks("php.test", "/a.txt")["cache-control"] == "no-cache"
    for target in ("/nothing", "/config.php.bak", "/old.phps", "/nothing/", "/show.php.gz",
                   "/run.txt", "/none.php", "/packed"):  # fmt: skip
        answer = place.asks("php.test", target)
        assert (answer.status, answer.body) == (404, b"this is 404.html")
    answer = place.asks("php.test", "/show.php")
    assert (answer.status, answer.body) == (502, b"this is sorry.html")
