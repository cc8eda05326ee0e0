"""The command line: words and flags in, an exit status out.

Nothing is decided here. Options become an `Options` value, commands that talk to a running server
go over its control socket, and what comes back is shown to people or, with ``--json``, to programs.
Without a command the first word is taken to be `run`.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from click.shell_completion import CompletionItem

from acme_client.link import REASONS
from acme_client.text import printable, timestamp

from ..config.load import ConfigurationFaults, Options, load, state_directory
from ..exit_status import FAILED, OK, USAGE
from ..ipc import control_client
from ..ipc.control_client import NotRunning, ask
from ..ipc.documents import Status
from ..log import displayable
from ..version import VERSION
from .next_steps import as_typed, not_running
from .words import explained

# Reloading waits for new workers, stopping for connections under way; the server bounds both.
_PATIENCE = 300.0

F = TypeVar("F", bound=Callable[..., Any])


class _RunByDefault(click.Group):
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
@click.version_option(VERSION, prog_name="treehouse-proxy")
def program() -> None:
    """HTTPS in front of an app or a folder, with its privileges dropped for good.

    \b
    treehouse-proxy --domain example.org --root /srv/www
    treehouse-proxy --domain app.example.org --backend http://127.0.0.1:3000
    treehouse-proxy --config /etc/treehouse-proxy/config.yaml
    """


# What may be read is found out, and told, by whoever reads it.
class _Name(click.ParamType[str]):
    """A name as people type it: in any script and case, or as a URL."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from acme_client.names import typed

        return typed(value)


_NAME = _Name()
_PATH = click.Path(path_type=Path, readable=False)

# Option, kind, metavar, help: one line each, because this is the table that ``--help`` prints.
_VALUES: tuple[tuple[str, Any, str, str], ...] = (
    ("--config", _PATH, "FILE", "YAML; default /etc/treehouse-proxy/config.yaml."),
    ("--root", _PATH, "DIR", "Serve the files in it."),
    ("--sites", _PATH, "DIR", "Treehouse mode: each directory in it is a domain."),
    ("--email", str, "ADDRESS", "Where the CA may write to."),
    ("--acme-directory", str, "URL", "Or letsencrypt (default), letsencrypt-staging, internal."),
    ("--acme-ca", _PATH, "FILE", "PEM bundle to trust for the directory's own TLS."),
    ("--state", _PATH, "DIR", "Keys and certificates; as root /var/lib/treehouse-proxy."),
    ("--user", str, "NAME|UID", "What to become; default nobody (65534)."),
    ("--group", str, "NAME|GID", "Default 65534."),
    ("--http-port", click.IntRange(0, 65535), "PORT", "Default 80."),
    ("--https-port", click.IntRange(0, 65535), "PORT", "Default 443."),
    ("--workers", str, "N", "Default one per CPU."),
    ("--log-format", click.Choice(["text", "json"]), "text|json", "Text on a terminal."),
    ("--log-level", click.Choice(["debug", "info", "warning", "error"]), "LEVEL", "Or info."),
    ("--sandbox", click.Choice(["require", "auto", "off"]), "MODE", "require, auto or off."),
)
_SITE_OPTIONS: tuple[Callable[[F], F], ...] = (
    click.option("--domain", multiple=True, metavar="NAME", help="Names of a site; repeatable."),
    click.option("--backend", multiple=True, metavar="URL", help="http://, https://, unix:/path."),
    click.option("--bind", multiple=True, metavar="ADDRESS", help="Default all; repeatable."),
    *(click.option(name, type=kind, metavar=as_, help=said) for name, kind, as_, said in _VALUES),
    click.option("--fast-lane/--no-fast-lane", default=None, help="Heads past h11, or all of it."),
    click.option("--uvloop/--no-uvloop", default=None, help="Which event loop workers run."),
)


def _site_options(command: F) -> F:
    for option in reversed(_SITE_OPTIONS):
        command = option(command)
    return command


def _server_options(command: F) -> F:
    """How a command finds the running server."""
    for option in (
        click.option("--config", type=click.Path(path_type=Path, readable=False), metavar="FILE"),
        click.option("--state", type=click.Path(path_type=Path, readable=False), metavar="DIR"),
    ):
        command = option(command)
    return command


@program.command()
@_site_options
def run(**given: Any) -> None:
    """Bind, drop privileges, serve in the foreground.

    \b
    treehouse-proxy run --domain example.org --root /srv/www
    treehouse-proxy run --config /etc/treehouse-proxy/config.yaml
    """
    gc.disable()  # the supervisor enables it, when all is there that stays
    from .. import boot  # the server's parts are loaded by the command that serves

    sys.exit(boot.run(Options(**given)))


@program.command()
@_site_options
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
        _warn(map(str, faults.notices))
        _complain(str(faults), USAGE)
    _warn(config.notices)
    names = sum(len(site.names) for site in config.sites)
    found = list(obstacles(config, systemd.inherited_listeners()))
    for _status, text in found:
        click.echo(displayable(text), err=True)
    if found:
        sys.exit(found[0][0])
    click.echo(f"valid: {len(config.sites)} sites, {names} names")


@program.command()
@_site_options
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
        _complain(str(faults), USAGE)
    click.echo(describe(policies(config)))
    coming = messengers(config)
    if coming:
        click.echo("\n" + describe(coming))


@program.command()
@_server_options
def reload(config: Path | None, state: Path | None) -> None:
    """Put the configuration on disk in force; the same as SIGHUP.

    \b
    sudo treehouse-proxy reload
    """
    answer = _ask(config, state, {"command": "reload"})
    click.echo(f"reloaded: generation {answer['generation']}")


@program.command()
@_server_options
def upgrade(config: Path | None, state: Path | None) -> None:
    """Hand over to the program now on disk; the same as SIGUSR2.

    \b
    sudo treehouse-proxy upgrade
    """
    answer = _ask(config, state, {"command": "upgrade"})
    click.echo(f"upgraded: process {answer['pid']} serves")


@program.command()
@_server_options
def plan(config: Path | None, state: Path | None) -> None:
    """Show what a reload would change, and change nothing.

    \b
    sudo treehouse-proxy plan && sudo treehouse-proxy reload
    """
    changes = _ask(config, state, {"command": "plan"})["changes"]
    for line in changes or ["a reload would change nothing"]:
        click.echo(line)
    if changes:
        click.echo("no connection would be cut: what is under way finishes with the old settings")


@program.command()
@click.argument("name", type=_NAME)
@_server_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def why(name: str, config: Path | None, state: Path | None, as_json: bool) -> None:
    """One page on the certificate of NAME: where it stands, and why.

    \b
    sudo treehouse-proxy why example.org
    """
    from . import why as whys

    document = _status(config, state)
    running = document["pid"] is not None
    found = whys.find(document["certificates"], name)
    if found:
        if as_json:  # of two certificates a list
            click.echo(json.dumps(found if len(found) > 1 else found[0], indent=2))
            return
        for number, certificate in enumerate(found):
            page = whys.page(certificate, time.time(), running=running)
            for line in ("",) * bool(number) + tuple(page):
                click.echo(as_typed(line, config, state))
        return
    refusal = None
    if running:
        refusal = _ask(config, state, {"command": "refusal", "value": name})["refusal"]
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
    _complain(text, FAILED)


@program.command()
@click.argument("name", type=_NAME, required=False)
@_site_options
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
@_site_options
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
    import os

    from . import explain as explaining

    if len(request) > 2:
        raise click.UsageError("one request at a time: [METHOD] URL")
    method = request[0] if len(request) == 2 else "GET"
    question = explaining.Question(method, request[-1], fields, client)
    try:
        config = load(Options(**given), now_uid=os.geteuid())
        rows = list(explaining.explain(config, question))
    except ConfigurationFaults as faults:
        _complain(str(faults), USAGE)
    except explaining.CannotExplain as error:
        _complain(str(error), USAGE)
    if as_json:
        click.echo(json.dumps(explaining.document(rows), indent=2))
        return
    for line in explaining.lines(rows):
        click.echo(printable(line))


