"""Documents with a version."""

from __future__ import annotations

import pytest

from acme_client.rate_limits.buckets import Hold
from acme_client.storage import documents


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b'{"version": 1, "a": 2}', {"version": 1, "a": 2}),
        (b'{"a": 2}', {"a": 2}),
        (b'{"version": "x", "a": 2}', {"version": "x", "a": 2}),
        (b'{"version": 2, "a": 2}', {}),
        (b"[]", {}),
        (b"{", {}),
        (b"", {}),
        (b"\xff", {}),
        (b"[" * 100_000, {}),
    ],
    ids=range(9),
)
def test_what_is_read(data: bytes, found: dict[str, object]) -> None:
    assert documents.read(data, 1) == found


def test_what_is_written_is_read_and_stands_in_lines() -> None:
    written = documents.write({"a": (1, "ü"), "b": {"c": None}, "d": Hold(2.5, "x")}, 3)
    assert documents.read(written, 3) == {
        "version": 3,
        "a": [1, "ü"],
        "b": {"c": None},
        "d": {"until": 2.5, "why": "x"},
    }
    assert len(written.splitlines()) > 4


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b'{"version": 2}', "meta.version-2.json"),
        (b'{"version": 1}', None),
        (b'{"version": "../../x"}', None),
        (b'{"version": -1}', None),
        (b"torn", None),
        (b"[" * 100_000, None),
    ],
    ids=range(6),
)
def test_what_is_set_aside(data: bytes, name: str | None) -> None:
    assert documents.set_aside("meta.json", data, 1) == name
