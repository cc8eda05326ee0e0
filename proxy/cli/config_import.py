"""``config``: what is done with configurations of other programs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ..exit_status import FAILED, OK, USAGE
from ..log import displayable
from .asking import complain, warn
from .options import PATH, Commands

PROGRAMS = ("nginx", "caddy", "traefik", "apache")  # those that `config_import.readers` knows


@click.group(cls=Commands)
def config() -> None:
    """Configurations of other programs.

    \b
    treehouse-proxy config import nginx /etc/nginx/nginx.conf
    """


@config.command(name="import")
@click.argument("program", type=click.Choice(PROGRAMS))
@click.argument("path", type=PATH)
@click.option("--output", "-o", type=PATH, metavar="FILE", help="A new file; default: print it.")
def import_(program: str, path: Path, output: Path | None) -> None:
    """Write a configuration of ours from another program's, as far as it goes.

    What could not be taken over stands in it as a comment, with file and line, and is listed on
    standard error; the exit status is 1 then.

    \b
    treehouse-proxy config import nginx /etc/nginx/nginx.conf
    treehouse-proxy config import caddy /etc/caddy/Caddyfile -o config.yaml
    treehouse-proxy config import traefik docker-compose.yml
    treehouse-proxy config import apache /etc/apache2/apache2.conf
    """
    # What reads, checks and writes is loaded by the command that needs it: a start does not.
    from ..config_import.draft import CannotRead
    from ..config_import.proofreading import proofread, still_to_do
    from ..config_import.readers import read
    from ..config_import.writer import left_line

    try:
        draft = read(program, str(path))
        text = str(proofread(draft))
    except CannotRead as error:
        complain(str(error), USAGE)
    if output is None:
        click.echo(text, nl=False)
    else:
        try:
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
        except FileExistsError:
            complain(f"{output} exists (name a new file)", USAGE)
        except OSError as error:
            complain(f"{output}: {error.strerror}", FAILED)
    left = draft.all_left()
    for one in left:
        click.echo(displayable(left_line(one)), err=True)
    if draft.sites:
        warn(still_to_do(text, str(output or "what was written")))
    else:
        click.echo("no site was found", err=True)
    sys.exit(FAILED if left or not draft.sites else OK)
