"""Keys that change paths, answer, choose routes or say how files are sent: what is taken, what is
refused with the way out, and what an inner level inherits."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli.main import program
from proxy.config import model
from proxy.config.load import Options, load
from proxy.config.schema.answers import ErrorPage
from proxy.config.schema.site import responds


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        path = Path(name)
        path.chmod(0o755)
        (path / "www").mkdir()
        (path / "sorry.html").write_text("sorry")
        (path / "large.html").write_bytes(bytes(1024 * 1024 + 1))
        (path / "closed").mkdir(mode=0o711)
        (path / "office.txt").write_text("192.0.2.0/24\n")
        yield path


def config(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(f"state: {folder}/state\n{text.replace('FOLDER', str(folder))}\n")
    return path


def check(folder: Path, text: str) -> tuple[int, str]:
    done = CliRunner().invoke(program, ["check", "--config", str(config(folder, text))])
    return done.exit_code, done.stderr + done.stdout


FILES = "sites: [{names: a.test, root: FOLDER/www, RULE}]"
APP = "sites: [{names: a.test, backend: 'http://127.0.0.1:3000', RULE}]"
TWO = "sites: [{{names: a.test, routes: [{}, {}]}}]"
ROUTE = "sites: [{names: a.test, routes: [{path: /x/*, backend: 'http://127.0.0.1:3000', RULE}]}]"


@pytest.mark.parametrize(
    ("around", "rule", "said"),
    [
        (APP, "strip_prefix: true", ""),
        (APP, "strip_prefix: maybe", "neither true nor false"),
        (APP, 'rewrite: "/new/{rest}"', ""),
        (APP, "rewrite: new", "does not start with a slash"),
        (APP, 'rewrite: "/{uri}"', "write {path}"),
        (APP, 'rewrite: "https://b.test/"', "another address"),
        (APP, "respond: 503", ""),
        (APP, "respond: {status: 503, body: Back at noon., retry_after: 5m}", ""),
        (APP, "respond: off", ""),
        (APP, "respond: 302", "write redirect"),
        (APP, "respond: 101", "from 200 to 599"),
        (APP, "respond: {body: [a]}", "a text belongs here"),
        (APP, "respond: {status: 200, content_type: html}", "no media type"),
        (APP, 'respond: {content_type: "text/html\\r\\nSet-Cookie: a"}', "characters"),
        (APP, "respond: {retry_after: tomorrow}", "retry_after"),
        (APP, "respond: {code: 503}", "code"),
        (APP, "error_pages: {404: /404.html, '5xx': /5xx.html, '502,503': /down.html}", ""),
        (APP, "error_pages: {404: FOLDER/sorry.html}", ""),
        (APP, "error_pages: {404: 'file:sorry.html'}", ""),
        (APP, "error_pages: {404: 'file:missing.html'}", "missing.html does not exist"),
        (APP, "error_pages: {404: 'file:www'}", "is not a file"),
        (APP, "error_pages: {404: FOLDER/large.html}", "larger than 1 MiB"),
        (APP, "error_pages: {404: 'file:'}", "names no file"),
        (APP, "error_pages: {404: 404.html}", "does not start with a slash"),
        (APP, "error_pages: {404: /../x}", "dot segments"),
        (APP, "error_pages: {200: /x}", "no statuses of errors"),
        (APP, "error_pages: {'3xx': /x}", "no statuses of errors"),
        (APP, "error_pages: {'404,404x': /x}", "no statuses of errors"),
        (APP, "error_pages: {404: /a, '403,404': /b}", "404 stands here twice"),
        (APP, "error_pages: [/404.html]", "a mapping of STATUS: PAGE"),
        (APP, "error_pages: {404: [/a]}", "a single page"),
        (FILES, "index: [home.html, index.htm]", ""),
        (FILES, "index: sub/index.html", "not the name of a file"),
        (FILES, "index: .hidden", "never sent"),
        (FILES, "listing: true", ""),
        (FILES, "listing: json", ""),
        (FILES, "listing: {format: html, sort: time}", ""),
        (FILES, "listing: perhaps", "neither true nor false"),
        (FILES, "listing: {sort: colour}", "colour"),
        (FILES, "fallback: /index.html", ""),
        (FILES, "fallback: index.html", "does not start with a slash"),
        (FILES, "fallback: /*", "name one page"),
        (FILES, "extensions: [.html, .tar.gz]", ""),
        (FILES, "extensions: html", "write it like .html"),
        (FILES, 'cache_control: {"*.css,*.js": "max-age=60", "/a/*": no-store, "*": no-cache}', ""),
        (FILES, 'cache_control: {"a/*": no-cache}', "write /a/*"),
        (FILES, 'cache_control: {"*": "a\\nb"}', "characters"),
        (FILES, 'cache_control: {"*": "{path}"}', "the same for everybody"),
        (APP, "listing: true", "means nothing without root"),
        (APP, "fallback: /index.html", "means nothing without root"),
        (APP, "methods: [GET]", "it belongs to a route"),
        (APP, "match: {from: private}", "it belongs to a route"),
        (ROUTE, "methods: [GET, post]", ""),
        (ROUTE, "methods: ['GET POST']", "no method"),
        (ROUTE, "match: {header: {X-Version: '2'}, query: {a: 'b'}, from: [private]}", ""),
        (ROUTE, "match: {from: ['file:office.txt']}", ""),
        (ROUTE, "match: {from: ['file:missing.txt']}", "missing.txt does not exist"),
        (ROUTE, "match: {from: [nowhere]}", "no set of addresses"),
        (ROUTE, "match: {header: {X: 're:('}}", "no regular expression"),
        (ROUTE, "match: {header: {X: 're:(a+)+'}}", ""),
        (ROUTE, "match: {header: {X: 're:a(?=b)'}}", "looks around"),
        (ROUTE, "match: {header: {'X Y': a}}", "no name of a field"),
        (ROUTE, "match: {path: /x}", "the route has its path"),
        (ROUTE, "match: {headers: {X: a}}", "write header"),
        (ROUTE, "match: /x", "mapping"),
        (ROUTE, "redirect: https://b.test", "exclude each other"),
    ],
)  # fmt: skip
def test_a_rule_is_taken_or_refused_with_the_way_out(
    folder: Path, around: str, rule: str, said: str
) -> None:
    status, told = check(folder, around.replace("RULE", rule))
    if said:
        assert status == 2, told
        assert said in told
        assert "config.yaml:2:" in told
    else:
        assert status == 0, told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sites: [{names: a.test, routes: [{path: /x}]}]", "add root, backend, redirect or respond"),
        ("sites: [{names: a.test, routes: [{path: /x, rewrite: '/{rest}', root: FOLDER/www}]}]",
         "has none"),
        ("sites: [{names: a.test, root: FOLDER/closed, listing: true}]", "may not read"),
        ("listing: true\nsites: [{names: a.test, routes: [{path: /*, root: FOLDER/closed}]}]",
         "may not read"),
        (TWO.format("{path: /*, respond: 200}", "{path: /*, methods: GET, respond: 204}"),
         "takes the same requests"),
        (TWO.format("{path: /a, methods: GET, respond: 200}",
                    "{path: /%61, methods: GET, respond: 204}"), "takes the same requests"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(folder: Path, text: str, said: str) -> None:
    status, told = check(folder, text)
    assert status == 2
    assert said in told


def test_a_path_that_may_be_meant_for_a_file_is_told(folder: Path) -> None:
    status, told = check(folder, APP.replace("RULE", "error_pages: {500: FOLDER/nothing.html}"))
    assert status == 0
    assert "is asked of the site" in told


def sites(folder: Path, text: str) -> tuple[model.Site, ...]:
    return load(Options(config=config(folder, text)), now_uid=0).sites


def test_an_inner_level_decides_and_a_fixed_answer_stands_before_any_other(folder: Path) -> None:
    one, other = sites(
        folder,
        "respond: 503\nerror_pages: {404: /top.html}\n"
        "sites:\n"
        "  - {names: a.test, root: FOLDER/www, error_pages: {500: FOLDER/sorry.html}}\n"
        "  - names: b.test\n"
        "    respond: off\n"
        "    redirect: 'https://c.test{path}'\n"
        "    routes:\n"
        "      - {path: /x/*, backend: 'http://127.0.0.1:3000'}\n"
        "      - {path: /y, respond: 204}\n"
        "      - {path: /z/*, redirect: '/x/{rest}', status: 302}\n",
    )
    assert isinstance(one.routes[0].action, model.RespondAction)
    assert one.routes[0].rules.error_pages == (ErrorPage((500,), page_file=folder / "sorry.html"),)
    kinds = [(route.path, type(route.action).__name__) for route in other.routes]
    assert kinds == [
        ("/x/*", "ProxyAction"), ("/y", "RespondAction"), ("/z/*", "RedirectAction"),
        ("/*", "RedirectAction"),
    ]  # fmt: skip
    assert not responds(other.routes[0].rules)
    assert other.routes[2].action == model.RedirectAction("/x/{rest}", 302)
    assert other.routes[3].action == model.RedirectAction("https://c.test{path}", 308)
    assert other.routes[0].rules.error_pages[0].path == "/top.html"


def test_routes_of_one_path_keep_their_order(folder: Path) -> None:
    (site,) = sites(
        folder,
        "sites: [{names: a.test, routes: [{path: /a, methods: [post], respond: 201},"
        " {path: /a, match: {from: private}, respond: 202}, {path: /a, respond: 203}]}]",
    )
    assert [route.methods for route in site.routes] == [("POST",), (), ()]
    assert site.routes[1].match is not None
    assert site.routes[1].match.from_[0].name == "private"  # type: ignore[union-attr]


def test_files_that_are_named_are_watched(folder: Path) -> None:
    from proxy.config.referenced_files import referred

    text = ROUTE.replace(
        "RULE", "match: {from: 'file:office.txt'}, error_pages: {404: 'file:sorry.html'}"
    )
    found = set(referred(load(Options(config=config(folder, text)), now_uid=0)))
    assert {folder / "office.txt", folder / "sorry.html"} <= found
