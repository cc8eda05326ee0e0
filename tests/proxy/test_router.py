"""Which handler answers: by host, then by path, however it is spelt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.model import Action, FilesAction, RedirectAction, Route, Site
from proxy.errors import Fault
from proxy.handlers.redirect import Redirect
from proxy.protocol.message import Connection, Request, Response
from proxy.router import Router, understood


@dataclass
class Named:
    action: Action

    async def handle(self, request: Request) -> Response:
        raise AssertionError("only looked at")


def site(*names: str, default: bool = False, **routes: str) -> Site:
    made = tuple(Route(path, FilesAction(Path(to))) for path, to in routes.items())
    return Site(names, made, default=default)


def router(*sites: Site) -> Router:
    made = Router(sites)
    made.bind(Named)
    return made


def routed(table: Router, host: bytes, target: bytes) -> str:
    request = Request(b"GET", target, b"1.1", host, host, [], Connection("", 1, "", 2))
    handler = table.route(request)
    assert isinstance(handler, Named)
    assert isinstance(handler.action, FilesAction)
    return str(handler.action.root)


HOSTS = router(
    site("a.test", "b.test", **{"/*": "ab"}),
    site("*.a.test", **{"/*": "wild"}),
    site("::1", **{"/*": "v6"}),
)


@pytest.mark.parametrize(
    ("host", "wanted"),
    [(b"a.test", "ab"), (b"b.test", "ab"), (b"x.a.test", "wild"), (b"::1", "v6"), (b"x.y.a.test", None), (b"c.test", None), (b"test", None)],
)  # fmt: skip
def test_hosts(host: bytes, wanted: str | None) -> None:
    assert HOSTS.knows(host) is (wanted is not None)
    if wanted is None:
        with pytest.raises(Fault, match="unknown_host"):
            routed(HOSTS, host, b"/")
    else:
        assert routed(HOSTS, host, b"/") == wanted


def test_a_default_site_takes_the_rest() -> None:
    table = router(site("a.test", **{"/*": "a"}), site("b.test", default=True, **{"/*": "b"}))
    assert routed(table, b"nobody.test", b"/") == "b"
    assert not table.knows(b"nobody.test")


PATHS = router(
    site(
        "a.test",
        **{
            "/*": "all",
            "/api/*": "api",
            "/api/v2/*": "v2",
            "/api/status": "status",
            "/admin/*": "admin",
        },
    )
)


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        (b"/", "all"), (b"/x", "all"), (b"/api", "all"), (b"/api/", "api"), (b"/api/x?y=/admin/", "api"),
        (b"/api/v2/x", "v2"), (b"/api/status", "status"), (b"/api/status/", "api"), (b"/apix", "all"),
        (b"/%61pi/x", "api"), (b"//admin/x", "admin"), (b"/%61dmin/", "admin"), (b"/admin//x", "admin"),
        (b"/ADMIN/", "all"), (b"/admin;x/", "all"),
    ],
)  # fmt: skip
def test_paths(target: bytes, wanted: str) -> None:
    assert routed(PATHS, b"a.test", target) == wanted


@pytest.mark.parametrize(
    "target",
    [b"/x/../admin/", b"/./admin/", b"/%2e%2e/admin/", b"/x%2fadmin/", b"/x%2Fadmin", b"/x%5cadmin", b"/x\\admin",
     b"/%00", b"/%", b"/%zz", b"/..", b"/admin/."],
)  # fmt: skip
def test_a_path_of_two_meanings_is_refused(target: bytes) -> None:
    with pytest.raises(Fault, match="bad_path"):
        routed(PATHS, b"a.test", target)


@given(st.binary(max_size=30).map(lambda tail: b"/" + tail))
def test_what_is_understood_has_one_meaning(path: bytes) -> None:
    try:
        clear = understood(path)
    except Fault:
        return
    assert b"//" not in clear
    assert not {b".", b".."} & set(clear.split(b"/"))


REDIRECTS = [
    ("/new/{rest}", b"/old/a/b", b"", b"/new/a/b"),
    ("/new/{rest}", b"/old/a", b"q=1", b"/new/a?q=1"),
    ("/new?from={path}", b"/old/a", b"q=1", b"/new?from=/old/a"),
    ("https://x.test{path}", b"/old/%20", b"", b"https://x.test/old/%20"),
    ("https://{host}/x?{query}", b"/old/", b"a=b", b"https://a.test/x?a=b"),
    ("/{rest}", b"/old//evil.test", b"", b"/evil.test"),
    ("/{rest}", b"/old/%2e", b"", None),
    ("{path}", b"//evil.test/", b"", b"/evil.test/"),
    ("/{rest}", b"/old/\\evil.test", b"", None),
]


@pytest.mark.parametrize(("target", "path", "query", "wanted"), REDIRECTS)
def test_redirects(target: str, path: bytes, query: bytes, wanted: bytes | None) -> None:
    redirect = Redirect(RedirectAction(target))
    if wanted is None:
        with pytest.raises(Fault, match="bad_path"):
            redirect.location(path, query, b"a.test", b"/old/")
    else:
        assert redirect.location(path, query, b"a.test", b"/old/") == wanted


@given(st.binary(max_size=30).map(lambda tail: b"/old/" + tail.replace(b"#", b"")))
def test_a_redirect_never_leads_to_another_host(path: bytes) -> None:
    for target in ("/{rest}", "{path}", "/x/{rest}"):
        try:
            location = Redirect(RedirectAction(target)).location(path, b"", b"a.test", b"/old/")
        except Fault:
            continue
        assert location.startswith(b"/")
        assert not location.startswith((b"//", b"/\\"))
        assert location.isascii()
        assert location.decode().isprintable()
