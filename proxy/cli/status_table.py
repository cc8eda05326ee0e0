"""``status`` for people: three tables, worst first where that matters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import click

from acme_client.status import CertificateStatus, ClusterStatus, cluster_fault
from acme_client.text import printable

from ..ipc.documents import ProviderStatus, SiteStatus, Status, UpstreamStatus, WorkerStatus
from .selection import Selection
from .table import GREEN, RED, YELLOW, Cell, table

_ALL = Selection(every=True)


def show(document: Status, selection: Selection = _ALL) -> None:
    if document["pid"] is None:
        click.echo(f"treehouse-proxy {document['version']}: no server runs")
    else:
        click.echo(
            f"treehouse-proxy {document['version']}, pid {document['pid']} as uid "
            f"{document['uid']}, generation {document['generation']}, since "
            f"{document['started_at']}"
        )
        ways = ", ".join(f"{one['address']} ({one['kind']})" for one in document["listeners"])
        click.echo(f"listening on {ways}")
    tables = [
        _workers(document["workers"]),
        _certificates(document["certificates"], selection),
        _upstreams(document["upstreams"]),
        _unwanted(document["unwanted"]),
        *map(_provider, document["providers"]),
        _cluster(document["cluster"]),
        _elsewhere(document["sites"]),
    ]
    for text in filter(None, tables):
        click.echo(f"\n{text}")
    if selection.attention and not document["certificates"] and not document["upstreams"]:
        click.echo("\nnothing needs attention")


# Seconds by which clocks may differ: half of what keeps a machine from ordering.
_APART = 30


def show_cluster(status: ClusterStatus, certificates: Sequence[CertificateStatus] = ()) -> None:
    """Print who is in the cluster, what each does, what each wants otherwise than this machine, and
    what is not taken."""
    click.echo(_cluster(status))
    header = ("machine", "program", "since", "does", "behind", "clock", "wants otherwise")
    rows = [
        (
            printable(one["node"]) + (" (this one)" if one["node"] == status["node"] else ""),
            printable(one["version"]),
            printable(one["since"] or ""),
            "orders" if one["orders"] else "takes",
            Cell(str(one["behind"]), YELLOW if one["behind"] else GREEN),
            Cell(f"{one['clock']:+d} s", YELLOW if abs(one["clock"]) > _APART else GREEN),
            Cell(str(one["differs"]), YELLOW if one["differs"] else GREEN),
        )
        for one in status["members"]
    ]
    if rows:
        click.echo(f"\n{table(header, rows)}")
    for one in status["members"]:
        names = one.get("otherwise", [])
        more = one["differs"] - len(names)
        if names:
            listed = ", ".join(map(printable, names)) + (f" and {more} more" if more else "")
            click.echo(f"{printable(one['node'])} wants otherwise than this machine: {listed}")
    for certificate in certificates:
        if told := certificate.get("contested"):
            click.echo(printable(told))
    for name, why in sorted(status["refused"].items()):
        click.echo(f"{printable(name)}: not taken, what is here stays: {printable(why)}")


def _cluster(status: ClusterStatus | None) -> str:
    if status is None:
        return ""
    does = "orders certificates"
    if not status["orders"]:
        who = ", ".join(map(printable, status["ordering"])) or "nobody"
        do = "order" if len(status["ordering"]) > 1 else "orders"
        does = f"takes certificates, and {who} {do} them"
        if not status["ordering"] and not status["fault"]:
            does += " (take order: false out of the configuration of one)"
    lines = [f"cluster {status['name']}: this machine, {printable(status['node'])}, {does}"]
    if fault := cluster_fault(status):
        lines.append(printable(fault))
    if status["alone"]:
        lines.append("what has little of its life left is ordered without the others")
    if status["connected"] and len(status["members"]) > 1:
        lines[0] += f"; {len(status['members'])} machines are there"
    if status["revision_behind"]:
        lines.append(f"etcd's last {status['revision_behind']} changes have not been heard of")
    if status["refused"]:
        lines.append(f"not taken from the cluster: {', '.join(sorted(status['refused']))}")
    return "\n".join(lines)


def show_certificates(document: Status) -> None:
    click.echo(_certificates(document["certificates"]) or "there are no certificates")
    if document["unwanted"]:
        click.echo(f"\n{_unwanted(document['unwanted'])}")


def _unwanted(names: list[str]) -> str:
    if not names:
        return ""
    kept = ", ".join(map(printable, names))
    return (
        f"kept, though no site wants them any more: {kept}\n"
        "to remove one: treehouse-proxy certs forget NAME"
    )


def _workers(workers: list[WorkerStatus]) -> str:
    header = ("worker", "generation", "state", "connections", "streams", "requests")
    rows = [
        (
            str(one["pid"]),
            str(one["generation"]),
            one["state"],
            str(one["connections"]),
            str(one["streams"]),
            str(one["requests"]),
        )
        for one in workers
    ]
    return table(header, rows) if rows else ""


def _certificates(certificates: list[CertificateStatus], selection: Selection = _ALL) -> str:
    shown, more = selection.page(certificates)
    header = ("names", "source", "key", "state", "left", "served", "renews", "last error")
    rows = [
        (
            "\n".join(map(printable, one["names"])),
            one["source"],
            one["key_type"] or "",
            one["state"],
            _left(one["not_after"]),
            Cell("yes") if one["served"] else Cell("no", RED),
            one["renew_at"] or "",
            printable(one["last_error"] or ""),
        )
        for one in shown
    ]
    if not rows:
        return ""
    rest = f"\nand {more} more: status --all, or status NAME" if more else ""
    return table(header, rows) + rest


def _provider(one: ProviderStatus) -> str:
    how = "asked" if one["connected"] else f"cannot be asked: {one['last_error'] or 'not yet'}"
    names = ", ".join(map(printable, one["containers"])) or "none"
    lines = [f"{one['kind']} {printable(one['url'])}: {how}; containers: {names}"]
    return "\n".join(lines + [f"  {printable(line)}" for line in one["left_out"]])


def _elsewhere(sites: list[SiteStatus]) -> str:
    """Tell of the sites that stand in no file where they come from."""
    header = ("site", "comes from")
    rows = [
        ("\n".join(map(printable, one["names"])), printable(one["source"]))
        for one in sites
        if one["source"].startswith("container")
    ]
    return table(header, rows) if rows else ""


def _left(not_after: str | None) -> Cell:
    """Days and hours until the certificate ends, coloured by urgency."""
    if not_after is None:
        return Cell("none", RED)
    seconds = (datetime.fromisoformat(not_after) - datetime.now(UTC)).total_seconds()
    if seconds < 0:
        return Cell("expired", RED)
    days, hours = divmod(int(seconds // 3600), 24)
    colour = GREEN if days >= 7 else YELLOW if days >= 2 else RED
    return Cell(f"{days} d {hours} h", colour)


_HEALTH = {"yes": "yes", "no": "no", "untried": "not tried yet"}


def _upstreams(upstreams: list[UpstreamStatus]) -> str:
    header = ("backend", "healthy", "in flight", "failures", "last error")
    colours = {"yes": GREEN, "no": RED, "untried": YELLOW}
    rows = [
        (
            printable(one["url"]),
            Cell(_HEALTH[one["healthy"]], colours[one["healthy"]]),
            str(one["in_flight"]),
            str(one["failures"]),
            printable(one["last_error"] or ""),
        )
        for one in upstreams
    ]
    return table(header, rows) if rows else ""
