"""The command line: words and flags in, an exit status out.

Nothing is decided here. Options become an `Options` value, and what comes back is shown to people
or, with ``--json``, to programs. Commands that go over the control socket are in `running`.
Without a command the first word is taken to be `run`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from acme_client.text import printable, timestamp

from ..accelerated import fault, lane
from ..config.load import ConfigurationFaults, Options, load, state_directory
from ..exit_status import FAILED, OK, USAGE
from ..log import displayable
from ..version import VERSION
from .asking import ask, complain, status_of, warn
from .certs import certs
from .cluster import cluster
from .config_import import config
from .next_steps import as_typed
from .options import NAME, Commands, Number, server_options, site_options
from .running import COMMANDS
from .words import explained

_FORM = "pure Python" if lane is None else "accelerated lane"
if fault:
    _FORM += f": {printable(fault)}"


class _RunByDefault(Commands):
    """``treehouse-proxy --domain example.org`` means ``treehouse-proxy run --domain …``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        completing = ctx.resilient_parsing and not args  # a shell asks for the first word
        asked = args and args[0] in ("--help", "-h", "--version")
        if not completing and (not args or (args[0].startswith("-") and not asked)):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def main(self, *args: Any, **extra: Any) -> Any:
        """As click has it; what is misused is told in the words of this program."""
        try:
            return super().main(*args, **{**extra, "standalone_mode": False})
        except click.UsageError as error:
            explained(error).show()
            sys.exit(error.exit_code)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            sys.exit(FAILED)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer commands; where an option begins, the options of ``run`` as well."""
        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            found += run.shell_complete(click.Context(run, parent=ctx), incomplete)
        return found


@click.group(cls=_RunByDefault, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    VERSION,
    prog_name="treehouse-proxy",
    message=f"%(prog)s, version %(version)s ({_FORM.replace('%', '%%')})",
)
def program() -> None:
    """HTTPS in front of an app or a folder, with its privileges dropped for good.

    \b
    treehouse-proxy --domain example.org --root /srv/www
    treehouse-proxy --domain app.example.org --backend http://127.0.0.1:3000
    treehouse-proxy --config /etc/treehouse-proxy/config.yaml
    """


# What may be read is found out, and told, by whoever reads it.
@program.command()
@site_options
@click.pass_obj
def run(serve: Callable[[Options], None], /, **given: Any) -> None:
    """Bind, drop privileges, serve in the foreground.

    \b
    treehouse-proxy run --domain example.org --root /srv/www
    treehouse-proxy run --config /etc/treehouse-proxy/config.yaml
    """
    serve(Options(**given))  # whoever serves waits to be told (`boot`)


@program.command()
@site_options
def check(**given: Any) -> None:
    """Say what a start or a reload would find wrong; touch nothing.

    The configuration, the files, sockets and folders that it names, as the user that the server
    becomes; own certificates; ports. Ends as a start would: 0, 2 for the configuration, 3 for
    ports.

    \b
    sudo treehouse-proxy check --config /etc/treehouse-proxy/config.yaml
    """
    import os

    from ..system import systemd
    from ..system.rehearsal import obstacles

    try:
        config = load(Options(**given), now_uid=os.geteuid())
    except ConfigurationFaults as faults:
        warn(map(str, faults.notices))
        complain(str(faults), USAGE)
    warn(config.notices)
    names = sum(len(site.names) for site in config.sites)
    found = list(obstacles(config, systemd.inherited_listeners()))
    for _status, text in found:
        click.echo(displayable(text), err=True)
    if found:
        sys.exit(found[0][0])
    click.echo(f"valid: {len(config.sites)} sites, {names} names")


@program.command()
@site_options
def sandbox(**given: Any) -> None:
    """Print what each process may read, write and connect to.

    \b
    treehouse-proxy sandbox --config /etc/treehouse-proxy/config.yaml
    """
    import os

    from ..alerts.policy import messengers
    from ..sandbox import describe, policies

    try:
        config = load(Options(**given), now_uid=os.geteuid())
    except ConfigurationFaults as faults:
        complain(str(faults), USAGE)
    click.echo(describe(policies(config)))
    coming = messengers(config)
    if coming:
        click.echo("\n" + describe(coming))


@program.command()
@click.argument("name", type=NAME)
@server_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def why(name: str, config: Path | None, state: Path | None, as_json: bool) -> None:
    """One page on the certificate of NAME: where it stands, and why.

    \b
    sudo treehouse-proxy why example.org
    """
    from ..explain import certificate as whys
    from ..explain import in_cluster

    document = status_of(config, state)
    running = document["pid"] is not None
    found = whys.find(document["certificates"], name)
    if found:
        if as_json:  # of two certificates a list
            told = [in_cluster.document(one, document["cluster"]) for one in found]
            click.echo(json.dumps(told if len(told) > 1 else told[0], indent=2))
            return
        for number, certificate in enumerate(found):
            page = whys.page(certificate, time.time(), running=running, cluster=document["cluster"])
            for line in ("",) * bool(number) + tuple(page):
                click.echo(as_typed(line, config, state))
        return
    refusal = None
    if running:
        refusal = ask(config, state, {"command": "refusal", "value": name})["refusal"]
    if refusal is not None:
        until = timestamp(refusal["until"])
        click.echo(
            f"{name} was refused on demand: {refusal['why']}; not asked again before {until}"
        )
        return
    known = ", ".join(one["name"] for one in document["certificates"])
    text = f"no certificate for {name} is wanted here; there are: {known or 'none'}"
    if name in document["unwanted"]:
        text += f"\none is kept from before: treehouse-proxy certs forget {name} removes it"
    complain(text, FAILED)


@program.command()
@click.argument("name", type=NAME, required=False)
@site_options
@click.option("--resolver", metavar="ADDRESS[:PORT]", help="Ask this one instead of the system's.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor(name: str | None, resolver: str | None, as_json: bool, **given: Any) -> None:
    """Look for what keeps certificates from being had; tells what to do, and changes nothing.

    \b
    sudo treehouse-proxy doctor example.org
    """
    import os

    from ..config.syntax.addresses import parse_resolver
    from ..config.syntax.faults import Wrong
    from ..doctor import examination, findings

    try:
        asked = parse_resolver(resolver) if resolver else None
        found = list(
            examination.examine(
                Options(**given), name, (asked.host, asked.port) if asked else None, os.geteuid()
            )
        )
    except (Wrong, examination.NoSuchName) as error:
        click.echo(error.what if isinstance(error, Wrong) else str(error), err=True)
        sys.exit(USAGE)
    status = FAILED if any(one.sign == "wrong" for one in found) else OK
    if as_json:
        click.echo(json.dumps(findings.document(found), indent=2))
        sys.exit(status)
    for line in findings.lines(found):
        click.echo(as_typed(line, given["config"], given["state"]))
    click.echo(f"\n{findings.summary(found)}")
    sys.exit(status)


@program.command()
@click.argument("request", nargs=-1, required=True, metavar="[METHOD] URL")
@click.option(
    "-H", "--header", "fields", multiple=True, metavar="FIELD", help="Like 'Name: value'."
)
@click.option("--from", "client", default="192.0.2.1", metavar="ADDRESS", help="Of the client.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@site_options
def explain(
    request: tuple[str, ...], fields: tuple[str, ...], client: str, as_json: bool, **given: Any
) -> None:
    """Tell what a request would meet, and which line of the configuration says so.

    Certificate, site, route, filters, backend, and what is sent on. No server has to run, and no
    backend is asked.

    \b
    treehouse-proxy explain https://example.org/app/
    treehouse-proxy explain POST https://example.org/app/ -H 'Origin: https://a.example'
    """
    import asyncio
    import os

    from ..explain import request as explaining
    from ..explain import rows as pages

    if len(request) > 2:
        raise click.UsageError("one request at a time: [METHOD] URL")
    method = request[0] if len(request) == 2 else "GET"
    question = explaining.Question(method, request[-1], fields, client)
    try:
        config = load(Options(**given), now_uid=os.geteuid())
        rows = asyncio.run(explaining.explain(config, question))
    except ConfigurationFaults as faults:
        complain(str(faults), USAGE)
    except explaining.CannotExplain as error:
        complain(str(error), USAGE)
    if as_json:
        click.echo(json.dumps(pages.document(rows), indent=2))
        return
    for line in pages.lines(rows):
        click.echo(printable(line))


@program.command()
@click.option("--remove", is_flag=True, help="Take the root out again.")
@server_options
def trust(remove: bool, config: Path | None, state: Path | None) -> None:
    """Have this machine and its browsers trust the built-in CA.

    \b
    sudo treehouse-proxy trust
    sudo treehouse-proxy trust --remove
    """
    from . import trust as trusting

    try:
        for line in trusting.trust(state_directory(config, state), remove=remove):
            click.echo(line)
    except ConfigurationFaults as faults:
        complain(str(faults), USAGE)
    except trusting.CannotTrust as error:
        complain(str(error), FAILED)


@program.command("hash-password")
def hash_password() -> None:
    """Print a line for basic_auth, for a password that is typed twice or comes by standard input.

    \b
    treehouse-proxy hash-password
    pass show web/alice | treehouse-proxy hash-password
    """
    from ..sites.passwords import hashed

    password = b""
    if sys.stdin is None:  # closed
        pass
    elif sys.stdin.isatty():
        typed = click.prompt("password", hide_input=True, confirmation_prompt=True, err=True)
        password = str(typed).encode(errors="surrogateescape")
    else:
        # Bytes, as browsers send them; they need not be text of this machine's encoding.
        password = sys.stdin.buffer.readline().rstrip(b"\r\n")
    if not password:
        complain("there is no password on standard input (its first line is taken)", USAGE)
    click.echo(hashed(password))


@program.command()
@click.argument("kind", type=click.Choice(["outage", "clock", "disk", "backend", "revocation"]))
@click.argument("url", required=False)
@click.option(
    "--days",
    type=Number(-3650, 3650),
    metavar="N",
    help="How long; of a clock, by how much. Default 20, of a clock 2, of a revocation 0.",
)
@click.option("--after", type=Number(0, 3650), default=0.0, metavar="N", help="Days.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@site_options
def drill(
    kind: str, url: str | None, days: float | None, after: float, as_json: bool, **given: Any
) -> None:
    """Play what may go wrong, and say what would lapse when, who would be told, what to change.

    The certifier's own code, this configuration and a copy of this state meet a CA, a disk and a
    clock that are not real. Nothing real is touched. Ends with 1 where something would lapse.

    \b
    sudo treehouse-proxy drill outage --days 20
    sudo treehouse-proxy drill clock --days -3
    treehouse-proxy drill backend http://127.0.0.1:3000
    """
    import os

    from . import drill as drills
    from . import drill_report

    length = _drilled_for(kind, url, days, after)
    try:
        config = load(Options(**given), now_uid=os.geteuid())
        if url is not None:
            routes = drills.without_backend(config, url)
            if as_json:
                click.echo(json.dumps(drill_report.backend_document(url, routes), indent=2))
            else:
                for line in drill_report.backend_lines(url, routes):
                    click.echo(printable(line) if line else "")
            sys.exit(FAILED if any(not one.others for one in routes) else OK)
        outcome = drills.play(config, kind, length, after=after, passed=_passed())  # type: ignore[arg-type] # one of them
    except ConfigurationFaults as faults:
        complain(str(faults), USAGE)
    except drills.CannotDrill as error:
        complain(str(error), FAILED if isinstance(error, drills.CannotRead) else USAGE)
    if as_json:
        click.echo(json.dumps(drill_report.document(outcome), indent=2))
    else:
        for line in drill_report.lines(outcome):
            click.echo(displayable(line))
    sys.exit(FAILED if outcome.lapsed else OK)


def _passed() -> Callable[[int, int], None]:
    """Return what says, on a terminal, how far a drill is that takes longer than a person waits
    for without a word."""
    begun = time.monotonic()
    shown = 0

    def passed(day: int, days: int) -> None:
        nonlocal shown
        if not sys.stderr.isatty() or day == shown or time.monotonic() - begun < 2:
            return
        if day < days:
            click.echo(f"\rplaying day {day} of {days}", err=True, nl=False)
        elif shown:
            click.echo("\r\x1b[K", err=True, nl=False)
        shown = day

    return passed


def _drilled_for(kind: str, url: str | None, days: float | None, after: float) -> float:
    """Return for how many days a trouble lasts. Raises `click.UsageError` for what is no drill."""
    if kind == "backend":
        if url is None:
            raise click.UsageError("which backend? drill backend http://127.0.0.1:3000")
        if days is not None or after:
            raise click.UsageError(
                "a backend is gone for as long as it takes: no --days, no --after"
            )
        return 0.0
    if url is not None:
        raise click.UsageError(f"only a backend has a URL: drill {kind}")
    if days is None:
        return {"outage": 20.0, "disk": 20.0, "clock": 2.0, "revocation": 0.0}[kind]
    if kind == "clock":
        if not days:
            raise click.UsageError("--days 0 is a clock that is right; 2 is ahead, -2 is behind")
    elif days < 0 or (days == 0 and kind != "revocation"):
        raise click.UsageError(f"--days says how long it lasts: more than 0 for drill {kind}")
    return days


for command in (*COMMANDS, certs, cluster, config):
    program.add_command(command)
