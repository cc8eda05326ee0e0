"""The last hour, from one program to the next: a `History` as bytes, and back. Pure.

At an upgrade the counters begin anew, and the charts would be empty for an hour. So the predecessor
writes its rows down, and its successor goes on after them. The two may be different programs: what
another version wrote is dropped, and so is whatever does not fit; a chart is no reason to fail.

A line of JSON says which series there are, and their rows follow as floats of this machine, in the
same order: at most some 3 MB (`history.MOST_SERIES`).
"""

from __future__ import annotations

import json
import math
from array import array

from .history import SLOT, SLOTS, Group, History, Series

# Raised when a row means something else; another set of columns is noticed by itself.
VERSION = 1
_FLOAT = array("f").itemsize


def written(history: History) -> bytes:
    """Return the rows of a history, or nothing where there are none."""
    if history.slot < 0:
        return b""
    rows = bytearray()
    groups = []
    for kind, group in history.groups.items():
        series = []
        for name, one in group.series.items():
            values = one.values(history.slot)
            series.append([name, round(one.weight, 3), len(values)])
            rows += values.tobytes()
        groups.append({"kind": kind, "columns": group.columns, "series": series})
    head = {
        "version": VERSION, "slot": SLOT, "noted": history.slot, "at": history.at, "groups": groups,
    }  # fmt: skip
    return json.dumps(head).encode() + b"\n" + rows


def read(content: bytes) -> History | None:
    """Return the history that `written` wrote; None for that of another version, or for anything
    else."""
    line, _, rows = content.partition(b"\n")
    try:
        head = json.loads(line)
        if (head["version"], head["slot"]) != (VERSION, SLOT):
            return None
        return _filled(head, memoryview(rows))
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _filled(head: dict[str, object], rows: memoryview) -> History:
    """Raises ValueError, TypeError or KeyError for what does not fit."""
    made = History()
    noted, at, groups = head["noted"], head["at"], head["groups"]
    if not isinstance(noted, int) or not isinstance(at, float) or not isinstance(groups, list):
        raise ValueError("no moment")
    if noted < 0 or not math.isfinite(at):
        raise ValueError("nothing was noted")
    # No slot of it is missing from the ring; that of the first row may be any.
    made.slot, made.at = noted, at
    place = 0
    for told in groups:
        group: Group | None = made.groups.get(told["kind"])
        fits = group is not None and list(group.columns) == told["columns"]
        for name, weight, length in told["series"]:
            size = length * _FLOAT
            values = array("f")
            values.frombytes(rows[place : place + size])
            place += size
            if len(values) != length or not isinstance(name, str):
                raise ValueError("rows are missing")
            if group is not None and fits and len(group.series) < group.most:
                group.series[name] = _series(group, noted, values, float(weight))
    if place != len(rows):
        raise ValueError("there is more than was announced")
    return made


def _series(group: Group, slot: int, values: array[float], weight: float) -> Series:
    width = len(group.columns)
    number, left = divmod(len(values), width)
    if left or not 0 < number <= min(SLOTS, slot + 1):
        raise ValueError("no whole rows")
    made = Series(width, slot - number + 1)
    made.weight = weight
    for i in range(number):
        made.put(made.since + i, values[i * width : (i + 1) * width])
    return made
