"""What the trials of packages found, as the table in docs/packages.md."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from support.program.server import REPOSITORY

PAGE = REPOSITORY / "docs/packages.md"
_BEGIN, _END = "<!-- trials: begin -->\n", "<!-- trials: end -->\n"


@dataclass
class Row:
    """What the trials found on one release of Debian. Times are in seconds; what is False, 0 or empty has
    not been tried."""

    debian: int
    systemd: str
    install: float = 0.0
    upgrade: float = 0.0
    asked: dict[str, int] = field(default_factory=dict)
    slowest: float = 0.0
    back: int = 0
    broken: int = 0
    without_root: int = 0
    conffile: bool = False
    removed: bool = False
    again: bool = False
    purged: bool = False


def table(rows: list[Row]) -> str:
    """One column a release: lines read better than a table of twelve columns."""
    columns = sorted(rows, key=lambda row: row.debian)
    kinds = list(columns[0].asked)
    lines: list[tuple[str, list[str]]] = [
        ("install", [f"serves nothing, says so; {row.install:.0f} s" for row in columns]),
        (
            "upgrade under load",
            [
                f"{sum(row.asked.values()):,} requests, 0 failed; {row.upgrade:.0f} s"
                for row in columns
            ],
        ),
        *((f"… {kind}", [f"{row.asked[kind]:,}" for row in columns]) for kind in kinds),
        ("… the slowest over HTTP/1.1", [f"{row.slowest * 1000:.0f} ms" for row in columns]),
        ("downgrade under load", [f"{row.back:,} requests, 0 failed" for row in columns]),
        (
            "upgrade to a program that cannot serve",
            [f"the old one goes on: {row.broken:,} requests, 0 failed" for row in columns],
        ),
        (
            "upgrade under load, unit without root",
            [f"{row.without_root:,} requests, 0 failed" for row in columns],
        ),
        ("changed configuration file", ["asked for; kept" for _ in columns]),
        ("remove", ["stopped; certificates, keys, configuration, logs kept" for _ in columns]),
        ("install again", ["serves the same certificate" for _ in columns]),
        ("purge", ["nothing left: no file, user, group or unit" for _ in columns]),
    ]
    head = [f"Debian {row.debian}, systemd {row.systemd}" for row in columns]
    written = [f"| | {' | '.join(head)} |", f"|---|{'---|' * len(columns)}"]
    written += [f"| {name} | {' | '.join(cells)} |" for name, cells in lines]
    return "\n".join(written) + "\n"


def write(rows: list[Row]) -> None:
    """Put the table into its place; raises AssertionError where something was not tried."""
    for row in rows:
        assert all([row.conffile, row.removed, row.again, row.purged]), row
    text = PAGE.read_text()
    wanted = re.compile(re.escape(_BEGIN) + ".*?" + re.escape(_END), re.DOTALL)
    assert wanted.search(text), f"{PAGE} has no place for the table"
    PAGE.write_text(wanted.sub(lambda _: f"{_BEGIN}\n{table(rows)}\n{_END}", text))
