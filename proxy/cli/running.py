"""Commands that ask the running server over its control socket, or order something of it.

Each puts a question by `asking`, and shows the answer. Where no server runs, `status` alone has an
answer: what the state directory says.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..exit_status import FAILED, USAGE
from .asking import ask, complain, status_of, warn
from .options import Number, server_options

if TYPE_CHECKING:
    from ..ipc.documents import Status as ServerStatus


@click.command()
@server_options
def reload(config: Path | None, state: Path | None) -> None:
    """Put the configuration on disk in force; the same as SIGHUP.

    \b
    sudo treehouse-proxy reload
    """
    answer = ask(config, state, _about(config, "reload"))
    warn(answer.get("notices", ()))
    click.echo(f"reloaded: generation {answer['generation']}")


@click.command()
@server_options
def upgrade(config: Path | None, state: Path | None) -> None:
    """Hand over to the program now on disk; the same as SIGUSR2.

    \b
    sudo treehouse-proxy upgrade
    """
    answer = ask(config, state, {"command": "upgrade"})
    click.echo(f"upgraded: process {answer['pid']} serves")


@click.command()
@server_options
def plan(config: Path | None, state: Path | None) -> None:
    """Show what a reload would change, and change nothing.

    \b
    sudo treehouse-proxy plan && sudo treehouse-proxy reload
    """
    answer = ask(config, state, _about(config, "plan"))
    warn(answer.get("notices", ()))
    changes = answer["changes"]
    for line in changes or ["a reload would change nothing"]:
        click.echo(line)
    if changes:
        click.echo("no connection would be cut: what is under way finishes with the old settings")


@click.command()
@server_options
def stop(config: Path | None, state: Path | None) -> None:
    """Stop gracefully; the same as SIGTERM.

    \b
    sudo treehouse-proxy stop
    """
    ask(config, state, {"command": "stop"})
    click.echo("stopped")


@click.command()
@click.option("--wait", default="30s", metavar="TIME", help="Until it stops; 30s unless given.")
@click.option("--cancel", is_flag=True, help="Take clients again.")
@server_options
def drain(wait: str, cancel: bool, config: Path | None, state: Path | None) -> None:
    """Have balancers send nobody here any more, and stop after a while.

    Until then everything is served, and /healthz of the admin listener answers 503. Give balancers
    the time that they need to notice: an interval of theirs, times the failures that they wait for.

    \b
    sudo treehouse-proxy drain --wait 15s
    sudo treehouse-proxy drain --cancel
    """
    from ..config.syntax.faults import Wrong
    from ..config.syntax.units import parse_duration

    if cancel:
        ask(config, state, {"command": "drain", "cancel": True})
        click.echo("it takes clients again: /healthz answers 200")
        return
    try:
        seconds = parse_duration(wait)
    except Wrong as wrong:
        complain(f"--wait: {wrong.what}: {wrong.remedy}", USAGE)
    told = ask(config, state, {"command": "drain", "seconds": seconds})
    if told.get("seen"):
        click.echo(f"/healthz answers 503 from now on; the server stops in {wait}")
    else:
        click.echo(
            f"the server stops in {wait}; no balancer sees that, for want of admin: {{listen}}"
        )


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@server_options
@click.option(
    "--json", "as_json", is_flag=True, help="For programs; all, unless less is asked for."
)
@click.option("--attention", is_flag=True, help="Only what needs attention.")
@click.option("--all", "every", is_flag=True, help="All certificates, not the first fifty.")
@click.option("--cluster", "of_cluster", is_flag=True, help="The machines of the cluster.")
def status(
    names: tuple[str, ...],
    config: Path | None,
    state: Path | None,
    as_json: bool,
    attention: bool,
    every: bool,
    of_cluster: bool,
) -> None:
    """Show processes, listeners, certificates and backends.

    With NAME the certificates for that name, or for all that match, as "*.example.org" does. What
    needs attention comes first.

    \b
    sudo treehouse-proxy status
    sudo treehouse-proxy status --attention
    sudo treehouse-proxy status --json | jq .upstreams
    sudo treehouse-proxy status --cluster
    """
    from .selection import Selection

    selection = Selection(names, attention, every or bool(names))
    whole = status_of(config, state)
    if of_cluster:
        _status_of_cluster(whole, as_json=as_json)
        return
    document = selection.of(whole)
    if names and not document["certificates"] and not selection.knows(whole):
        there = ", ".join(one["name"] for one in whole["certificates"][:10]) or "none"
        complain(f"no certificate is for {' or '.join(names)}; there are: {there}", FAILED)
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    from .status_table import show

    show(document, selection)


def _status_of_cluster(document: ServerStatus, *, as_json: bool) -> None:
    from .status_table import show_cluster

    found = document["cluster"]
    if found is None:
        runs = document["pid"] is not None
        complain(
            "the running server has no cluster, or has not reached it yet"
            if runs
            else "no server runs; treehouse-proxy cluster check asks etcd itself",
            FAILED,
        )
    elif as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        show_cluster(found, document["certificates"])


@click.command()
@server_options
@click.option("--once", is_flag=True, help="One page, for scripts.")
@click.option("--interval", type=Number(0.1, 60), default=1.0, metavar="SECONDS", help="Default 1.")
def top(config: Path | None, state: Path | None, once: bool, interval: float) -> None:
    """Show requests, errors, latency and bytes by site and backend, as they happen.

    What needs attention comes first. The page renews itself; q ends it.

    \b
    sudo treehouse-proxy top
    sudo treehouse-proxy top --once --interval 10
    """
    from typing import cast

    from ..ipc.documents import TopDocument
    from . import top as pages

    def asked() -> TopDocument:
        return cast(TopDocument, ask(config, state, {"command": "top"}))

    pages.watch(asked, interval, once=once, out=sys.stdout)


def _about(config: Path | None, command: str) -> dict[str, str]:
    """A question about a file. A server that reads another one says so, rather than answer for
    that."""
    if config is None:
        return {"command": command}
    return {"command": command, "config": os.path.abspath(config)}


COMMANDS = (reload, upgrade, plan, stop, drain, status, top)
