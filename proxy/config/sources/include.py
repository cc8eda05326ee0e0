"""Further sites from other files: ``include: sites.d/*.yaml``.

An included file holds ``sites`` and nothing else, so that what holds for the whole server stands in
one place. Relative names in it start from the folder of the main file, as everywhere. A pattern may
match no file yet; a name without wildcards must be there.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..syntax.faults import Fault, Wrong

if TYPE_CHECKING:
    from ..syntax.yaml_reader import Document

_MOST = 10_000  # files; more are a slip in a pattern
_ONLY_SITES = (
    "an included file holds sites and nothing else",
    "move the key to the main file",
)


def matches(patterns: Iterable[Path]) -> list[Path]:
    """Return the files that the patterns stand for now, each once, in the order of their names."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        names = sorted(glob.glob(str(pattern))) if glob.has_magic(str(pattern)) else [str(pattern)]
        for name in names[:_MOST]:
            path = Path(name)
            if glob.has_magic(str(pattern)) and (path.is_dir() or path.name.startswith(".")):
                continue
            found.setdefault(path)
    return list(found)


def read(
    patterns: Iterable[Path], main: Path | None, parse: Callable[[Path], Document]
) -> Iterator[tuple[Path, Document | Wrong]]:
    """Yield each file with what it holds, or why it cannot be read. ``parse`` raises `Wrong`."""
    for path in matches(patterns):
        if main is not None and os.path.exists(main) and _same(path, main):
            continue
        if path.is_dir():
            yield path, Wrong(f"{path} is a directory", f"write {path}/*.yaml")
            continue
        try:
            yield path, parse(path)
        except Wrong as wrong:
            yield path, wrong


def beside_sites(document: Document) -> Iterator[Fault]:
    """Yield a fault for each key that has no place in an included file."""
    for key in document.value:
        if key != "sites":
            yield Fault(document.origins.of_key((key,)), key, *_ONLY_SITES)


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
