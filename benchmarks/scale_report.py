"""From the figures of `benchmarks.scale` to `scale.md` and `scale.svg`."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence

# What was measured → number of sites → server → figure.
Results = dict[str, dict[int, dict[str, float]]]
Note = Callable[[str, float], None]

_COLOURS = {"treehouse-proxy": "#c33", "nginx": "#2a7f62", "caddy": "#8a5fbf"}
_CHARTS = ("start to serving, s", "worker at rest, PSS MB", "reload, s")


# What the page begins with: how one server compares with the others at the largest number.
_COMPARED = (
    *_CHARTS,
    "start to serving, CPU s of all",
    "all processes at rest, PSS MB",
    "handshake, hot: CPU, ms",
    "handshake, cold: CPU, ms",
    "reload, CPU s of all that stays",
)


def page(results: Results, heading: Mapping[str, str], troubles: Sequence[str] = ()) -> str:
    """Return `scale.md`. ``troubles``: what could not be measured."""
    counts = sorted({count for figures in results.values() for count in figures})
    servers = list(dict.fromkeys(one for by in results.values() for few in by.values() for one in few))  # fmt: skip
    header = " | ".join(f"{count:,}" for count in counts)
    lines = [
        "# What sites cost",
        "",
        f"Made by `make scale` on {heading['when']}, commit {heading['commit']}; Python",
        f"{platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} cores. Two workers,",
        "a certificate (ECDSA P-256, the built-in CA) and a name for each site, one document root.",
        f"{heading['servers']}.",
        "",
        *(f"**Not measured**: {one}\n" for one in troubles),
        *_comparison(results, servers, max(counts, default=0)),
        "",
        f"| what | server | {header} |",
        f"|---|---|{'---:|' * len(counts)}",
    ]
    for what, by_count in results.items():
        for server in servers:
            row = [by_count.get(count, {}).get(server) for count in counts]
            if any(one is not None for one in row):
                lines.append(f"| {what} | {server} | {' | '.join(map(_figure, row))} |")
    return "\n".join(lines) + "\n"


def _comparison(results: Results, servers: Sequence[str], count: int) -> Iterator[str]:
    """Yield a table of a few figures, each beside what it is of the first server's."""
    yield f"![start, memory and reload with {count:,} sites](scale.svg)"
    yield ""
    yield f"| {count:,} sites | {' | '.join(servers)} |"
    yield f"|---|{'---:|' * len(servers)}"
    for what in _COMPARED:
        figures = results.get(what, {}).get(count, {})
        first = figures.get(servers[0]) if servers else None
        cells = []
        for server in servers:
            value = figures.get(server)
            times = (
                f" ({value / first:.2f} times)" if value and first and server != servers[0] else ""
            )
            cells.append(_figure(value) + times)
        if figures:
            yield f"| {what} | {' | '.join(cells)} |"


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def chart(results: Results) -> str:
    """An SVG with a bar for each server, at the largest number of sites."""
    largest = max(count for figures in results.values() for count in figures)
    width, left, bar = 760, 160, 18
    parts: list[str] = []
    y = 50
    for what in _CHARTS:
        figures = results.get(what, {}).get(largest, {})
        if not figures:
            continue
        parts.append(f'<text x="10" y="{y}" font-size="13">{what}</text>')
        most = max(figures.values())
        for server, value in figures.items():
            y += bar + 6
            length = value / most * (width - left - 80)
            parts.append(
                f'<text x="10" y="{y}">{server}</text>'
                f'<rect x="{left}" y="{y - 13}" width="{length:.0f}" height="{bar}" '
                f'fill="{_COLOURS[server]}"/>'
                f'<text x="{left + length + 5:.0f}" y="{y}">{_figure(value)}</text>'
            )
        y += bar + 20
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" '
        'font-family="sans-serif" font-size="12">'
        '<rect width="100%" height="100%" fill="white"/>'
        f'<text x="10" y="22" font-size="15">{largest:,} sites</text>'
    )
    return head + "\n".join(parts) + "</svg>\n"
