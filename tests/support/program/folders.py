"""Folders of tests of one kind: every test there starts the real program, or none does.

A conftest takes the hooks of its folder's kind. A run that chooses the other kind, by the expressions
of the Makefile, does not even import such a folder's modules: with 15,000 tests, finding all of them
takes each process of a run longer than many of the tests.
"""

from __future__ import annotations

from typing import Protocol

import pytest

FAST = "not program and not pebble"
PROGRAM = "program or pebble"


class IgnoreCollect(Protocol):
    def __call__(self, config: pytest.Config) -> bool | None: ...


def start_the_program(item: pytest.Item) -> None:
    """`pytest_itemcollected`: every test of the folder starts the real program."""
    item.add_marker(pytest.mark.program)


def start_nothing(item: pytest.Item) -> None:
    """`pytest_itemcollected`: a test that starts the real program has no place in the folder, where
    a run of such tests would not look for it."""
    if any(item.get_closest_marker(name) for name in ("program", "pebble")):
        raise pytest.UsageError(f"{item.nodeid} is marked for real programs: move it to tests/e2e")


def not_in(expression: str) -> IgnoreCollect:
    """`pytest_ignore_collect`: a run that chooses its tests by this expression wants none of the
    folder."""

    def pytest_ignore_collect(config: pytest.Config) -> bool | None:
        return True if config.option.markexpr == expression else None

    return pytest_ignore_collect
