"""Connections that the limit of open files has no room for."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from proxy.config.checks.descriptors import shortfall
from proxy.config.load import Options, load


@pytest.mark.parametrize(
    ("connections", "most", "room"),
    [
        (10_000, None, None),
        (10_000, 1_048_576, None),
        (10_000, 10_128, None),
        (10_000, 10_127, 9_999),
        (10_000, 4096, 3968),
        (10_000, 256, 128),
        (50, 256, None),
        (10, 100, 0),
    ],
)
def test_what_does_not_fit_is_told_with_what_does(
    connections: int, most: int | None, room: int | None
) -> None:
    found = shortfall(connections, most)
    if room is None:
        assert found is None
        return
    assert found is not None
    what, how = found
    assert f"may have {most} open files, which is enough for {room} connections" in what
    assert f"LimitNOFILE={connections * 2 + 128} " in how
    assert f"write connections: {max(room // 2, 1)}" in how


def test_the_hard_limit_counts_and_the_key_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "state: s\nlimits:\n  connections: 1000\nsites: [{names: [a.test], redirect: https://b.test}]\n"
    )
    for hard, told in ((256, 1), (1_000_000, 0)):
        monkeypatch.setattr(resource, "getrlimit", lambda _kind, hard=hard: (128, hard))
        notices = load(Options(config=path), now_uid=1000).notices
        assert len(notices) == told, notices
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (128, 256))
    (notice,) = load(Options(config=path), now_uid=1000).notices
    assert notice.startswith(f"{path}:3:16: limits.connections: a worker may have 256 open files,")


def test_certificates_take_a_descriptor_for_many() -> None:
    assert shortfall(10_000, 10_400, 10_000) is None
    found = shortfall(10_000, 10_300, 10_000)
    assert found is not None
    assert "10300 open files, which is enough for 9976 connections" in found[0]
    assert shortfall(400, 800, 1_000) is None
