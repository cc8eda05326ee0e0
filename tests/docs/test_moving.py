"""The examples of docs/moving.md: what is written for each is what stands beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.cli.config_import import PROGRAMS
from proxy.config_import.proofreading import proofread, refused
from proxy.config_import.readers import read
from support.program.server import REPOSITORY

PAGE = REPOSITORY / "docs/moving.md"
EXAMPLE = re.compile(r"```(\w+)\n# (\S+)\n(.*?)```\n\nbecomes\n\n```yaml\n(.*?)```", re.DOTALL)
EXAMPLES = {
    kind: (name, text, made) for kind, name, text, made in EXAMPLE.findall(PAGE.read_text())
}


def written(program: str, folder: Path) -> str:
    """What the import writes for the example, without its head."""
    name, text, _made = EXAMPLES[program]
    path = folder / Path(name).name
    path.write_text(f"# {name}\n{text}")
    made = str(proofread(read(program, str(path))))
    assert not refused(made)
    lines = made.splitlines()
    while lines[0].startswith("#"):
        del lines[0]
    return "\n".join(lines).strip() + "\n"


def test_there_is_an_example_of_each() -> None:
    assert set(EXAMPLES) == set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_example_becomes_what_the_page_shows(program: str, tmp_path: Path) -> None:
    assert EXAMPLES[program][2] == written(program, tmp_path)
