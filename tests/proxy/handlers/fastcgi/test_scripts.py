"""Which script a path names, on real files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.errors import Fault
from proxy.handlers.fastcgi.scripts import Nothing, Run, Scripts
from proxy.handlers.files.document_root import DocumentRoot
from proxy.handlers.files.handler import FileHandler
from proxy.protocol.message import Connection, Request, Response
from proxy.transport.clock import Clock

PEER = Connection("192.0.2.9", 4711, "192.0.2.1", 443, b"https")


def sent(handler: FileHandler, target: bytes) -> bytes:
    """What a client gets, gzip or not, also with an error."""
    fields = [(b"accept-encoding", b"gzip")]
    try:
        response = handler.handle(Request(b"GET", target, b"1.1", b"a", b"a", fields, PEER))
    except Fault as fault:
        response = fault.page or Response(404, [], b"")
    assert isinstance(response, Response)
    assert isinstance(response.body, bytes)
    return response.body


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"admin.php", Run(b"admin.php")),
        (b"admin.php/", Run(b"admin.php", b"/")),
        (b"admin.php/a\n", Run(b"admin.php", b"/a\n")),
        (b"x.php/admin.php/a", Run(b"x.php/admin.php", b"/a")),
        (b"admin.php\n", None),
        (b"x.php/admin.php\n", None),
        (b"admin.php\r\n", None),
        (b"admin.php ", None),
        (b"admin.php\n/a", None),
    ],
)
def test_a_name_ends_where_its_segment_does(tmp_path: Path, path: bytes, found: Run | None) -> None:
    """A route for /admin.php, and one for what is below it, guard all the paths that run it."""
    (tmp_path / "x.php").mkdir()
    for name in ("admin.php", "x.php/admin.php"):
        (tmp_path / name).write_text("<?php")
    scripts = Scripts(DocumentRoot(tmp_path), front_controller=False)
    given = scripts.find(path, 0.0)
    assert given == found if found is not None else isinstance(given, Nothing)


@pytest.mark.parametrize("link", ["x.txt", "x.txt.gz", "404.html", "sub/index.html"])
def test_no_link_to_a_script_is_sent_as_a_file(tmp_path: Path, link: str) -> None:
    """Also where what was looked at a moment ago was another file, and beside a file."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "config.php").write_text("<?php secret")
    (tmp_path / "x.txt").write_text("text")
    scripts = Scripts(DocumentRoot(tmp_path), front_controller=False)
    handler = FileHandler(tmp_path, Clock(), keeps=scripts.is_source)
    assert sent(handler, b"/x.txt") == b"text"
    (tmp_path / link).unlink(missing_ok=True)
    (tmp_path / link).symlink_to(tmp_path / "config.php")
    os.utime(tmp_path / "config.php", (4e9, 4e9))
    handler = FileHandler(tmp_path, Clock(), keeps=scripts.is_source)
    for target in (b"/x.txt", b"/sub/", b"/x.txt.gz", b"/sub/index.html", b"/404.html", b"/no"):
        assert b"secret" not in sent(handler, target)
