"""Files that the configuration names and that are read anew at each reload: CAs to trust, secrets.

A convention makes them findable: their keys end in ``_file``, in every section. Their contents do
not matter here; a mark tells one state of a file from another without reading it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from ..filters.code import FilterCode

Mark = tuple[int, int, int, int] | None


def referred(section: object) -> Iterator[Path]:
    """Yield every file that a part of the configuration names, or the whole of it."""
    if isinstance(section, FilterCode):
        yield from section.files
    elif isinstance(section, tuple):
        for one in section:
            yield from referred(one)
    elif dataclasses.is_dataclass(section):
        for field in dataclasses.fields(section):
            value = getattr(section, field.name)
            if isinstance(value, Path) and field.name.endswith("_file"):
                yield value
            else:
                yield from referred(value)


def mark(path: Path) -> Mark:
    """Return what identifies a state of the file; None for a file that cannot be seen. A link that
    leads elsewhere has another mark."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns
