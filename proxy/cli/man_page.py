"""Writes the manual page and the shell completions from the commands themselves.

    python -m proxy.cli.man_page config

writes `config/man/treehouse-proxy.1` and `config/completions/`. A test compares the files with what
this module makes, so neither can lag behind ``--help``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from ..version import VERSION
from .main import program

_NAME = "treehouse-proxy"
_COMPLETE_VARIABLE = "_TREEHOUSE_PROXY_COMPLETE"
# Where each shell looks for a completion of this name, below completions/.
_SHELLS: tuple[tuple[type[ShellComplete], str], ...] = (
    (BashComplete, "bash/treehouse-proxy"),
    (ZshComplete, "zsh/_treehouse-proxy"),
    (FishComplete, "fish/treehouse-proxy.fish"),
)

_BEGINNING = r"""
.SH EXIT STATUS
.TP
0
Done; also after SIGTERM, and of \fBdoctor\fR when it found nothing wrong.
.TP
1
Failed while running, or \fBdoctor\fR found something wrong.
.TP
2
The command line or the configuration is wrong.
.TP
3
A port could not be bound, or privileges could not be dropped.
.SH SIGNALS
.TP
SIGTERM, SIGINT
Stop when connections have ended; a second signal stops at once.
.TP
SIGHUP
Put the configuration on disk in force, and open the logs anew.
.TP
SIGUSR1
Open the logs anew.
.TP
SIGUSR2
Hand over to the program that is now on disk.
.SH FILES
.TP
/etc/treehouse-proxy/config.yaml
The configuration, when no site is given on the command line. The file reference.yaml beside the
program has every key with its default.
.TP
/var/lib/treehouse-proxy
Keys and certificates, when the program was started as root.
"""


def manual() -> str:
    """Return the manual page in roff, for ``man``."""
    return "\n".join((*_head(), *_commands(program, ()), _BEGINNING.strip(), ""))


def completions() -> dict[str, str]:
    """Return the completion scripts by their path below ``completions/``."""
    return {
        path: shell(program, {}, _NAME, _COMPLETE_VARIABLE).source().strip() + "\n"
        for shell, path in _SHELLS
    }


def _head() -> Iterator[str]:
    summary = (program.help or "").partition("\n")[0].rstrip(".")
    yield f'.TH TREEHOUSE-PROXY 1 "" "treehouse-proxy {VERSION}" "User Commands"'
    yield ".SH NAME"
    yield f"{_text(_NAME)} \\- {_text(summary)}"
    yield ".SH SYNOPSIS"
    yield f".B {_text(_NAME)}"
    yield "[\\fICOMMAND\\fR] [\\fIOPTIONS\\fR]"
    yield ".SH DESCRIPTION"
    yield "Without a command it is \\fBrun\\fR."
    yield from _paragraphs(program.help or "")
    yield ".SH COMMANDS"


def _commands(group: click.Group, above: tuple[str, ...]) -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        words = (*above, name)
        if isinstance(command, click.Group):
            yield from _commands(command, words)
        else:
            yield from _command(command, words)


def _command(command: click.Command, words: tuple[str, ...]) -> Iterator[str]:
    context = click.Context(command)
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    usage = " ".join(_text(one.make_metavar(context)) for one in arguments)
    yield f".SS {_text(' '.join(words))} {usage}".rstrip()
    yield from _paragraphs(command.help or "")
    for option in command.params:
        record = option.get_help_record(context)
        if isinstance(option, click.Option) and record is not None:
            yield ".TP"
            yield f"\\fB{_text(record[0])}\\fR"
            yield _text(record[1]) or "\\&"


def _paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a command's help; a paragraph marked ``\\b`` keeps its lines."""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        lines = [line.strip() for line in paragraph.splitlines()]
        yield ".PP"
        if lines[0] == "\b":
            yield ".nf"
            yield from map(_text, lines[1:])
            yield ".fi"
        else:
            yield _text(" ".join(lines))


def _text(text: str) -> str:
    """Escape what roff would take for a request or another character."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...").replace("→", "->")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def write(folder: Path) -> None:
    for path, text in {
        "man/treehouse-proxy.1": manual(),
        **{f"completions/{path}": text for path, text in completions().items()},
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
