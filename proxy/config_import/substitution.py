"""Puts what a variable of another program is called here in its place. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable


def substituted(
    variable: re.Pattern[str], text: str, meaning: Callable[[re.Match[str]], str | None]
) -> str | None:
    """Replace each ``variable`` in a text by its meaning. None where one of them has none."""
    lost = False

    def fill(found: re.Match[str]) -> str:
        nonlocal lost
        said = meaning(found)
        lost = lost or said is None
        return said or ""

    made = variable.sub(fill, text)
    return None if lost else made
