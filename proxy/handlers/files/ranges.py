"""Byte ranges (RFC 9110 §14): which bytes a Range field asks for. Pure.

A server may ignore Range. This one does so where the field is malformed, and where obeying would
cost more than it gives: many ranges, or ranges that overlap, are how a small request is made to
yield a large answer (CVE-2011-3192).
"""

from __future__ import annotations

import itertools
import re

# nginx: max_ranges is unlimited by default, Apache's MaxRanges 200. Players and PDF readers that
# ask for several ask for two or three.
_MOST = 16
_RANGE = re.compile(rb"(\d{1,18})-(\d{0,18})|-(\d{1,18})")

Range = tuple[int, int]  # the first byte, and how many


class Unsatisfiable(Exception):
    """No range of the field lies within the representation: 416."""


def parse(field: bytes, size: int) -> list[Range] | None:
    """The ranges of a representation of ``size`` bytes, in the order asked; None to ignore them.

    Of an empty one there is nothing to be sent in parts, and any range is ignored: players ask for
    ``bytes=0-`` of what they do not know yet, and a suffix is satisfiable even here (§14.1.2).

    Raises `Unsatisfiable`.
    """
    if not size:
        return None
    unit, equals, spelt = field.partition(b"=")
    if unit.strip().lower() != b"bytes" or not equals:
        return None
    asked = [one.strip(b" \t") for one in spelt.split(b",")]
    asked = [one for one in asked if one]
    if not 0 < len(asked) <= _MOST:
        return None
    found: list[Range] = []
    for one in asked:
        match = _RANGE.fullmatch(one)
        if match is None:
            return None
        first, last, suffix = match.groups()
        if suffix is not None:
            count = min(int(suffix), size)
            if count:
                found.append((size - count, count))
            continue
        begin = int(first)
        end = int(last) if last else size - 1
        if end < begin and last:
            return None  # §14.1.1: reversed is invalid, and an invalid set is ignored
        if begin < size:
            found.append((begin, min(end, size - 1) - begin + 1))
    if not found:
        raise Unsatisfiable
    if sum(count for _, count in found) > size or _overlap(found):
        return None
    return found


def _overlap(found: list[Range]) -> bool:
    ordered = sorted(found)
    return any(one + count > other for (one, count), (other, _) in itertools.pairwise(ordered))


def content_range(one: Range, size: int) -> bytes:
    """The value of Content-Range (§14.4)."""
    first, count = one
    return b"bytes %d-%d/%d" % (first, first + count - 1, size)
