"""`explain` and `plan` tell of each key that changes a path, answers, chooses a route or says how
files are sent, and where it stands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.config.load import Options, load
from proxy.supervisor.reload.plan import changes

TEXT = """\
state: {folder}/state
error_pages: {{"5xx": /sorry.html}}
sites:
  - names: [a.test]
    routes:
      - {{path: /api/*, backend: 'http://127.0.0.1:8000', strip_prefix: true}}
      - {{path: /v1/*, backend: 'http://127.0.0.1:8000', rewrite: "/v2/{{rest}}?a={{host}}"}}
      - {{path: /form, methods: [POST], backend: 'http://127.0.0.1:8000', intercept: true}}
      - {{path: /form, methods: [GET], root: {folder}/www, rewrite: /about.html}}
      - {{path: /beta/*, match: {{header: {{X-Beta: "1"}}, query: {{a: b}}, from: [192.0.2.0/24]}}, respond: {{body: beta}}}}
      - {{path: /down/*, respond: {{status: 503, retry_after: 5m, body: Back at noon.}}}}
      - {{path: /files/*, root: {folder}/www, listing: true, extensions: [.html], index: [home.html]}}
      - {{path: /*, root: {folder}/www, fallback: /index.html, cache_control: {{"*": no-cache}}}}
  - names: [b.test]
    redirect: "https://a.test{{path}}"
    status: 302
"""

# What `page` gives for the words of a command.
Page = Callable[..., list[tuple[str, str, str]]]


@pytest.fixture
def config(open_folder: Path) -> Path:
    (open_folder / "www").mkdir()
    for one in ("index.html", "about.html"):
        (open_folder / "www" / one).write_text("hello")
    path = open_folder / "config.yaml"
    path.write_text(TEXT.format(folder=open_folder))
    return path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["https://a.test/api/x?q"], [
            ("route", "/api/*", "6"),
            ("rule", "strip_prefix: true", "6"),
            ("rule", "error_pages: [{codes: [5xx], path: /sorry.html, page_file: null}]", "2"),
            ("rewritten", "/x?q", "6"),
            ("sent on", "GET /x?q HTTP/1.1", ""),
            ("sent on", "x-forwarded-prefix: /api", ""),
        ]),
        (["https://a.test/api/..;/x"], [
            ("answer", "400 The request's path is not valid. (bad_path", ""),
        ]),
        (["https://a.test/v1/x"], [
            ("rewritten", "/v2/x?a=a.test", "7"),
            ("sent on", "GET /v2/x?a=a.test HTTP/1.1", ""),
        ]),
        (["POST", "https://a.test/form"], [
            ("rule", "methods: POST", "8"),
            ("rule", "intercept: true", "8"),
            ("sent on", "POST /form HTTP/1.1", ""),
        ]),
        (["https://a.test/form"], [
            ("rule", "methods: GET", "9"),
            ("rewritten", "/about.html", "9"),
            ("answer", "200, content-type: text/html; charset=utf-8, content-length: 5", ""),
        ]),
        (["PUT", "https://a.test/form"], [("route", "/*", "13")]),
        (["https://a.test/beta/x?a=b", "-H", "X-Beta: 1", "--from", "192.0.2.7"], [
            ("route", "/beta/*", "10"),
            ("rule", "match: {header: [[x-beta, 1]], query: [[a, b]], from_: ", "10"),
            ("answer", "200: 'beta'", "10"),
        ]),
        (["https://a.test/beta/x?a=b", "-H", "X-Beta: 1", "--from", "192.0.3.7"], [
            ("route", "/*", "13"),
        ]),
        (["https://a.test/down/x"], [
            ("answer", "503, Retry-After: 300: 'Back at noon.'", "11"),
        ]),
        (["https://a.test/files/about"], [
            ("rule", "extensions: [.html]", "12"),
            ("rule", "listing: {format: auto, sort: name}", "12"),
            ("file", "about.html", ""),
            ("answer", "200, content-type: text/html; charset=utf-8, content-length: 5", ""),
        ]),
        (["https://a.test/files/", "-H", "Accept: application/json"], [
            ("rule", "index: [home.html]", "12"),
            ("answer", "200, content-type: application/json", ""),
        ]),
        (["https://a.test/deep/route"], [
            ("rule", "fallback: /index.html", "13"),
            ("rule", "cache_control: [[*, no-cache]]", "13"),
            ("file", "index.html", ""),
            ("answer", "200, content-type: text/html; charset=utf-8, content-length: 5", ""),
        ]),
        (["https://a.test/missing.js"], [("answer", "404 There is nothing here.", "")]),
        (["https://b.test/x"], [("answer", "302, Location: https://a.test/x", "15")]),
    ],
    ids=lambda one: one[0] if isinstance(one, list) and isinstance(one[0], str) else "",
)  # fmt: skip
def test_explain_tells_which_way_a_request_takes(
    page: Page, words: list[str], expected: list[tuple[str, str, str]]
) -> None:
    found = page(*words)
    for title, text, place in expected:
        assert any(
            row[0] == title and text in row[1] and (not place or row[2].partition(":")[0] == place)
            for row in found
        ), (title, text, found)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("strip_prefix: true", "strip_prefix: false", "route /api/*: strip_prefix: True → False"),
        ('"/v2/{rest}?a={host}"', "/v3", "route /v1/*: rewrite: /v2/{rest}?a={host} → /v3"),
        ("methods: [POST]", "methods: [PUT]", "site a.test: route PUT /form → http://127.0.0.1:8000 is new"),
        ("methods: [POST]", "methods: [PUT]", "site a.test: route POST /form goes"),
        ('X-Beta: "1"', 'X-Beta: "2"', "route /beta/* where x-beta: 2 and ?a=b and from 192.0.2.0/24"),
        ("intercept: true", "intercept: false", "route POST /form: intercept: True → False"),
        ("status: 503", "status: 500", "site a.test: route /down/* → answers 500"),
        ("listing: true", "listing: json", "route /files/*: listing:"),
        ("extensions: [.html]", "extensions: []", "route /files/*: extensions: ('.html',) → ()"),
        ("index: [home.html]", "index: [x.html]", "route /files/*: index: ('home.html',) → ('x.html',)"),
        ("fallback: /index.html", "fallback: /app.html", "route /*: fallback: /index.html → /app.html"),
        ('{"*": no-cache}', '{"*": no-store}', "route /*: cache_control:"),
        ('"5xx": /sorry.html', "500: /sorry.html", "site a.test: error_pages:"),
        ("status: 302", "status: 307", "site b.test: route /* → 307 to https://a.test{path}"),
    ],
)  # fmt: skip
def test_plan_tells_what_changes(config: Path, old: str, new: str, said: str) -> None:
    before = load(Options(config=config), now_uid=0)
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new, 1))
    told = changes(before, load(Options(config=config), now_uid=0), frozenset())
    assert any(said in line for line in told), told
    assert changes(before, before, frozenset()) == [
        line for line in told if line.startswith("certificate")
    ]


def test_plan_tells_when_routes_of_a_path_change_places(config: Path) -> None:
    before = load(Options(config=config), now_uid=0)
    lines = config.read_text().splitlines(keepends=True)
    lines[7], lines[8] = lines[8], lines[7]
    config.write_text("".join(lines))
    told = changes(before, load(Options(config=config), now_uid=0), frozenset())
    assert "site a.test: routes stand in another order" in told
