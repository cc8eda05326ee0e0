"""``status`` for people: three tables, worst first where that matters."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from acme_client.status import CertificateStatus

from ..ipc.documents import Status, UpstreamStatus, WorkerStatus

_BAD, _WATCH, _GOOD = "red", "yellow", "green"
# Where there is no terminal (a pipe, a mail from cron) nothing is cut to fit one.
_WIDE = 1000


def show(document: Status) -> None:
    console = _console()
    console.print(
        f"treehouse-proxy {document['version']}, pid {document['pid']} as uid {document['uid']}, "
        f"generation {document['generation']}, since {document['started_at']}",
        highlight=False,
    )
    console.print(
        "listening on "
        + ", ".join(f"{one['address']} ({one['kind']})" for one in document["listeners"]),
        highlight=False,
    )
    console.print(_workers(document["workers"]))
    if document["certificates"]:
        console.print(_certificates(document["certificates"]))
    if document["upstreams"]:
        console.print(_upstreams(document["upstreams"]))


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDE)


def show_certificates(document: Status) -> None:
    _console().print(_certificates(document["certificates"]))


def _workers(workers: list[WorkerStatus]) -> Table:
    table = Table("worker", "generation", "state", "connections", "streams", "requests")
    for one in workers:
        figures = (one["connections"], one["streams"], one["requests"])
        table.add_row(str(one["pid"]), str(one["generation"]), one["state"], *map(str, figures))
    return table


def _certificates(certificates: list[CertificateStatus]) -> Table:
    table = Table("names", "source", "key", "state", "left", "served", "renews", "last error")
    for one in sorted(certificates, key=lambda one: one["not_after"] or ""):
        table.add_row(
            escape("\n".join(one["names"])),
            one["source"],
            one["key_type"],
            one["state"],
            _left(one["not_after"]),
            "yes" if one["served"] else f"[{_BAD}]no",
            one["renew_at"] or "",
            escape(one["last_error"] or ""),
        )
    return table


def _left(not_after: str | None) -> str:
    """Days and hours until the certificate ends, coloured by urgency."""
    if not_after is None:
        return f"[{_BAD}]none"
    seconds = (datetime.fromisoformat(not_after) - datetime.now(UTC)).total_seconds()
    if seconds < 0:
        return f"[{_BAD}]expired"
    days, hours = divmod(int(seconds // 3600), 24)
    colour = _GOOD if days >= 7 else _WATCH if days >= 2 else _BAD
    return f"[{colour}]{days} d {hours} h"


def _upstreams(upstreams: list[UpstreamStatus]) -> Table:
    table = Table("backend", "healthy", "in flight", "failures", "last error")
    colours = {"yes": _GOOD, "no": _BAD, "untried": _WATCH}
    for one in upstreams:
        table.add_row(
            escape(one["url"]),
            f"[{colours[one['healthy']]}]{one['healthy']}",
            str(one["in_flight"]),
            str(one["failures"]),
            escape(one["last_error"] or ""),
        )
    return table
