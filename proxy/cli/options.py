"""What commands have in common: the options of a start, and how a running server is found."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class _Name(click.ParamType[str]):
    """A name as people type it: in any script and case, or as a URL."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from acme_client.names import typed

        return typed(value)


class Commands(click.Group):
    """A group whose help has the whole first sentence of each command, on as many lines as it
    takes."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        named = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        shown = [(name, one) for name, one in named if one is not None and not one.hidden]
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(limit=500)) for name, one in shown])


class Number(click.FloatRange):
    """A number within bounds. "nan" is within none, and would get through all comparisons."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a valid {self.name}.", param, ctx)
        return number


NAME = _Name()
PATH = click.Path(path_type=Path, readable=False)

# Option, kind, metavar, help: one line each, because this is the table that ``--help`` prints.
_VALUES: tuple[tuple[str, Any, str, str], ...] = (
    ("--config", PATH, "FILE", "YAML; default /etc/treehouse-proxy/config.yaml."),
    ("--root", PATH, "DIR", "Serve the files in it."),
    ("--sites", PATH, "DIR", "Treehouse mode: each directory in it is a domain."),
    ("--email", str, "ADDRESS", "Where the CA may write to."),
    ("--acme-directory", str, "URL", "Or letsencrypt (default), letsencrypt-staging, internal."),
    ("--acme-ca", PATH, "FILE", "PEM bundle to trust for the directory's own TLS."),
    ("--state", PATH, "DIR", "Keys and certificates; as root /var/lib/treehouse-proxy."),
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


def site_options(command: F) -> F:
    for option in reversed(_SITE_OPTIONS):
        command = option(command)
    return command


def server_options(command: F) -> F:
    """Add the options by which a command finds the running server."""
    for option in (
        click.option("--config", type=PATH, metavar="FILE", help="The configuration it runs with."),
        click.option("--state", type=PATH, metavar="DIR", help="Or its state directory."),
    ):
        command = option(command)
    return command
