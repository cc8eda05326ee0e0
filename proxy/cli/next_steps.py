"""Commands in advice, as the person who reads it has to type them.

Advice is written by processes that know nothing of the command line: "treehouse-proxy certs renew
NAME". Whoever asked with --config or --state has to give it again, and whoever asked with sudo
needs that again. Pure but for the environment.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

# The commands that ask the running server, or read its configuration.
_COMMAND = re.compile(
    r"\b(?:sudo )?treehouse-proxy ((?:certs )?"
    r"(?:list|renew|revoke|forget|dns-persist|roll-account-key|export|import|check|plan|reload"
    r"|upgrade|stop|status|why|doctor|explain|sandbox|top|drain))\b(?! --(?:config|state)\b)"
)


def as_typed(text: str, config: Path | None, state: Path | None) -> str:
    """Return the text with ``--config`` or ``--state`` in each of its commands, and ``sudo`` before
    it."""
    options = "".join(
        f" {option} {shlex.quote(str(value))}"
        for option, value in (("--config", config), ("--state", state))
        if value is not None
    )
    sudo = "sudo " if with_sudo() else ""
    return _COMMAND.sub(lambda found: f"{sudo}treehouse-proxy {found[1]}{options}", text)


def with_sudo() -> bool:
    """Whether this command was begun with sudo, so that the next one needs that too."""
    return "SUDO_COMMAND" in os.environ


def not_running(why: str, config: Path | None, state: Path | None) -> str:
    """Say what to do where no server answers, or does not let this user ask."""
    given = ""
    if config is not None:
        given = f" --config {shlex.quote(str(config))}"
    elif state is not None:
        given = f" --state {shlex.quote(str(state))}"
    if "permission denied" in why and os.geteuid() != 0:
        return f"{why}: sudo treehouse-proxy COMMAND{given}"
    steps = [why, "- where it should run: is it started? systemctl status treehouse-proxy"]
    if not given:
        steps.append(
            "- where it was started with other options, give the same: --config FILE or --state DIR"
        )
    if os.geteuid() != 0 and not given:
        steps.append("- where it was started as root: sudo treehouse-proxy COMMAND")
    return "\n".join(steps)
