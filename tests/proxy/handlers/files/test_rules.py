"""What a route says of its files: indexes, endings, fallback, Cache-Control, 404.html, listings."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config.schema.files import FileRules, Listing
from proxy.errors import Fault
from proxy.handlers.files import file_cache, listing
from proxy.handlers.files.accept import Accept
from proxy.handlers.files.cache_control import CacheControl, is_immutable
from proxy.handlers.files.handler import FileHandler, file_handler
from proxy.handlers.files.listing import Entry
from proxy.handlers.files.listing_page import page
from proxy.handlers.files.pieces import PIECE, Pieces
from proxy.protocol.message import Response
from proxy.protocol.rewritten import Rewritten
from proxy.transport.clock import Clock
from support.http.of_files import body, field, request

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
IMMUTABLE = "public, max-age=31536000, immutable"
KEY = "-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\n"

Make = Callable[..., FileHandler]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "www"
    for name in ("empty", "old", "both", "docs"):
        (made / name).mkdir(parents=True)
    for name in ("index.html", "app.js", "about.html", "both.html", "old/index.htm", "a.txt"):
        (made / name).write_text(name)
    return made


@pytest.fixture
def make(root: Path) -> Iterator[Make]:
    handlers = []

    def made(**rules: object) -> FileHandler:
        handlers.append(file_handler(root, Clock(), FileRules(**rules)))  # type: ignore[arg-type]
        return handlers[-1]

    yield made
    for one in handlers:
        one.close()


async def ask(
    handler: FileHandler, target: bytes, method: bytes = b"GET", **fields: str
) -> Response:
    """The response, as the service makes it of a fault as well."""
    try:
        answer = handler.handle(request(target, method, **fields))
        return answer if isinstance(answer, Response) else await answer
    except Fault as fault:
        if isinstance(fault.page, Response):
            return fault.page
        return Response(fault.what.status, fault.fields, fault.kind.encode(), error=fault.kind)


# Indexes and endings


async def test_the_first_index_that_is_there_is_sent(make: Make) -> None:
    handler = make(index=("home.html", "index.html", "index.htm"))
    for _ in range(2):
        assert body(await ask(handler, b"/")) == b"index.html"
        assert body(await ask(handler, b"/old/")) == b"old/index.htm"
    assert (await ask(handler, b"/empty/")).error == "no_index"
    assert (await ask(handler, b"/old")).status == 308
    assert (await ask(make(index=()), b"/")).error == "no_index"


async def test_an_ending_may_be_left_out(make: Make) -> None:
    handler = make(extensions=(".html",))
    for target, said in [
        (b"/about", b"about.html"), (b"/about.html", b"about.html"), (b"/app.js", b"app.js"),
        (b"/both", b"both.html"), (b"/%61bout?x", b"about.html"),
    ]:  # fmt: skip
        for _ in range(2):
            response = await ask(handler, target)
            assert (response.status, body(response)) == (200, said)
    assert field(await ask(handler, b"/about"), "content-type") == "text/html; charset=utf-8"
    tag = field(await ask(handler, b"/about"), "etag")
    assert (await ask(handler, b"/about", if_none_match=str(tag))).status == 304
    assert (await ask(handler, b"/about", range="bytes=0-1")).status == 206
    for target in (b"/about/", b"/nothing", b"/.secret"):
        assert (await ask(handler, target)).status == 404


@dataclass
class Hands:
    """A clock that a test sets."""

    now: float = 1000.0
    unix: float = 2e9


async def test_what_was_guessed_is_good_for_a_second(root: Path) -> None:
    clock = Hands()
    rules = FileRules(index=("home.html", "index.html"), extensions=(".html",))
    handler = file_handler(root, clock, rules)  # type: ignore[arg-type] # hands that are set
    for target, said in [(b"/about", b"about.html"), (b"/", b"index.html")]:
        for _ in range(3):
            assert body(await ask(handler, target)) == said
    (root / "about").write_text("itself")
    (root / "home.html").write_text("home")
    clock.now += 1.5
    for target, said in [(b"/about", b"itself"), (b"/", b"home"), (b"/a.txt", b"a.txt")]:
        for _ in range(3):
            assert body(await ask(handler, target)) == said
    (root / "about").unlink()
    (root / "about.html").unlink()
    clock.now += 1.5
    assert (await ask(handler, b"/about")).status == 404
    handler.close()


# Single-page apps


@pytest.mark.parametrize(
    ("target", "accept", "status"),
    [
        (b"/deep/route", BROWSER, 200),
        (b"/user/jane.doe", BROWSER, 200),
        (b"/empty/", BROWSER, 200),
        (b"/.env", BROWSER, 200),
        (b"/deep/route", "*/*", 200),
        (b"/deep/route", None, 200),
        (b"/missing.js", "*/*", 404),
        (b"/missing.js", None, 404),
        (b"/missing.png", "image/avif,image/webp,*/*;q=0.8", 404),
        (b"/missing.css", "text/css,*/*;q=0.1", 404),
        (b"/api/things", "application/json", 404),
        (b"/deep/route", "application/json, text/html;q=0", 404),
        (b"/deep/route", "text/*", 200),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_a_page_that_no_file_takes_is_the_app(
    make: Make, target: bytes, accept: str | None, status: int, method: bytes
) -> None:
    handler = make(fallback="/index.html")
    fields = {} if accept is None else {"accept": accept}
    for _ in range(2):
        response = await ask(handler, target, method, **fields)
        assert response.status == status
        assert (body(response) == b"index.html") == (status == 200)
        assert field(response, "vary") == "accept"
        plain = await ask(handler, b"/index.html", method, **fields)
        assert field(plain, "vary") is None


async def test_the_app_has_its_validators_and_other_methods_are_refused(make: Make) -> None:
    handler = make(fallback="/index.html", cache_control=(("*.html", "no-cache"),))
    response = await ask(handler, b"/deep", accept=BROWSER)
    assert field(response, "cache-control") == "no-cache"
    tag = str(field(response, "etag"))
    again = await ask(handler, b"/other", accept=BROWSER, if_none_match=tag)
    assert again.status == 304
    assert field(again, "cache-control") == "no-cache"
    assert (await ask(handler, b"/deep", b"POST", accept=BROWSER)).status == 405
    with pytest.raises(Fault, match="bad_path"):
        handler.handle(request(b"/../x", accept=BROWSER))


async def test_a_large_app_that_is_immutable_varies_once(make: Make, root: Path) -> None:
    (root / "large.html").write_bytes(b"x" * (file_cache.SMALL + 1))
    handler = make(fallback="/large.html", cache_control=(("*", IMMUTABLE),))
    for _ in range(2):
        response = await ask(handler, b"/deep", accept=BROWSER)
        assert [value for name, value in response.fields if name == b"vary"] == [b"accept"]
        assert len(body(response)) == file_cache.SMALL + 1


async def test_a_fallback_that_is_missing_is_told(make: Make) -> None:
    handler = make(fallback="/nowhere.html")
    with pytest.raises(Fault, match=r"nowhere\.html does not exist") as caught:
        handler.handle(request(b"/deep", accept=BROWSER))
    assert caught.value.kind == "unreadable"


# Cache-Control


async def test_the_first_pattern_that_fits_says_how_long_a_file_is_kept(
    make: Make, root: Path
) -> None:
    handler = make(
        cache_control=(("/docs/*", "private"), ("*.css,*.js", IMMUTABLE), ("*", "no-cache"))
    )
    (root / "docs/x.js").write_text("x")
    for target, said in [(b"/app.js", IMMUTABLE), (b"/", "no-cache"), (b"/docs/x.js", "private")]:
        for _ in range(2):
            assert field(await ask(handler, target), "cache-control") == said
    for fields in ({"range": "bytes=0-1"}, {"if_none_match": "*"}):
        response = await ask(handler, b"/app.js", **fields)
        assert field(response, "cache-control") == IMMUTABLE
    assert field(await ask(make(), b"/app.js"), "cache-control") is None


@pytest.mark.parametrize("size", [10, file_cache.SMALL + 1])
async def test_what_is_immutable_has_a_tag_of_its_content(
    make: Make, root: Path, size: int
) -> None:
    handler = make(cache_control=(("*.js", IMMUTABLE),))
    path = root / "large.js"
    path.write_bytes(b"x" * size)
    tag = field(await ask(handler, b"/large.js"), "etag")
    assert tag == f'"{hashlib.sha256(b"x" * size).hexdigest()[:32]}"'
    other = make(cache_control=(("*.js", IMMUTABLE),))
    path.unlink()
    path.write_bytes(b"x" * size)  # another file, another time, the same content
    os.utime(path, (1, 1))
    response = await ask(other, b"/large.js", if_none_match=str(tag))
    assert response.status == 304
    path.write_bytes(b"y" * size)
    assert field(await ask(make(cache_control=(("*.js", IMMUTABLE),)), b"/large.js"), "etag") != tag
    whole = await ask(other, b"/large.js", range="bytes=1-2", if_range=str(tag))
    assert whole.status in (200, 206)
    assert len(body(whole)) in (2, size)
    (root / "large.js.gz").write_bytes(b"z" * size)
    coded = await ask(make(cache_control=(("*.js", IMMUTABLE),)), b"/large.js",
                      accept_encoding="gzip")  # fmt: skip
    assert field(coded, "etag") == f'"{hashlib.sha256(b"z" * size).hexdigest()[:32]}"'


async def test_who_waits_for_another_ones_hash_keeps_no_file_open(make: Make, root: Path) -> None:
    (root / "large.js").write_bytes(b"x" * (file_cache.SMALL + 1))
    handler = make(cache_control=(("*.js", IMMUTABLE),))
    await ask(make(cache_control=(("*.js", IMMUTABLE),)), b"/large.js")  # threads have begun
    before = len(os.listdir("/proc/self/fd"))
    responses = await asyncio.gather(*(ask(handler, b"/large.js") for _ in range(20)))
    assert {len(body(one)) for one in responses} == {file_cache.SMALL + 1}
    assert len(os.listdir("/proc/self/fd")) == before + 1, "the file itself, once for all"


def test_patterns_are_for_names_or_for_paths() -> None:
    rules = CacheControl((("/assets/*", "a"), ("*.js", "b"), ("x[0-9].txt", "c")))
    assert rules.of(b"assets/deep/x.js") == b"a"
    assert rules.of(b"other/assets/x.js") == b"b"
    assert rules.of(b"x1.txt") == b"c"
    assert rules.of(b"X1.TXT") == b""
    assert is_immutable(b"public, Immutable")
    assert not is_immutable(b"public, x=immutable")


# 404.html


async def test_the_root_has_a_page_for_what_is_not_there(make: Make, root: Path) -> None:
    handler = make()
    assert body(await ask(handler, b"/nothing")) == b"not_found"
    (root / "404.html").write_text("<p>not here</p>")
    handler = make(cache_control=(("*", IMMUTABLE),))
    for target in (b"/nothing", b"/empty/", b"/.hidden", b"/docs/nothing"):
        for method in (b"GET", b"HEAD"):
            response = await ask(handler, target, method, range="bytes=0-1", if_none_match="*")
            assert (response.status, body(response)) == (404, b"<p>not here</p>")
            assert field(response, "content-type") == "text/html; charset=utf-8"
            assert field(response, "etag") is None
            assert field(response, "cache-control") is None
    assert (await ask(handler, b"/404.html")).status == 200
    (root / "404.html").write_bytes(b"x" * (file_cache.SMALL + 1))
    assert len(body(await ask(make(), b"/nothing"))) == file_cache.SMALL + 1


# Rewritten paths


async def test_a_rewritten_folder_leads_to_the_clients_own_path(make: Make) -> None:
    handler = make()
    client = request(b"/elsewhere?a=b")
    answer = handler.handle(Rewritten(client, b"/old?a=b"))
    assert isinstance(answer, Response)
    assert (answer.status, field(answer, "location")) == (308, "/elsewhere/?a=b")
    answer = make(index=("index.htm",)).handle(Rewritten(request(b"/elsewhere/"), b"/old"))
    assert isinstance(answer, Response)
    assert (answer.status, body(answer)) == (200, b"old/index.htm")


# Listings


class Links(HTMLParser):
    """What a page links to, and whether it could do anything."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.found += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.text += data


