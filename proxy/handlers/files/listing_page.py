"""A listing as a page or as JSON. Pure.

The page needs no script: its columns are sorted by following links. It is readable on a phone, with
large letters, and in the dark. Its own Content-Security-Policy lets nothing load, so that the name
of a file can do nothing even if this page wrote it wrongly.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime

from .listing import MOST, Entry, Order, Sort

_STYLE = """\
:root{color-scheme:light dark;--line:#8885}
body{font:1rem/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem}
h1{font-size:1.25rem;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%}
th,td{padding:.4rem .5rem;text-align:left;vertical-align:top}
tr{border-bottom:1px solid var(--line)}
th:first-child,td:first-child{overflow-wrap:anywhere;width:100%}
th:nth-child(2),td:nth-child(2){text-align:right}
td:nth-child(2),td:nth-child(3){white-space:nowrap;font-variant-numeric:tabular-nums}
th{white-space:nowrap}
th a{color:inherit}
@media(max-width:40rem){
tr{display:grid;grid-template-columns:1fr auto}
td:first-child{grid-column:1/-1}
thead tr{grid-template-columns:1fr auto auto}
td{padding:.2rem .25rem}
td:nth-child(2){order:2}
td:nth-child(3){font-size:.875rem}
}"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"
# `html.escape` is this, but its module brings the names of 2,231 characters into every process.
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})
_COLUMNS: tuple[tuple[Sort, str], ...] = (("name", "Name"), ("size", "Size"), ("time", "Changed"))


def escape(text: str) -> str:
    """Spell a text for HTML, also within quotes."""
    return text.translate(_ESCAPES)


def page(
    path: str, entries: Iterable[Entry], sort: Sort, order: Order, *, above: bool, cut: bool
) -> bytes:
    """The page of the folder that clients know as ``path``. ``above``: it has a folder above it
    that may be asked for; ``cut``: there is more in it."""
    title = f"Index of {escape(path)}"
    rows = [_row(one) for one in entries]
    if above:
        rows.insert(0, '<tr><td><a href="../">../</a></td><td></td><td></td></tr>')
    if not rows:
        rows = ["<tr><td>There is nothing here.</td><td></td><td></td></tr>"]
    more = f"<p>There is more; the page ends after {MOST} names.</p>" if cut else ""
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<table>
<thead><tr>{"".join(_heading(*column, sort, order) for column in _COLUMNS)}</tr></thead>
<tbody>
{chr(10).join(rows)}
</tbody>
</table>
{more}</main>
</body>
</html>
""".encode("utf-8", "replace")


def document(entries: Iterable[Entry]) -> bytes:
    """The same for programs: a list of objects with name, url (relative), type (file, directory),
    size (of files, in bytes) and modified (RFC 3339)."""
    made = [
        {
            "name": one.name,
            "url": _relative(one.reference),
            "type": "directory" if one.folder else "file",
            "size": None if one.folder else one.size,
            "modified": _moment(one.modified),
        }
        for one in entries
    ]
    return json.dumps(made, ensure_ascii=False, indent=1).encode("utf-8", "replace") + b"\n"


def _heading(column: Sort, title: str, sort: Sort, order: Order) -> str:
    """The head of a column: a link that sorts by it, or turns the order around."""
    said, next_order = "", "asc"
    if column == sort:
        said = f' aria-sort="{"ascending" if order == "asc" else "descending"}"'
        title += " ↑" if order == "asc" else " ↓"
        next_order = "desc" if order == "asc" else "asc"
    link = f"?sort={column}&amp;order={next_order}"
    return f'<th scope="col"{said}><a href="{link}" rel="nofollow">{title}</a></th>'


def _row(one: Entry) -> str:
    shown = escape(one.name) + ("/" if one.folder else "")
    size = "" if one.folder else f'<span title="{one.size} bytes">{_size(one.size)}</span>'
    moment = _moment(one.modified)
    return (
        f'<tr><td><a href="{escape(_relative(one.reference))}">{shown}</a></td>'
        f"<td>{size}</td>"
        f'<td><time datetime="{moment}">{moment[:10]} {moment[11:16]}</time></td></tr>'
    )


def _relative(reference: str) -> str:
    """The reference, unless it reads as a scheme (``a:b``, RFC 3986 §4.2)."""
    return f"./{reference}" if ":" in reference else reference


def _moment(seconds: int) -> str:
    """RFC 3339, in UTC."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        moment = datetime.fromtimestamp(0, UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _size(octets: int) -> str:
    size = float(octets)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
