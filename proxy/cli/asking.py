"""What commands that talk to the running server have in common: the question, and its refusal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import click

from ..config.load import ConfigurationFaults, Options, state_directory
from ..exit_status import FAILED, USAGE
from ..ipc import control_client
from ..ipc.control_client import DoesNotAnswer, NotRunning
from ..ipc.documents import Status
from ..log import displayable
from .next_steps import as_typed, not_running

# Reloading waits for new workers, stopping for connections under way; the server bounds both. One
# that hangs is not waited for so long (`control_client.ask`).
PATIENCE = 300.0


def status_of(config: Path | None, state: Path | None) -> Status:
    """How the server is; where none runs, what its state directory says, and a line about that on
    standard error."""
    try:
        where = state_directory(config, state)
        return control_client.status(where, PATIENCE)
    except ConfigurationFaults as faults:
        complain(str(faults), USAGE)
    except NotRunning as reason:
        from . import offline

        try:
            document = offline.status(where, Options(config=config))
        except offline.CannotRead as error:
            complain(f"{reason}\n{error}", FAILED)
        click.echo(f"{reason}; this is what the state directory says", err=True)
        return document


def ask(config: Path | None, state: Path | None, request: dict[str, Any]) -> dict[str, Any]:
    """Ask the running server. A refusal ends the program with the status that the answer gives,
    nobody there with 1, and a configuration in which the server cannot be found with 2."""
    try:
        answer = control_client.ask(state_directory(config, state), request, PATIENCE)
    except ConfigurationFaults as faults:
        complain(str(faults), USAGE)
    except DoesNotAnswer as error:
        complain(str(error), FAILED)
    except NotRunning as error:
        complain(not_running(str(error), config, state), FAILED)
    if answer.get("ok") is False:
        complain(as_typed(answer["error"], config, state), answer.get("status", FAILED))
    return answer


def warn(notices: Iterable[str]) -> None:
    for notice in notices:
        click.echo(displayable(f"warning: {notice}"), err=True)


def complain(text: str, status: int) -> NoReturn:
    """Say on standard error what is wrong, in as many lines as it has, and end."""
    click.echo(displayable(text), err=True)
    sys.exit(status)