@program.command()
@_server_options
def stop(config: Path | None, state: Path | None) -> None:
    """Stop gracefully; the same as SIGTERM.

    \b
    sudo treehouse-proxy stop
    """
    _ask(config, state, {"command": "stop"})
    click.echo("stopped")


@program.command()
@_server_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(config: Path | None, state: Path | None, as_json: bool) -> None:
    """Show processes, listeners, certificates and backends.

    \b
    sudo treehouse-proxy status
    sudo treehouse-proxy status --json | jq .upstreams
    """
    document = _status(config, state)
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    from .status_table import show

    show(document)


@program.group()
def certs() -> None:
    """Certificate operations."""


@certs.command(name="list")
@_server_options
def list_(config: Path | None, state: Path | None) -> None:
    """List certificates with their state and days left.

    \b
    sudo treehouse-proxy certs list
    """
    from .status_table import show_certificates

    show_certificates(_status(config, state))


@certs.command()
@click.argument("name", type=_NAME)
@click.option("--force", is_flag=True, help="Even if it takes the last order the CA allows.")
@_server_options
def renew(name: str, force: bool, config: Path | None, state: Path | None) -> None:
    """Renew the certificate of NAME now.

    \b
    sudo treehouse-proxy certs renew example.org
    """
    value = {"name": name, "force": force}
    answer = _ask(config, state, {"command": "renew", "value": value})
    click.echo(answer.get("message", "renewed"))


@certs.command()
@click.argument("name", type=_NAME)
@click.option(
    "--reason", type=click.Choice(tuple(REASONS)), default="unspecified", show_default=True
)
@_server_options
def revoke(name: str, reason: str, config: Path | None, state: Path | None) -> None:
    """Have the certificate of NAME revoked by its CA, and another one ordered.

    \b
    sudo treehouse-proxy certs revoke example.org --reason keyCompromise
    """
    value = {"name": name, "reason": reason}
    click.echo(_ask(config, state, {"command": "revoke", "value": value})["message"])


@certs.command()
@click.argument("name", type=_NAME)
@_server_options
def forget(name: str, config: Path | None, state: Path | None) -> None:
    """Remove the certificate of NAME, and its key, that no site wants any more.

    \b
    sudo treehouse-proxy certs forget old.example.org
    """
    from ..system.state_directory import StateUnusable
    from . import offline

    try:
        where = state_directory(config, state)
        answer = ask(where, {"command": "forget", "value": name}, _PATIENCE)
        if answer.get("ok") is False:
            _complain(answer["error"], FAILED)
        click.echo(answer["message"])
    except ConfigurationFaults as faults:
        _complain(str(faults), USAGE)
    except NotRunning:
        try:
            click.echo(offline.forget(where, name, Options(config=config)))
        except (offline.CannotForget, offline.CannotRead, StateUnusable) as error:
            _complain(str(error), FAILED)


@certs.command(name="dns-persist")
@click.argument("name", type=_NAME)
@_server_options
def dns_persist(name: str, config: Path | None, state: Path | None) -> None:
    """Print the records that let the CA certify NAME over dns-persist-01, and which stand.

    \b
    sudo treehouse-proxy certs dns-persist example.org
    """
    click.echo(_ask(config, state, {"command": "dns_persist", "value": {"name": name}})["message"])


@certs.command(name="roll-account-key")
@_server_options
def roll_account_key(config: Path | None, state: Path | None) -> None:
    """Give the accounts with all configured CAs new keys.

    \b
    sudo treehouse-proxy certs roll-account-key
    """
    click.echo(_ask(config, state, {"command": "roll_account_key"})["message"])


