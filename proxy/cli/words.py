"""The words of the command line that other programs have for what is done here.

nginx -t, caddy validate, systemctl restart: whoever types such a word is told ours. A file's name
where a command or nothing belongs is most often a configuration.
"""

from __future__ import annotations

import os
import re

import click

_COMMANDS = {
    "run": "start serve server up daemon proxy reverse-proxy file-server launch",
    "check": "validate test configtest config-test lint verify adapt -t",
    "reload": "restart refresh hup update-config apply",
    "stop": "quit shutdown kill down exit",
    "drain": "healthz balancer maintenance",
    "status": "ps state info health list",
    "certs list": "certificates certificate cert",
    "certs renew": "renew renewal issue obtain",
    "certs revoke": "revoke",
    "certs import": "import migrate",
    "certs export": "export",
    "doctor": "diagnose debug troubleshoot",
    "top": "htop monitor watch stats",
    "drill": "simulate rehearse rehearsal exercise",
    "why": "explain-certificate",
    "plan": "diff dry-run",
    "--help": "help man usage",
    "--version": "version -v -V",
}
_OPTIONS = {
    "--config": "-c -f --conf --config-file --file --configuration --adapter",
    "--domain": "-d --domains --host --hostname --name --server-name --names",
    "--backend": "--to --upstream --proxy --proxy-pass --target --from --forward -b",
    "--root": "--dir --directory --folder --webroot --path -r --document-root --static",
    "--https-port": "--port -p --tls-port --ssl-port",
    "--http-port": "--plain-port",
    "--bind": "--listen --address --addr --ip --interface",
    "--email": "-m --mail --contact",
    "--acme-directory": "--server --ca --staging --acme-server --acme-ca-url",
    "--log-level": "--verbose -v --debug --level --loglevel",
    "--state": "--data --storage --data-dir --state-dir",
    "--user": "-u --uid --run-as",
    "--workers": "-w --threads --processes --worker-processes",
    "--log-format": "--json --format",
}
_COMMAND_OF = {word: ours for ours, words in _COMMANDS.items() for word in words.split()}
_OPTION_OF = {word: ours for ours, words in _OPTIONS.items() for word in words.split()}


def explained(error: click.UsageError) -> click.UsageError:
    """Return the error with what is called so here, where that is known; else as it is."""
    said = _said(error)
    return error if said is None else click.UsageError(said, ctx=error.ctx)


def _said(error: click.UsageError) -> str | None:
    if isinstance(error, click.NoSuchOption):
        option = _OPTION_OF.get(error.option_name)
        return option and f"No such option '{error.option_name}'; here that is {option}."
    if isinstance(error, click.MissingParameter):
        return _missing(error)
    if isinstance(error, click.BadParameter):
        return _bad_value(error)
    word = _last_word(error.message)
    if word is None:
        return None
    command = _COMMAND_OF.get(word) if "No such command" in error.message else None
    if command is not None:
        return f"No such command '{word}'; here that is: treehouse-proxy {command}"
    if _is_configuration(word):
        return f"'{word}' is no command; a configuration is given with --config {word}"
    return _too_much(error, word) if "extra argument" in error.message else None


def _missing(error: click.MissingParameter) -> str | None:
    """Return what is missing, with what it may be or an example."""
    if error.param is None or not isinstance(error.param, click.Argument):
        return None
    if isinstance(error.param.type, click.Choice):
        return f"One of these has to follow: {', '.join(error.param.type.choices)}."
    example = _example(error.ctx)
    name = error.param.make_metavar(error.ctx) if error.ctx is not None else error.param.name
    return f"{name} is missing{f': {example}' if example else '.'}"


def _example(context: click.Context | None) -> str | None:
    """Return the first example in the help of a command."""
    command = context.command.help if context is not None else None
    found = re.search(r"(?m)^ *((?:sudo )?treehouse-proxy .*)$", command or "")
    return found[1] if found else None


def _bad_value(error: click.BadParameter) -> str | None:
    """Return in plain words what is wrong with a value, and what it may be."""
    if error.param is None:
        return None
    name = error.param.opts[0]
    value, found, rest = error.message.partition(" is not a valid ")
    if found and rest.startswith(("float", "integer")):
        whole = "whole " if rest.startswith("integer") else ""
        return f"{name}: {value} is no {whole}number."
    kind = error.param.type
    if isinstance(kind, click.Choice):
        value = error.message.partition(" is not one of ")[0]
        argument = isinstance(error.param, click.Argument)
        where = "" if argument else f"{name}: "
        return f"{where}{value} is none of these: {', '.join(kind.choices)}."
    if isinstance(kind, click.IntRange | click.FloatRange):
        value = error.message.partition(" is not in the range ")[0].removesuffix(".0")
        return f"{name}: {value} is not from {_bound(kind.min)} to {_bound(kind.max)}."
    return None


def _bound(value: float | None) -> str:
    return "any" if value is None else f"{value:g}"


def _too_much(error: click.UsageError, word: str) -> str | None:
    """Return what a word too many may have been meant for."""
    if error.ctx is None:
        return None
    name = error.ctx.command.name
    if name == "hash-password":
        return (
            "A password on the command line would be seen by others, and stay in the shell's "
            "history: type it when it is asked for, or hand it over by standard input."
        )
    takes = [one for one in error.ctx.command.params if isinstance(one, click.Argument)]
    what = " ".join(one.make_metavar(error.ctx) for one in takes) or "options only"
    return f"'{word}' is a word too many: {name} takes {what}."


def _last_word(message: str) -> str | None:
    """Return the word that click complains of: ``No such command 'x'.`` or ``… argument (x)``."""
    for begin, end in (("No such command '", "'"), ("extra argument (", ")")):
        _, found, rest = message.partition(begin)
        if found:
            return rest.partition(end)[0]
    return None


def _is_configuration(word: str) -> bool:
    known = (".yaml", ".yml", ".json", ".toml", ".conf", "Caddyfile")
    return word.endswith(known) or os.path.isfile(word)