def names(response: Response) -> list[str]:
    return [one["name"] for one in json.loads(body(response))]


LISTED = {"listing": Listing("auto")}


async def test_a_folder_without_index_is_listed_for_people_and_programs(
    make: Make, root: Path
) -> None:
    handler = make(**LISTED)
    (root / "docs/inner").mkdir()
    (root / "docs/<b>&.txt").write_text("12345")
    os.utime(root / "docs/<b>&.txt", (86400, 86400))
    assert body(await ask(handler, b"/")) == b"index.html"
    assert (await ask(handler, b"/docs")).status == 308
    response = await ask(handler, b"/docs/", accept=BROWSER)
    assert response.status == 200
    assert field(response, "content-type") == "text/html; charset=utf-8"
    assert field(response, "vary") == "accept"
    shown = Links(body(response).decode())
    assert {"../", "inner/", "%3Cb%3E&.txt"} <= set(shown.found)
    assert "<b>&.txt" in shown.text
    assert not shown.tags & {"script", "b", "form", "img"}
    found = json.loads(body(await ask(handler, b"/docs/", accept="application/json")))
    assert found == [
        {"name": "inner", "url": "inner/", "type": "directory", "size": None,
         "modified": found[0]["modified"]},
        {"name": "<b>&.txt", "url": "%3Cb%3E&.txt", "type": "file", "size": 5,
         "modified": "1970-01-02T00:00:00Z"},
    ]  # fmt: skip
    tag = str(field(response, "etag"))
    assert (await ask(handler, b"/docs/", accept=BROWSER, if_none_match=tag)).status == 304
    assert (await ask(handler, b"/docs/", b"HEAD", accept=BROWSER)).status == 200
    assert (await ask(make(), b"/docs/")).error == "no_index"


