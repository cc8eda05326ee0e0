"""A document root, as `doctor` sees it: what `index` and `listing` make of a folder without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.doctor.probes.document_roots import look
from proxy.doctor.rules.document_roots import findings


@pytest.mark.parametrize(
    ("files", "indexes", "listed", "said"),
    [
        (["index.html"], ("index.html",), False, "its files can be read"),
        (["home.html"], ("index.html", "home.html"), False, "its files can be read"),
        (["home.html"], ("index.html",), False, "has no index.html that can be read"),
        ([], ("home.html", "index.htm"), False, "has no home.html or index.htm that can be read"),
        ([], (), False, "has no index that can be read"),
        ([], ("index.html",), True, "its files can be read"),
    ],
)
def test_a_root_has_its_index_or_needs_none(
    tmp_path: Path, files: list[str], indexes: tuple[str, ...], listed: bool, said: str
) -> None:
    for name in files:
        (tmp_path / name).write_text("x")
    (finding,) = findings(look(tmp_path, ("a.test",), indexes, listed))
    assert finding.text.startswith(said)
