"""``certs``: what is done with certificates, by the running server or on the state directory."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from acme_client.link import REASONS
from acme_client.text import printable

from ..config.load import ConfigurationFaults, Options, state_directory
from ..exit_status import FAILED, OK, USAGE
from ..ipc import control_client
from ..ipc.control_client import DoesNotAnswer, NotRunning
from .asking import PATIENCE, ask, complain, status_of
from .options import NAME, PATH, Commands, server_options


@click.group(cls=Commands)
def certs() -> None:
    """Certificate operations.

    \b
    sudo treehouse-proxy certs list
    sudo treehouse-proxy certs renew example.org
    """


@certs.command(name="list")
@server_options
def list_(config: Path | None, state: Path | None) -> None:
    """List certificates with their state and days left.

    \b
    sudo treehouse-proxy certs list
    """
    from .status_table import show_certificates

    show_certificates(status_of(config, state))


@certs.command()
@click.argument("name", type=NAME)
@click.option("--force", is_flag=True, help="Even if it takes the last order the CA allows.")
@server_options
def renew(name: str, force: bool, config: Path | None, state: Path | None) -> None:
    """Renew the certificate of NAME now.

    \b
    sudo treehouse-proxy certs renew example.org
    """
    value = {"name": name, "force": force}
    answer = ask(config, state, {"command": "renew", "value": value})
    click.echo(answer.get("message", "renewed"))


@certs.command()
@click.argument("name", type=NAME)
@click.option(
    "--reason", type=click.Choice(tuple(REASONS)), default="unspecified", show_default=True
)
@server_options
def revoke(name: str, reason: str, config: Path | None, state: Path | None) -> None:
    """Have the certificate of NAME revoked by its CA, and another one ordered.

    \b
    sudo treehouse-proxy certs revoke example.org --reason keyCompromise
    """
    value = {"name": name, "reason": reason}
    click.echo(ask(config, state, {"command": "revoke", "value": value})["message"])


@certs.command()
@click.argument("name", type=NAME)
@server_options
def forget(name: str, config: Path | None, state: Path | None) -> None:
    """Remove the certificate of NAME, and its key, that no site wants any more.

    \b
    sudo treehouse-proxy certs forget old.example.org
    """
    from ..system.state_directory import StateUnusable
    from . import offline

    try:
        where = state_directory(config, state)
        answer = control_client.ask(where, {"command": "forget", "value": name}, PATIENCE)
        if answer.get("ok") is False:
            complain(answer["error"], FAILED)
        click.echo(answer["message"])
    except ConfigurationFaults as faults:
        complain(str(faults), USAGE)
    except DoesNotAnswer as error:
        complain(str(error), FAILED)
    except NotRunning:
        try:
            click.echo(offline.forget(where, name, Options(config=config)))
        except (offline.CannotForget, offline.CannotRead, StateUnusable) as error:
            complain(str(error), FAILED)


@certs.command(name="dns-persist")
@click.argument("name", type=NAME)
@server_options
def dns_persist(name: str, config: Path | None, state: Path | None) -> None:
    """Print the records that let the CA certify NAME over dns-persist-01, and which stand.

    \b
    sudo treehouse-proxy certs dns-persist example.org
    """
    click.echo(ask(config, state, {"command": "dns_persist", "value": {"name": name}})["message"])


@certs.command(name="roll-account-key")
@server_options
def roll_account_key(config: Path | None, state: Path | None) -> None:
    """Give the accounts with all configured CAs new keys.

    \b
    sudo treehouse-proxy certs roll-account-key
    """
    click.echo(ask(config, state, {"command": "roll_account_key"})["message"])


@certs.command()
@click.argument("name", type=NAME)
@click.option("--format", "form", type=click.Choice(["pem", "pkcs12"]), default="pem")
@click.option("--out", type=PATH, metavar="FILE", help="Else standard output.")
@click.option("--password-file", type=PATH, metavar="FILE", help="For pkcs12.")
@server_options
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
        complain(str(faults), USAGE)
    except CannotExport as error:
        complain(str(error), FAILED)


_SOURCES = ("certbot", "caddy", "traefik", "acme.sh", "lego")


@certs.command(name="import")
@click.argument("source", type=click.Choice(_SOURCES))
@click.argument("path", type=click.Path(path_type=Path, readable=False), required=False)
@click.option("--dry-run", is_flag=True, help="Show what would come, and write nothing.")
@click.option("--directory", multiple=True, metavar="URL", help="Of a CA that the files leave out.")
@click.option("--replace-account", is_flag=True, help="Even if there is one with that CA.")
@server_options
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
        complain(str(faults), USAGE)
    except CannotImport as error:
        click.echo(printable(str(error)), err=True)
        sys.exit(FAILED)
    for line in report.lines:
        click.echo(printable(line))
    sys.exit(OK if report.ok else FAILED)