async def test_a_listing_can_be_of_one_kind(make: Make) -> None:
    page = make(listing=Listing("html"))
    assert field(await ask(page, b"/docs/", accept="application/json"), "vary") is None
    data = make(listing=Listing("json"))
    assert field(await ask(data, b"/docs/", accept=BROWSER), "content-type") == "application/json"


async def test_a_listing_is_sorted_by_the_query(make: Make, root: Path) -> None:
    for number, name in enumerate(["b", "A", "c"]):
        (root / "docs" / name).write_bytes(b"x" * (3 - number))
        os.utime(root / "docs" / name, (number, number))
    (root / "docs/z").mkdir()
    handler = make(**LISTED)
    for query, order in [
        (b"", "z A b c"), (b"?sort=name&order=desc", "z c b A"), (b"?sort=size", "z c A b"),
        (b"?sort=time&order=desc", "z c A b"), (b"?sort=nonsense&order=x", "z A b c"),
        (b"?sort=size&order=desc", "z b A c"),
    ]:  # fmt: skip
        response = await ask(handler, b"/docs/" + query, accept="application/json")
        assert names(response) == order.split()
    shown = body(await ask(handler, b"/docs/?sort=size&order=asc", accept=BROWSER)).decode()
    assert 'aria-sort="ascending"' in shown
    assert "?sort=size&amp;order=desc" in shown
    usual = make(listing=Listing("json", "time"))
    assert names(await ask(usual, b"/docs/")) == ["z", "b", "A", "c"]


