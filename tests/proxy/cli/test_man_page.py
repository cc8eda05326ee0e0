"""The manual page and the completions are those of the commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from proxy.cli.main import program
from proxy.cli.man_page import completions, manual

CONFIG = Path(__file__).resolve().parents[3] / "config"
REMEDY = "run: python -m proxy.cli.man_page config"


def test_the_manual_page_is_the_one_of_these_commands() -> None:
    assert (CONFIG / "man/treehouse-proxy.1").read_text() == manual(), REMEDY


@pytest.mark.parametrize("path", completions())
def test_a_completion_is_the_one_of_this_click(path: str) -> None:
    assert (CONFIG / "completions" / path).read_text() == completions()[path], REMEDY


def leaves(group: click.Group, above: str = "") -> list[str]:
    """Every command by its whole name."""
    found = []
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found += leaves(command, f"{above}{name} ")
        elif not command.hidden:
            found.append(above + name)
    return found


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_reads_the_page_without_a_warning_and_shows_every_command() -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tascii", "-ww", "-P-c", "-P-b", "-P-u", CONFIG / "man/treehouse-proxy.1"],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert done.stderr == ""
    shown = {line.strip() for line in done.stdout.splitlines()}
    for command in leaves(program):
        assert any(line.startswith(command) for line in shown), command


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("", {"run", "status", "certs", "doctor"}),
        ("sta", {"status"}),
        ("certs re", {"renew", "revoke"}),
        ("--dom", {"--domain"}),
        ("--domain a.test --roo", {"--root"}),
        ("doctor --res", {"--resolver"}),
    ],
)
def test_a_shell_is_offered(typed: str, offered: set[str]) -> None:
    words = f"treehouse-proxy {typed}"
    environment = {
        "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1),
        "_TREEHOUSE_PROXY_COMPLETE": "bash_complete",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "proxy"], env=os.environ | environment,
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert offered <= {line.partition(",")[2] for line in done.stdout.splitlines()}
