"""Other programs' spellings of durations, sizes and rates. Pure."""

from __future__ import annotations

import re

_UNITS = {
    "": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0,
    "M": 2592000.0, "y": 31536000.0,
}  # fmt: skip
_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_DECIMAL = {"kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4}
_BINARY = {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


def seconds(text: str) -> float | None:
    """Read a duration as nginx, Go and Apache write it: ``1d 12h``, ``90``, ``1m30s``, ``500ms``.
    None where it is none."""
    found = re.findall(r"(\d+(?:\.\d+)?) ?(ms|[smhdwMy]?)", text.strip())
    if not found or "".join(a + b for a, b in found) != text.replace(" ", ""):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in found)


def duration(text: str) -> str | None:
    """Return a duration as we write it; None where it is none."""
    found = seconds(text)
    if found is None:
        return None
    if found != int(found):
        return f"{round(found * 1000)}ms"
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if found and found % length == 0:
            return f"{int(found) // length}{unit}"
    return f"{int(found)}s"


def size(text: str) -> str | None:
    """Return a size like ``50m``, ``1G``, ``10MB`` or ``512KiB`` as we write it; None where it is
    none."""
    found = re.fullmatch(r"(\d+) ?([a-z]*)", text.strip().lower())
    if not found:
        return None
    factor = {**_SIZES, **_DECIMAL, **_BINARY}.get(found[2])
    if factor is None:
        return None
    count = int(found[1]) * factor
    for unit, one in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("GB", 10**9),
                      ("MB", 10**6), ("kB", 1000)):  # fmt: skip
        if count and count % one == 0:
            return f"{count // one}{unit}"
    return f"{count}B"
