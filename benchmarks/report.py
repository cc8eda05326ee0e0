"""From the figures of all rounds to `results.md` and `chart.svg`: medians, spread, ratios."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from statistics import median

OURS = "treehouse-proxy"


@dataclass(slots=True)
class Figures:
    """What one peer did in one scenario, one entry per round."""

    cost: list[float] = field(default_factory=list)  # server CPU, µs per request or per MiB
    rate: list[float] = field(default_factory=list)  # requests or MiB per second
    p50: list[float] = field(default_factory=list)  # µs
    p99: list[float] = field(default_factory=list)
    errors: int = 0


Results = dict[str, dict[str, Figures]]  # scenario → peer → figures


def _spread(values: list[float]) -> str:
    middle = median(values)
    return f"±{(max(values) - min(values)) / 2 / middle * 100:.0f} %" if middle else ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def table(results: Results, units: dict[str, str]) -> str:
    lines = []
    for scenario, peers in results.items():
        unit = units[scenario]
        lines += [
            f"### {scenario}",
            "",
            f"| server | CPU µs per {unit} | spread | ours ÷ theirs | {unit}s per second | spread | ours ÷ theirs | p50 µs | p99 µs | errors |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for name, figures in sorted(peers.items(), key=lambda item: median(item[1].cost)):
            ours = peers.get(OURS)
            lines.append(
                f"| {name} | {_number(median(figures.cost))} | {_spread(figures.cost)} "
                f"| {_ratio(ours and ours.cost, figures.cost)} "
                f"| {_number(median(figures.rate))} | {_spread(figures.rate)} "
                f"| {_ratio(ours and ours.rate, figures.rate)} | {_number(median(figures.p50))} "
                f"| {_number(median(figures.p99))} | {figures.errors} |"
            )
        lines.append("")
    return "\n".join(lines)


def _ratio(ours: list[float] | None, theirs: list[float]) -> str:
    return f"{median(ours) / median(theirs):.2f}" if ours and median(theirs) else ""


def extras(figures: dict[str, dict[str, list[float]]]) -> str:
    """What is one figure per round: title → peer → the rounds."""
    lines = []
    for what, by_peer in figures.items():
        lines += [
            f"### {what}",
            "",
            "| server | median | spread | ours ÷ theirs |",
            "|---|---:|---:|---:|",
        ]
        for name, values in sorted(by_peer.items(), key=lambda item: median(item[1])):
            lines.append(
                f"| {name} | {median(values):,.2f} | {min(values):,.2f} to {max(values):,.2f} "
                f"| {_ratio(by_peer.get(OURS), values)} |"
            )
        lines.append("")
    return "\n".join(lines)


def chart(results: Results, against: tuple[str, ...] = ("nginx", "caddy")) -> str:
    """An SVG of our CPU cost relative to each peer's; shorter is cheaper, the line is 1."""
    rows = []
    for scenario, peers in results.items():
        if OURS not in peers:
            continue
        ours = median(peers[OURS].cost)
        rows += [
            (scenario, other, ours / median(peers[other].cost))
            for other in against
            if other in peers and median(peers[other].cost)
        ]
    colours = {"nginx": "#2a7f62", "caddy": "#8a5fbf"}
    width, left, bar = 760, 270, 18
    scale = (width - left - 60) / max([2.0, *(ratio for _, _, ratio in rows)])
    height = 60 + len(rows) * (bar + 6)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="20" font-size="14">Server CPU per request, {OURS} ÷ peer (below 1: cheaper)</text>',
    ]
    for at, (scenario, other, ratio) in enumerate(rows):
        y = 40 + at * (bar + 6)
        parts.append(
            f'<text x="10" y="{y + 13}">{html.escape(scenario)} ÷ {other}</text>'
            f'<rect x="{left}" y="{y}" width="{ratio * scale:.0f}" height="{bar}" '
            f'fill="{colours[other]}"/>'
            f'<text x="{left + ratio * scale + 5:.0f}" y="{y + 13}">{ratio:.2f}</text>'
        )
    one = left + scale
    parts.append(
        f'<line x1="{one:.0f}" y1="34" x2="{one:.0f}" y2="{height - 12}" stroke="#c33" '
        'stroke-dasharray="4 3"/></svg>'
    )
    return "\n".join(parts) + "\n"
