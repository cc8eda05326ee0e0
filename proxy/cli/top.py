"""``treehouse-proxy top``: a terminal page that renews itself.

The server tells what it has counted since it counts; what happens now is the difference between two
answers. So the first figures come after one interval. A page is lines of text made from two answers
and the size of the terminal (`frame`, pure); `watch` is the terminal: no curses, only the few
sequences that every terminal knows, and none where the output is no terminal or NO_COLOR is set.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TextIO

from acme_client.readable import readable
from acme_client.text import moment, printable, spell

from ..ipc.documents import TopDocument, TopRow, UpstreamStatus
from ..metrics.counters import labels
from ..metrics.history import minus, quantile

Ask = Callable[[], TopDocument]
# Of the screen that is used instead of the user's, which comes back afterwards.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_STYLES = {"bold": "1", "dim": "2", "red": "31", "yellow": "33", "reverse": "7"}
_WARNED_LINES = 5
_HEADS = ("req/s", "4xx", "5xx", "p50", "p99", "out/s")
_BACKEND_HEADS = ("req/s", "5xx", "fail", "p50", "p99", "health")
_CELL = 8


class Style:
    """Colours, where they are wanted."""

    def __init__(self, on: bool) -> None:
        self._on = on

    def __call__(self, text: str, *names: str) -> str:
        if not self._on or not names:
            return text
        return f"\x1b[{';'.join(_STYLES[one] for one in names)}m{text}\x1b[0m"


# A page


def frame(
    before: TopDocument, after: TopDocument, width: int, height: int, style: Style
) -> list[str]:
    """Return the lines of a page, none wider than ``width`` and at most ``height``; 0: as many as
    there are."""
    seconds = max(after["at"] - before["at"], 0.001)
    lines = [*_head(before, after, seconds, width, style)]
    lines += _attention(after, width, height, style)
    sites = _rows(before["sites"], after["sites"], seconds)
    backends = _rows(before["backends"], after["backends"], seconds)
    room = height - len(lines) if height else len(sites) + len(backends) + 8
    for_backends = min(len(after["upstreams"]), max(room // 3, room - 3 - len(sites)) - 3)
    for_sites = room - 3 - (for_backends + 2 if for_backends > 0 else 0)
    lines += _sites(sites, after["sites_known"], max(for_sites, 1), width, style)
    if for_backends > 0:
        lines += _backends(backends, after["upstreams"], for_backends, width, style)
    return lines[:height] if height else lines


class _Row:
    """What a site or a backend did between two answers."""

    def __init__(self, name: str, before: TopRow | None, after: TopRow, seconds: float) -> None:
        self.name = name
        counted = before["counts"] if before else {}
        self.rates = {
            key: max(0, count - counted.get(key, 0)) / seconds
            for key, count in after["counts"].items()
        }
        self.rate = sum(self.rates.values())
        counts = minus(after["seconds"], before and before["seconds"])
        self.p50, self.p99 = quantile(counts, 0.5), quantile(counts, 0.99)
        moved = minus(after["bytes"], before and before["bytes"])
        self.bytes = [count / seconds for count in moved]


def _rows(before: dict[str, TopRow], after: dict[str, TopRow], seconds: float) -> list[_Row]:
    found = [_Row(name, before.get(name), row, seconds) for name, row in after.items()]
    return sorted(found, key=lambda one: (-one.rate, one.name))


def _head(
    before: TopDocument, after: TopDocument, seconds: float, width: int, style: Style
) -> Iterator[str]:
    since = spell(after["at"] - moment(after["started_at"]))
    workers = ", ".join(f"{count} {state}" for state, count in sorted(after["workers"].items()))
    now = datetime.fromtimestamp(after["at"], UTC).strftime("%H:%M:%SZ")
    title = f"treehouse-proxy {after['version']}"
    rest = f"  up {since}  generation {after['generation']}  workers: {workers}  {now}"
    yield (
        style(title, "bold") + _cut(rest, width - len(title))
        if len(title) < width
        else _cut(title, width)
    )
    whole = _Row("", before["all"], after["all"], seconds)
    by_class = "  ".join(
        f"{kind} {_count(rate)}" for kind, rate in sorted(whole.rates.items()) if rate
    )
    yield _cut(
        f"requests {_count(whole.rate)}/s  {by_class}  p50 {_time(whole.p50)}  "
        f"p99 {_time(whole.p99)}  in {_bytes(whole.bytes[0])}/s  out {_bytes(whole.bytes[1])}/s",
        width,
    )
    shakes: dict[str, float] = {}
    for key, count in after["handshakes"].items():
        more = max(0, count - before["handshakes"].get(key, 0)) / seconds
        version, resumed, result = labels(key)
        name = "failed" if result != "ok" else "resumed" if resumed == "true" else version
        shakes[name] = shakes.get(name, 0.0) + more
    told = "  ".join(f"{name} {_count(rate)}/s" for name, rate in sorted(shakes.items()) if rate)
    open_ = sum(after["connections"].values())
    yield _cut(f"connections {open_}  handshakes {told or 'none'}", width)
    yield _cut(_processes(before, after, seconds), width)


def _processes(before: TopDocument, after: TopDocument, seconds: float) -> str:
    cpu = {one["process"]: one["cpu_seconds"] for one in before["processes"]}
    parts = []
    for one in after["processes"]:
        name = one["process"].partition(" of generation")[0]
        used = one["cpu_seconds"] - cpu.get(one["process"], one["cpu_seconds"])
        share = 100 * max(0.0, used) / seconds
        parts.append(f"{name} {share:.0f}% {_bytes(one['resident_memory_bytes'])}")
    return "  ".join(parts)


def _attention(after: TopDocument, width: int, height: int, style: Style) -> Iterator[str]:
    shown = after["attention"]
    most = len(shown) if not height else min(len(shown), _WARNED_LINES, max(height // 4, 1))
    for one in shown[:most]:
        colour = "red" if one["level"] == "wrong" else "yellow"
        yield style(_cut(f"! {printable(one['text'])}", width), colour)
        if not height:
            yield _cut(f"  next: {printable(one['step'])}", width)
    more = len(shown) - most + after["attention_more"]
    if more:
        yield _cut(f"! and {more} more that need attention", width)


def _sites(rows: list[_Row], known: int, most: int, width: int, style: Style) -> Iterator[str]:
    yield ""
    yield style(_line("site", _HEADS, width), "reverse")
    for row in rows[:most]:
        cells = (
            _count(row.rate),
            _count(row.rates.get("4xx", 0.0)),
            _count(row.rates.get("5xx", 0.0)),
            _time(row.p50),
            _time(row.p99),
            _bytes(row.bytes[1]),
        )
        line = _line(row.name or "(no site)", cells, width)
        yield style(line, "red") if row.rates.get("5xx") else line
    left = max(len(rows) - most, known - len(rows), 0)
    if left:
        yield style(
            _cut(f"and {left} more site{'s' if left != 1 else ''}, quieter than these", width),
            "dim",
        )


def _backends(
    rows: list[_Row], upstreams: list[UpstreamStatus], most: int, width: int, style: Style
) -> Iterator[str]:
    yield ""
    yield style(_line("backend", _BACKEND_HEADS, width), "reverse")
    by_name = {row.name: row for row in rows}
    order = {"no": 0, "yes": 1, "untried": 2}
    listed = sorted(
        upstreams,
        key=lambda one: (
            order[one["healthy"]],
            -by_name[one["url"]].rate if one["url"] in by_name else 0.0,
        ),
    )
    for one in listed[:most]:
        row = by_name.get(one["url"])
        rates = row.rates if row else {}
        failed = sum(rate for name, rate in rates.items() if name not in ("ok", "error"))
        cells = (
            _count(row.rate if row else 0.0),
            _count(rates.get("error", 0.0)),
            _count(failed),
            _time(row.p50 if row else 0.0),
            _time(row.p99 if row else 0.0),
            "drains"
            if one["draining"]
            else {"yes": "well", "no": "fails"}.get(one["healthy"], "-"),
        )
        line = _line(one["url"], cells, width)
        yield style(line, "red") if one["healthy"] == "no" else line


def _line(name: str, cells: tuple[str, ...], width: int) -> str:
    """Make a line of a name and as many cells as there is room for, the first ones first."""
    count = max(0, min(len(cells), (width - 16) // _CELL))
    room = width - count * _CELL
    text = _cut(printable(name), room - 1).ljust(room) if room > 1 else ""
    return _cut(text + "".join(f"{one:>{_CELL}}" for one in cells[:count]), width)


def _cut(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    return text[: max(width - 1, 0)] + "…" if width > 1 else text[:width]


def _count(rate: float) -> str:
    if rate >= 9999.5:
        return f"{rate / 1000:.1f}k"
    return f"{rate:.0f}" if rate >= 10 or rate == int(rate) else f"{rate:.1f}"


def _time(seconds: float) -> str:
    if not seconds:
        return "-"
    return f"{seconds * 1000:.1f}ms" if seconds < 0.1 else f"{seconds:.2f}s"


def _bytes(count: float) -> str:
    for unit in ("B", "K", "M", "G"):
        if count < 1024 or unit == "G":
            break
        count /= 1024
    return f"{count:.0f}{unit}" if count >= 10 or unit == "B" else f"{count:.1f}{unit}"


# The terminal


def watch(ask: Ask, interval: float, *, once: bool, out: TextIO) -> None:
    """Show pages until somebody types ``q``; with ``once``, or where the output is no terminal, one
    page and no more."""
    colours = out.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    style = Style(colours)
    before = ask()
    if once or not (out.isatty() and sys.stdin is not None and sys.stdin.isatty()):
        time.sleep(interval)  # the page tells of this time; there is nothing to be awaited
        width = shutil.get_terminal_size((100, 24)).columns
        out.writelines(line + "\n" for line in frame(before, ask(), width, 0, style))
        out.flush()
        return
    with _screen(out) as resized:
        after = before
        while True:
            size = _size_of(out)
            lines = frame(before, after, size.columns, size.lines - 1, style)
            text = "".join(f"{line}{_CLEAR_LINE}\r\n" for line in lines)
            foot = _cut("q ends", size.columns)
            out.write(f"{_HOME}{text}{style(foot, 'dim')}{_CLEAR_BELOW}")
            out.flush()
            key = _key(resized, interval)
            if key in ("q", "Q", "\x03", "\x04"):
                return
            if key is None:
                before, after = after, ask()


def _size_of(out: TextIO) -> os.terminal_size:
    """Ask the terminal itself: COLUMNS may be what a window once was. A terminal that does not know
    its size says 0."""
    size = os.get_terminal_size(out.fileno())
    return size if size.columns and size.lines else os.terminal_size((80, 24))


def _key(resized: int, interval: float) -> str | None:
    """Return what was typed; None when the interval is over, "" when the terminal has another
    size."""
    ready = readable([sys.stdin.fileno(), resized], interval)
    if resized in ready:
        os.read(resized, 64)
        return ""
    return os.read(sys.stdin.fileno(), 1).decode("latin-1") or "q" if ready else None


@contextlib.contextmanager
def _screen(out: TextIO) -> Iterator[int]:
    """Take the whole terminal, and give it back as it was however this ends. Yields a descriptor
    that can be read when the size has changed."""
    fd = sys.stdin.fileno()
    kept = termios.tcgetattr(fd)
    reads, writes = os.pipe()
    os.set_blocking(writes, False)

    def changed(*_: object) -> None:
        with contextlib.suppress(OSError):
            os.write(writes, b"\0")

    def ended(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGWINCH, changed)
    signal.signal(signal.SIGTERM, ended)
    try:
        tty.setcbreak(fd)
        out.write(_ENTER)
        yield reads
    finally:
        out.write(_LEAVE)
        out.flush()
        termios.tcsetattr(fd, termios.TCSADRAIN, kept)
