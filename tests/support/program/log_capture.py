"""Whose log a report of a failed test shows: everybody who was there when it failed.

The server and its peers name themselves here when they start; tests/conftest.py asks for their last
words when a test fails, and lets those go that have ended when the test is over.
"""

from __future__ import annotations

from typing import Protocol

MOST = 12_000  # characters of each log, the last ones


class Witness(Protocol):
    title: str

    def text(self) -> str:
        """All that it has said; also after its end."""

    def is_over(self) -> bool: ...


_present: list[Witness] = []


def appear(witness: Witness) -> None:
    _present.append(witness)


def testimonies() -> list[tuple[str, str]]:
    """Of each: its title, and the end of its log."""
    return [(f"log of {one.title}", one.text()[-MOST:]) for one in _present]


def dismiss() -> None:
    """Who has ended is no witness of the next test."""
    _present[:] = [one for one in _present if not one.is_over()]
