"""Paths as applications, package managers and old links spell them, and where they lead."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config.model import RedirectAction
from proxy.config.syntax.patterns import parse_redirect
from proxy.errors import Fault
from proxy.handlers.files.handler import FileHandler
from proxy.handlers.redirect import Redirect
from proxy.protocol.message import Connection, Request, Response
from proxy.sites.router import Route, Router
from proxy.transport.clock import Clock

PEER = Connection("192.0.2.9", 4711, "192.0.2.1", 443, b"https")


def request(target: bytes) -> Request:
    return Request(b"GET", target, b"1.1", b"old.example", b"old.example", [], PEER)


class Backend:
    def handle(self, request: Request) -> Response:
        return Response(200, [], request.target)


def met(router: Router, target: bytes) -> Response | str:
    """The response, or the kind of the fault."""
    asked = request(target)
    try:
        found = router.find(asked).handler.handle(asked)
    except Fault as fault:
        return fault.kind
    assert isinstance(found, Response)
    return found


# Requests that are passed on: GitLab, RabbitMQ, npm, Jenkins, Nexus, object stores


@pytest.mark.parametrize(
    "target",
    [
        b"/api/v4/projects/group%2Fproject",
        b"/api/v4/projects/group%2fproject/repository/files/a%2Eb?ref=main",
        b"/api/permissions/%2F/guest",
        b"/api/queues/%2f",
        b"/@scope%2fpackage",
        b"/job/folder/job/feature%252Fbranch/",
        b"/api/share/a%5Cb",
        b"/api/share/a\\b",
        b"/api/raw/a%00b",
        b"/api/./x",
        b"/api/x/../y",
        b"//api//x",
        b"/web/2020/https://a.example/b",
        b"/api/100%",
        b"/api/%zz",
        b"/api/%u20ac",
        b"/api/%c0%af",
        b"/?",
        b"/api/x?",
    ],
)
def test_one_backend_behind_several_routes_sees_the_target_as_it_came(target: bytes) -> None:
    backend = Backend()
    routes = [Route(path, backend, passes_on=True) for path in ("/api/*", "/status", "/*")]
    for router in (Router(routes), Router(routes[-1:])):
        response = met(router, target)
        assert isinstance(response, Response)
        assert response.body == target


@pytest.mark.parametrize(
    ("target", "passes"),
    [
        (b"/api/v4/projects/group%2Fproject", True),
        (b"/api/%2F/guest", True),
        (b"/x%2Fy", True),
        (b"/api/a/../b", True),
        (b"/%61pi/x", True),
        (b"/api/..%2Fadmin", False),
        (b"/x/..%2f..%2fapi/y", False),
        (b"/x/%2e%2e/api/y", False),
        (b"/./api/y", False),
        (b"/api%2fx", False),
        (b"/api%5Cx", False),
        (b"/api/%2e%2e%5Cx", False),
        (b"/api/100%", False),
    ],
)
def test_two_backends_are_told_apart_by_every_reading(target: bytes, passes: bool) -> None:
    router = Router([Route(path, Backend(), passes_on=True) for path in ("/api/*", "/*")])
    response = met(router, target)
    if passes:
        assert isinstance(response, Response)
        assert response.body == target
    else:
        assert response == "bad_path"


# Redirects of a whole site: w3id.org, kiwix, the Wayback Machine's targets


@pytest.mark.parametrize(
    "target",
    [
        b"/a%2Fb",
        b"/api/v4/projects/group%2Fproject",
        b"/web/2020/https://a.example/b",
        b"/a/./b",
        b"/a/../b",
        b"//a",
        b"/a//",
        b"/a?",
        b"/a?x=%2F&y=//",
        b"/a%5Cb",
        b"/%00",
        b"/a%zz",
        b"/b%c3%bccher",
        b"/;a=b,c",
        b"/~user/",
        b"/",
    ],
)
def test_a_redirect_keeps_the_target_as_it_came(target: bytes) -> None:
    redirect = Redirect(RedirectAction(parse_redirect("https://new.example{path}")))
    response = redirect.handle(request(target))
    expected = target.replace(b"%zz", b"%25zz")  # what no URL may hold
    assert response.fields == [(b"location", b"https://new.example" + expected)]


@pytest.mark.parametrize(
    ("target", "location"),
    [
        (b"/old/a%2Fb", b"https://new.example/a%2Fb"),
        (b"/old//a", b"https://new.example//a"),
        (b"/old/", b"https://new.example/"),
        (b"//old/a", b"https://new.example/a"),
        (b"/%6fld/a%20b", b"https://new.example/a%20b"),
        (b"/old/./a", b"https://new.example/./a"),
        (b"/old/https://a.example/b", b"https://new.example/https://a.example/b"),
        (b"/old/a?", b"https://new.example/a?"),
    ],
)
def test_what_the_asterisk_took_is_kept_as_it_came(target: bytes, location: bytes) -> None:
    redirect = Redirect(RedirectAction(parse_redirect("https://new.example/{rest}")))
    router = Router([Route("/old/*", redirect), Route("/*", Backend(), passes_on=True)])
    response = met(router, target)
    assert isinstance(response, Response)
    assert response.fields == [(b"location", location)]


# Files: apt's flat repositories, generated links with doubled slashes


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/repo/./Packages", 200),
        (b"/./repo/Packages", 200),
        (b"/repo/././Packages", 200),
        (b"/repo//Packages", 200),
        (b"//repo/Packages", 200),
        (b"/repo/%2e/Packages", 200),
        (b"/repo/%2E/./Packages", 200),
        (b"/repo/.", 404),  # the folder, which has no index
        (b"/repo", 308),
        (b"/repo/../repo/Packages", 400),
        (b"/repo/%2e%2e/repo/Packages", 400),
        (b"/repo%2FPackages", 400),
        (b"/repo/.hidden", 404),
        (b"/repo/.../Packages", 404),
    ],
)
@pytest.mark.parametrize("routes", [1, 2])
def test_files_are_found_by_the_normalised_path(
    tmp_path: Path, target: bytes, status: int, routes: int
) -> None:
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "Packages").write_text("Package: a")
    (tmp_path / "repo" / ".hidden").write_text("")
    files = FileHandler(tmp_path, Clock())
    paths = ["/app/*", "/*"][2 - routes :]
    router = Router(
        [
            Route(path, files if path == "/*" else Backend(), passes_on=path != "/*")
            for path in paths
        ]
    )
    response = met(router, target)
    if isinstance(response, Response):
        assert response.status == status
    else:
        assert response in {400: ["bad_path"], 404: ["not_found", "no_index"]}[status]
    files.close()


@pytest.mark.parametrize(
    ("target", "location"),
    [
        (b"/a%20folder", b"/a%20folder/"),
        (b"/a%20folder?x=1", b"/a%20folder/?x=1"),
        (b"/a%20folder?", b"/a%20folder/?"),
        (b"//a%20folder", b"/a%20folder/"),  # "//" at the beginning would name a host
        (b"/sub/./deep", b"/sub/./deep/"),
        (b"/sub//deep", b"/sub//deep/"),
    ],
)
def test_a_folder_without_its_slash_leads_to_the_same_path_with_it(
    tmp_path: Path, target: bytes, location: bytes
) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    files = FileHandler(tmp_path, Clock())
    response = files.handle(request(target))
    assert (response.status, response.fields) == (308, [(b"location", location)])
    files.close()