async def test_nothing_is_listed_that_is_not_sent(make: Make, root: Path, tmp_path: Path) -> None:
    docs = root / "docs"
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/x").write_text("x")
    (docs / "seen.txt").write_text("seen")
    (docs / "in.txt").symlink_to("seen.txt")
    (docs / ".hidden").write_text("x")
    (docs / ".git").mkdir()
    (docs / "key.pem").write_text(KEY)
    (docs / "key-link").symlink_to("key.pem")
    (docs / "out.txt").symlink_to("/etc/passwd")
    (docs / "up").symlink_to("../../outside")
    (docs / "broken").symlink_to("nowhere")
    (docs / "sneaky").symlink_to(".hidden")
    (docs / "web").symlink_to("https://example.org/")
    (docs / "back\\slash").write_text("x")
    (docs / "öffentlich.txt").write_text("x")
    os.mkfifo(docs / "fifo")
    handler = make(**LISTED)
    response = await ask(handler, b"/docs/", accept="application/json")
    assert names(response) == ["in.txt", "seen.txt", "öffentlich.txt"]
    for one in json.loads(body(await ask(handler, b"/docs/", accept="application/json"))):
        assert (await ask(handler, b"/docs/" + one["url"].encode())).status == 200
    (docs / "later.txt").write_text(KEY)
    fresh = make(**LISTED)
    assert "later.txt" not in names(await ask(fresh, b"/docs/", accept="application/json"))


