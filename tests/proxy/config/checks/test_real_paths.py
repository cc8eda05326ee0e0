"""The same as `os.path.realpath`, whatever leads where."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.config.checks.real_paths import RealPaths


def test_it_says_what_the_system_says(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "to-a").symlink_to("a")
    (tmp_path / "to-b").symlink_to(tmp_path / "to-a/b")
    (tmp_path / "a/up").symlink_to("../a/b/..")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("missing/x")
    real = RealPaths()
    for end in (
        "a", "a/b", "to-a", "to-a/b", "to-b", "to-b/../up", "a/up", "a/up/b/x", "loop", "nowhere",
        "missing/x/y", ".", "a/../to-b", "a//b", "a/./b/", "..a",
    ):  # fmt: skip
        path = f"{tmp_path}/{end}"
        assert real.of(path) == os.path.realpath(path), end
        assert real.of(Path(path)) == os.path.realpath(Path(path)), end
    assert real.of("/") == "/"


def test_a_path_that_is_relative_is_taken_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert RealPaths().of("x/y") == os.path.realpath("x/y")
