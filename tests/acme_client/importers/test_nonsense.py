"""Whatever stands in the files, a reader comes to its end, and selection as well."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acme_client.importers.safe_tree import Unreadable
from acme_client.importers.selection import accounts, places
from acme_client.importers.sources import SOURCES

from .test_readers import KNOWN, MADE_AT, tree


@pytest.fixture(scope="module")
def trees() -> Iterator[dict[str, Path]]:
    with tempfile.TemporaryDirectory() as scratch:
        yield {
            source: tree(source, _folder(Path(scratch) / source.replace(".", "-")))
            for source in SOURCES
        }


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(one for one in path.rglob("*") if one.is_file() and not one.is_symlink())


@given(data=st.data())
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@pytest.mark.parametrize("source", SOURCES)
def test_a_file_with_anything_in_it_ends_nothing(
    source: str, trees: dict[str, Path], data: st.DataObject
) -> None:
    path = trees[source]
    file = data.draw(st.sampled_from(_files(path)), label="file")
    content = file.read_bytes()
    start = data.draw(st.integers(0, len(content)), label="from")
    end = data.draw(st.integers(start, min(len(content), start + 40)), label="to")
    other = data.draw(
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from(
                [b'"', b"{", b"]", b"null", b"1e999", b'{"a":', b"\\ud800", b"-----BEGIN ", b"[x\n"]
            ),
        ),
        label="instead",
    )
    file.write_bytes(content[:start] + other + content[end:])
    try:
        findings = SOURCES[source].read(path, KNOWN)
    except Unreadable:
        assert source == "traefik", "only what is one file can be lost as a whole"
    else:
        for sites in (None, ()):
            places(findings.certificates, sites, MADE_AT)
        accounts(findings.accounts, None)
        for one in findings.skipped:
            assert one.why
    finally:
        file.write_bytes(content)
