from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli.main import program

Page = Callable[..., list[tuple[str, str, str]]]


@pytest.fixture
def page(config: Path) -> Page:
    """The rows for a request, by the file ``config``: title, text, and the line and column of its
    place."""

    def rows(*words: str) -> list[tuple[str, str, str]]:
        command = ["explain", *words, "--json", "--config", str(config)]
        done = CliRunner().invoke(program, command)
        assert done.exit_code == 0, done.output
        return [
            (row["title"], row["text"], row["place"].removeprefix(f"{config}:"))
            for row in json.loads(done.stdout)
        ]

    return rows