@certs.command()
@click.argument("name", type=_NAME)
@click.option("--format", "form", type=click.Choice(["pem", "pkcs12"]), default="pem")
@click.option("--out", type=_PATH, metavar="FILE", help="Else standard output.")
@click.option("--password-file", type=_PATH, metavar="FILE", help="For pkcs12.")
@_server_options
def export(
    name: str,
    form: str,
    out: Path | None,
    password_file: Path | None,
    config: Path | None,
    state: Path | None,
) -> None:
    """Write the certificate of NAME, its chain and its private key; no server is needed.

    \b
    sudo treehouse-proxy certs export example.org --out example.org.pem
    """
    from .export import CannotExport, exported, write_secret

    try:
        content = exported(state_directory(config, state), name, form, password_file)
        if out is not None:
            write_secret(out, content)
            click.echo(f"written to {out}, with the private key: for its owner's eyes only")
        elif sys.stdout.isatty():
            raise CannotExport("a private key is not shown on a terminal; give --out FILE")
        else:
            sys.stdout.buffer.write(content)
    except ConfigurationFaults as faults:
        _complain(str(faults), USAGE)
    except CannotExport as error:
        _complain(str(error), FAILED)


_SOURCES = ("certbot", "caddy", "traefik", "acme.sh", "lego")


@certs.command(name="import")
@click.argument("source", type=click.Choice(_SOURCES))
@click.argument("path", type=click.Path(path_type=Path, readable=False), required=False)
@click.option("--dry-run", is_flag=True, help="Show what would come, and write nothing.")
@click.option("--directory", multiple=True, metavar="URL", help="Of a CA that the files leave out.")
@click.option("--replace-account", is_flag=True, help="Even if there is one with that CA.")
@_server_options
def import_(
    source: str,
    path: Path | None,
    dry_run: bool,
    directory: tuple[str, ...],
    replace_account: bool,
    config: Path | None,
    state: Path | None,
) -> None:
    """Bring along certificates, keys and the account of another program.

    PATH is where it keeps them; each has its usual place. No server is needed; one that runs uses
    them at once.

    \b
    sudo treehouse-proxy certs import certbot --dry-run
    """
    from .import_certificates import CannotImport, Request, move_in

    request = Request(source, path, config, state, directory, dry_run, replace_account)
    try:
        report = move_in(request)
    except ConfigurationFaults as faults:
        _complain(str(faults), USAGE)
    except CannotImport as error:
        click.echo(printable(str(error)), err=True)
        sys.exit(FAILED)
    for line in report.lines:
        click.echo(printable(line))
    sys.exit(OK if report.ok else FAILED)


def _status(config: Path | None, state: Path | None) -> Status:
    """How the server is; where none runs, what its state directory says, and a line about that on
    standard error."""
    try:
        where = state_directory(config, state)
        return control_client.status(where, _PATIENCE)
    except ConfigurationFaults as faults:
        _complain(str(faults), USAGE)
    except NotRunning as reason:
        from . import offline

        try:
            document = offline.status(where, Options(config=config))
        except offline.CannotRead as error:
            _complain(f"{reason}\n{error}", FAILED)
        click.echo(f"{reason}; this is what the state directory says", err=True)
        return document


def _ask(config: Path | None, state: Path | None, request: dict[str, Any]) -> dict[str, Any]:
    """Ask the running server. A refusal ends the program with the status that the answer gives,
    nobody there with 1, and a configuration in which the server cannot be found with 2."""
    try:
        answer = ask(state_directory(config, state), request, _PATIENCE)
    except ConfigurationFaults as faults:
        _complain(str(faults), USAGE)
    except NotRunning as error:
        _complain(not_running(str(error), config, state), FAILED)
    if answer.get("ok") is False:
        _complain(as_typed(answer["error"], config, state), answer.get("status", FAILED))
    return answer


def _warn(notices: Iterable[str]) -> None:
    for notice in notices:
        click.echo(displayable(f"warning: {notice}"), err=True)


def _complain(text: str, status: int) -> NoReturn:
    """Say on standard error what is wrong, in as many lines as it has, and end."""
    click.echo(displayable(text), err=True)
    sys.exit(status)