async def test_a_large_folder_is_listed_within_a_bound(
    make: Make, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MOST", 10)
    for number in range(15):
        (root / f"docs/{number}").write_text("x")
    shown = body(await ask(make(**LISTED), b"/docs/", accept=BROWSER)).decode()
    assert shown.count("<tr>") == 12  # and the heads, and what is above
    assert "There is more" in shown


async def test_a_long_listing_is_sent_in_pieces(make: Make, root: Path) -> None:
    for number in range(1500):
        (root / f"docs/a-file-with-a-name-{number}").write_text("x")
    response = await ask(make(**LISTED), b"/docs/", accept="application/json")
    assert isinstance(response.body, Pieces)
    assert response.body.length is not None
    assert response.body.length > PIECE
    assert len(names(response)) == 1500


async def test_a_folder_is_looked_at_once_a_second_whoever_asks(
    make: Make, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make(**LISTED)
    looked = []
    before = handler._root.open_folder
    monkeypatch.setattr(
        handler._root, "open_folder", lambda path: looked.append(path) or before(path)
    )
    for _ in range(5):
        await ask(handler, b"/docs/", accept=BROWSER)
        await ask(handler, b"/docs/?sort=size", accept="application/json")
    assert len(looked) == 1


@given(
    name=st.binary(min_size=1, max_size=40).filter(
        lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
    )
)
@settings(max_examples=60, deadline=None)
async def test_every_link_of_a_listing_leads_to_its_file(
    name: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("listed")
    (root / os.fsdecode(name)).write_bytes(b"found")
    handler = FileHandler(root, Clock(), FileRules(listing=Listing("auto"), index=()))
    try:
        entries = json.loads(body(await ask(handler, b"/", accept="application/json")))
        links = Links(body(await ask(handler, b"/", accept=BROWSER)).decode())
        files = [one for one in links.found if not one.startswith("?")]
        assert [one["url"] for one in entries] == files
        for one in files:
            assert unquote_to_bytes(one.removeprefix("./")) == name
            response = await ask(handler, b"/" + one.removeprefix("./").encode())
            assert (response.status, body(response)) == (200, b"found")
    finally:
        handler.close()
        (root / os.fsdecode(name)).unlink()
        root.rmdir()


def test_a_page_cannot_be_broken_by_a_name() -> None:
    bad = '"><script>alert(1)</script>'
    text = page(bad, [Entry(bad, "x", False, 1, 10**18)], "name", "asc", above=True, cut=False)
    assert b"<script" not in text
    assert Links(text.decode()).tags.isdisjoint({"script"})


# Accept


@pytest.mark.parametrize(
    ("field", "html", "json"),
    [
        (b"", 1.0, 1.0),
        (b"*/*", 1.0, 1.0),
        (b"application/json", 0.0, 1.0),
        (b"text/html;q=0.5, application/json;q=0.9", 0.5, 0.9),
        (b"TEXT/HTML", 1.0, 0.0),
        (b"text/*;q=0.3", 0.3, 0.0),
        (b"text/html;q=0, */*", 0.0, 1.0),
        (b"text/html;q=nonsense", 0.0, 0.0),
        (b"nonsense", 1.0, 1.0),
    ],
)
def test_accept_says_how_much_a_type_is_wanted(field: bytes, html: float, json: float) -> None:
    accept = Accept([field])
    assert accept.quality(b"text/html") == html
    assert accept.quality(b"application/json") == json


@given(st.binary(max_size=3000))
def test_no_accept_field_is_too_much(field: bytes) -> None:
    began = time.process_time()
    assert 0.0 <= Accept([field]).quality(b"text/html") <= 1.0
    assert time.process_time() - began < 1
    assert re.fullmatch(r"[01](\.\d+)?", str(Accept([field]).named(b"text/html")))
