"""Which script a path names, on real files."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.handlers.fastcgi.scripts import Nothing, Run, Scripts
from proxy.handlers.files.document_root import DocumentRoot


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
