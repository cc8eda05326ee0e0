"""Each command's help has an example that the command understands, and a shell completes all of it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest
from click.shell_completion import BashComplete

from proxy.cli.main import program

Words = tuple[str, ...]


def commands(group: click.Group, above: Words = ()) -> Iterator[tuple[Words, click.Command]]:
    """Every command and group that is shown, with its words."""
    yield above, group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))
        elif not command.hidden:
            yield (*above, name), command


COMMANDS = [pytest.param(words, one, id=" ".join(words) or "-") for words, one in commands(program)]


def examples(command: click.Command) -> list[str]:
    """The lines of the help that are commands, each without what stands behind it in a pipe."""
    lines = re.findall(r"^ *(?:sudo )?(treehouse-proxy .*)$", command.help or "", re.MULTILINE)
    return [re.split(r" (?:&&|\|) ", line)[0] for line in lines]


def test_there_are_as_many_as_there_should_be() -> None:
    assert len(COMMANDS) >= 27
    assert {("trust",), ("hash-password",), ("config", "import")} <= {
        one.values[0] for one in COMMANDS
    }


@pytest.mark.parametrize(("words", "command"), COMMANDS)
def test_the_help_has_an_example_that_is_understood(words: Words, command: click.Command) -> None:
    found = examples(command)
    assert found, f"the help of {' '.join(words)} has no example"
    for line in found:
        _name, *given = shlex.split(line)
        if not words:
            given = given if given[0] in program.commands else ["run", *given]
        assert tuple(given[: len(words)]) == words
        meant: click.Command = program
        while isinstance(meant, click.Group):
            meant = meant.commands[given.pop(0)]
        meant.make_context("treehouse-proxy", given)


@pytest.mark.parametrize(
    ("words", "command"), [one for one in COMMANDS if isinstance(one.values[1], click.Group)]
)
def test_a_group_names_its_commands_without_cutting_a_sentence(
    words: Words, command: click.Group
) -> None:
    listed = command.get_help(click.Context(command, terminal_width=80)).partition("Commands:")[2]
    told = "".join(listed.split())  # a line may end at a hyphen
    for name, one in command.commands.items():
        if not one.hidden:
            sentence = re.split(r"\.\s|\n\n", one.help or "")[0]
            assert name + "".join(sentence.split()) in told
    assert all(len(line) <= 80 for line in listed.splitlines())


@pytest.mark.parametrize(("words", "command"), COMMANDS)
def test_the_help_is_shown_with_the_example_on_a_line_of_its_own(
    words: Words, command: click.Command
) -> None:
    shown = [
        line.strip().removeprefix("sudo ")
        for line in command.get_help(click.Context(command)).splitlines()
    ]
    for line in examples(command):
        assert any(one.startswith(line) for one in shown), line


def offered(words: Words, begun: str) -> set[str]:
    completion = BashComplete(program, {}, "treehouse-proxy", "_TREEHOUSE_PROXY_COMPLETE")
    return {item.value for item in completion.get_completions(list(words), begun)}


@pytest.mark.parametrize(("words", "command"), COMMANDS)
def test_a_shell_completes_the_command_and_its_options(
    words: Words, command: click.Command
) -> None:
    if words:
        assert words[-1] in offered(words[:-1], words[-1][:2])
        assert words[-1] in offered(words[:-1], "")
    else:
        assert set(program.commands) <= offered((), "")
    names = {
        name
        for one in command.params
        if isinstance(one, click.Option) and not one.hidden
        for name in one.opts
        if name.startswith("--")
    }
    assert names <= offered(words, "--") | {"--help", "--version"}
