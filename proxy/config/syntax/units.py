"""Durations and sizes as people write them: ``1h30m``, ``250ms``, ``32KiB``, ``1.5GB``.

A number without a unit is seconds or bytes. A lone ``K`` or ``M`` is refused rather than guessed
at: nginx takes it for 1024, most disks for 1000.
"""

from __future__ import annotations

import re
from decimal import Decimal

from .faults import Wrong, nearest, shown

_SECONDS = {
    "w": Decimal(604_800),
    "d": Decimal(86_400),
    "h": Decimal(3_600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
}
_BYTES = {
    "GiB": 1 << 30,
    "MiB": 1 << 20,
    "KiB": 1 << 10,
    "GB": 10**9,
    "MB": 10**6,
    "kB": 10**3,
    "B": 1,
}
_BYTES_BY_CASEFOLD = {unit.casefold(): size for unit, size in _BYTES.items()}

_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,6})?"
_PART = re.compile(rf"({_NUMBER})(w|d|h|ms|m|s)", re.ASCII)
_DURATION = re.compile(rf"(?:{_NUMBER}(?:w|d|h|ms|m|s))+", re.ASCII)
_PLAIN = re.compile(_NUMBER, re.ASCII)
_SIZE = re.compile(rf"({_NUMBER})\s*([A-Za-z]+)", re.ASCII)

_SAY_DURATION = "write it like 500ms, 30s, 5m, 1h30m or 7d"
_SAY_SIZE = "write it like 512B, 32KiB, 10MiB or 1GB"


def parse_duration(text: str) -> float:
    """Read a duration, in seconds. Raises `Wrong`."""
    text = text.strip()
    if _PLAIN.fullmatch(text):
        return float(text)
    if not _DURATION.fullmatch(text):
        raise Wrong(f"{shown(text)} is not a duration", _SAY_DURATION)
    parts = _PART.findall(text)
    units = [unit for _number, unit in parts]
    if units != sorted(set(units), key=list(_SECONDS).index):
        raise Wrong(f"{shown(text)} has its units twice or out of order", _SAY_DURATION)
    return float(sum(Decimal(number) * _SECONDS[unit] for number, unit in parts))


def parse_size(text: str) -> int:
    """Read a size, in bytes. Raises `Wrong`."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) <= 15:
        return int(text)
    match = _SIZE.fullmatch(text)
    if not match:
        raise Wrong(f"{shown(text)} is not a size", _SAY_SIZE)
    number, unit = match.groups()
    factor = _BYTES_BY_CASEFOLD.get(unit.casefold())
    if factor is None:
        letter = unit.upper()
        if letter in ("K", "M", "G"):
            prefix = "k" if letter == "K" else letter
            raise Wrong(
                f"{shown(text)} could mean two sizes",
                f"write {number}{letter}iB for steps of 1024, {number}{prefix}B for steps of 1000",
            )
        raise Wrong(f"{shown(unit)} is not a unit of size", nearest(unit, list(_BYTES)))
    size = Decimal(number) * factor
    if size != size.to_integral_value():
        raise Wrong(f"{shown(text)} is not a whole number of bytes", _SAY_SIZE)
    return int(size)


def spell_duration(seconds: float) -> str:
    """Return the shortest spelling; `parse_duration` gives back the same number of milliseconds."""
    left = Decimal(round(seconds * 1000)) / 1000
    if not left:
        return "0s"
    text = ""
    for unit, length in _SECONDS.items():
        count = int(left // length)
        if count:
            text += f"{count}{unit}"
            left -= count * length
    return text


def spell_size(size: int) -> str:
    """Spell a size in the largest unit of 1024 that divides it; `parse_size` gives back the
    same."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"
