"""Rewriting: another path for the handler, which never leads out of what the operator wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config.syntax.faults import Wrong
from proxy.config.syntax.patterns import parse_rewrite
from proxy.errors import Fault
from proxy.handlers.files.handler import FileHandler
from proxy.protocol.exchange import Exchange
from proxy.protocol.message import Connection, Request, Response
from proxy.protocol.paths import in_order, readings, understood, without_parameters
from proxy.sites.filters import Chain
from proxy.sites.rewriting import Rewriting
from proxy.sites.router import Route, Router
from proxy.transport.clock import Clock

PEER = Connection("192.0.2.9", 4711, "192.0.2.1", 443, b"https")
# What paths are dodged with, and what is in them else.
PIECES = [
    b"/", b"//", b".", b"..", b"%2e", b"%2E", b"%2e%2e", b"%2f", b"%2F", b"\\", b"%5c", b";", b";x=y",
    b"%3b", b"%00", b"%c0%ae", b"%252e", b"%25", b"a", b"api", b"admin", b"x", b"%61", b"secret.txt",
    b"new", b"~", b"&", b"=", b"+", b"?", b"#", b"@", b":",
]  # fmt: skip
PATHS = st.lists(st.sampled_from(PIECES), max_size=12).map(lambda pieces: b"/" + b"".join(pieces))


class Asked:
    """A handler that keeps what it was asked for."""

    def __init__(self) -> None:
        self.request: Request | None = None

    def handle(self, request: Request) -> Response:
        self.request = request
        return Response(200, [])


def request(target: bytes, host: bytes = b"a.test") -> Request:
    return Request(b"GET", target, b"1.1", host, host, [], PEER)


def rewritten(
    target: bytes, strip: bool = False, template: str | None = None, matched: bytes = b"/api/"
) -> tuple[bytes, bytes]:
    """What is asked for, and what the backend is told of it."""
    asked = request(target)
    asked.matched = matched
    found = Rewriting(Asked(), strip, template).rewritten(asked)
    assert found.host == asked.host
    assert found.authority == asked.authority
    assert found.original is asked
    return found.target, found.stripped


@pytest.mark.parametrize(
    ("target", "strip", "template", "expected"),
    [
        (b"/api/x", True, None, (b"/x", b"/api")),
        (b"/api/", True, None, (b"/", b"/api")),
        (b"/api/api/x", True, None, (b"/api/x", b"/api")),
        (b"/api/x?q", True, None, (b"/x?q", b"/api")),
        (b"/api/x?", True, None, (b"/x?", b"/api")),
        (b"/%61pi/x", True, None, (b"/x", b"/api")),
        (b"//api//x", True, None, (b"/x", b"/api")),
        (b"/api/./x/.", True, None, (b"/x/", b"/api")),
        (b"/api/%2Fx", True, None, (b"/%2Fx", b"/api")),
        (b"/api/a%2Fb/%E2%82%AC+%20", True, None, (b"/a%2Fb/%E2%82%AC+%20", b"/api")),
        (b"/api/x", False, "/new/{rest}", (b"/new/x", b"/api")),
        (b"/api/x", False, "/api/v2/{rest}", (b"/api/v2/x", b"")),
        (b"/api/x?q=1", False, "/new/{rest}", (b"/new/x?q=1", b"/api")),
        (b"/api/x?q=1", False, "/new/{rest}?a=b", (b"/new/x?a=b", b"/api")),
        (b"/api/x?q=1", False, "/new?a=b&{query}", (b"/new?a=b&q=1", b"/api")),
        (b"/api/x", False, "/new?a=b&{query}", (b"/new?a=b", b"/api")),
        (b"/api/x&admin=1", False, "/new?path={path}", (b"/new?path=/api/x%26admin%3D1", b"/api")),
        (b"/api/x", False, "/index.php{path}", (b"/index.php/api/x", b"/api")),
        (b"/api/x", False, "{path}", (b"/api/x", b"")),
        (b"/api/x", False, "/{host}/{rest}", (b"/a.test/x", b"/api")),
        (b"/api/x", True, "/app{path}", (b"/app/x", b"/api")),
        (b"*", True, None, (b"*", b"")),
    ],
)
def test_path_and_query_are_changed_and_nothing_else(
    target: bytes, strip: bool, template: str | None, expected: tuple[bytes, bytes]
) -> None:
    assert rewritten(target, strip, template) == expected


@pytest.mark.parametrize(
    "target",
    [
        b"/api/../x", b"/api/%2e%2e/x", b"/api/a%2f..%2f..%2fx", b"/api/..;/x", b"/api/a/..;x=y/b",
        b"/api/..%5cx", b"/api/..\\x", b"/api/x%00", b"/api/%c0%ae%c0%ae/x", b"/api/%", b"/api%2fx",
    ],
)  # fmt: skip
def test_what_may_lead_upwards_is_refused(target: bytes) -> None:
    with pytest.raises(Fault) as caught:
        rewritten(target, True)
    assert caught.value.kind == "bad_path"


def spellings(path: bytes) -> Iterator[bytes]:
    """Whatever a program might make of a path."""
    for one in (path, *without_parameters(path)):
        several = readings(one)
        assert several is not None
        yield from several


TEMPLATES = [
    (True, None, b"/"),
    (False, "/new/{rest}", b"/new/"),
    (False, "/new{path}", b"/new/"),
    (False, "/new/deep/{rest}/end", b"/new/deep/"),
    (False, "/new/.{rest}", b"/new/"),
    (True, "/new/{path}?x={rest}", b"/new/"),
    (False, "/sites/{host}/{rest}", b"/sites/a.test/"),
]


@given(path=PATHS, way=st.sampled_from(TEMPLATES))
@settings(max_examples=400, deadline=None)
def test_no_path_leads_out_of_the_literal_beginning(
    path: bytes, way: tuple[bool, str | None, bytes]
) -> None:
    """By no reading of the path that is sent on, with path parameters or without."""
    strip, template, beginning = way
    for prefix, matched in ((b"/api", b"/api/"), (b"", b"/")):
        try:
            target, stripped = rewritten(prefix + path, strip, template, matched)
        except Fault:
            continue
        found = target.partition(b"?")[0]
        assert re.match(rb"/(?!/)", found)
        assert stripped in (b"", b"/api")
        assert all(one.startswith(beginning) for one in spellings(found)), target


@given(path=PATHS)
@settings(max_examples=300, deadline=None)
def test_a_path_in_order_means_what_it_meant(path: bytes) -> None:
    try:
        before = understood(path)
    except Fault:
        return
    try:
        made = in_order(path)
    except Fault:
        assert b";" in path or b"%3b" in path.lower()
        return
    assert understood(made) == before
    assert in_order(made) == made


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileHandler]:
    above = tmp_path_factory.mktemp("above")
    (above / "secret.txt").write_text("outside")
    root: Path = above / "www"
    (root / "new/a").mkdir(parents=True)
    (root / "secret.txt").write_text("beside")
    for name in ("x", "secret.txt", "a/x", "a/secret.txt"):
        (root / "new" / name).write_text("inside")
    handler = FileHandler(root, Clock())
    yield handler
    handler.close()


@given(path=PATHS)
@settings(max_examples=400, deadline=None)
def test_a_rewrite_never_reaches_outside_its_folder(files: FileHandler, path: bytes) -> None:
    rewriting = Rewriting(files, False, "/new/{rest}")
    asked = request(b"/api" + path)
    asked.matched = b"/api/"
    try:
        answer = rewriting.handle(asked)
    except Fault:
        return
    assert isinstance(answer, Response)
    assert answer.status == 308 or answer.body == b"inside"
    if answer.status == 308:
        location = dict(answer.fields)[b"location"]
        assert location.startswith(b"/api/")
        assert location.partition(b"?")[0].endswith(b"/")


class Guard:
    def request(self, _exchange: Exchange) -> None:
        raise NotImplementedError


@given(path=PATHS)
@settings(max_examples=400, deadline=None)
def test_no_spelling_gets_past_a_guard_of_a_path_that_is_stripped(path: bytes) -> None:
    """Whatever a backend might take for /admin/ has come by the guarded route."""
    handler = Rewriting(Asked(), True, None)
    guarded = Chain([Guard()])
    ways = {"passes_on": True, "rewrites": True}
    router = Router(
        [Route("/api/*", handler, **ways), Route("/api/admin/*", handler, guarded, **ways)]
    )
    asked = request(b"/api" + path)
    route = router.find(asked)
    try:
        answer = route.handler.handle(asked)
    except Fault:
        return
    assert isinstance(answer, Response)
    assert isinstance(handler.handler, Asked)
    sent = handler.handler.request
    assert sent is not None
    if any(one.startswith(b"/admin/") for one in spellings(sent.path)):
        assert route.chain is guarded, sent.path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("new/x", "start with a slash"), ("https://b.test/x", "another address"),
        ("/a/../b", "dot segments"), ("/a//b", "empty or dot segments"), ("/a%2fb", "encoded slash"),
        ("/a b", "characters"), ("/{nothing}", "placeholder"), ("/{rest", "brace"), ("/a#b", "characters"),
        ("/$request_uri", "nginx"), ("/a\n", "line break"), ("/%2e%2e/x", "dot segments"),
    ],
)  # fmt: skip
def test_a_template_is_checked(text: str, said: str) -> None:
    with pytest.raises(Wrong, match=said):
        parse_rewrite(text)
