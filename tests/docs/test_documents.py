"""No line of documentation that does not work."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from proxy.cli.main import program
from proxy.config.checks import consistency
from proxy.config.schema.parse import validate
from proxy.config.syntax.yaml_reader import parse
from support import cookbook

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])
# docs/moving.md has other programs' files too; tests/docs/test_moving.py reads it.
DOCUMENTED = [page for page in PAGES if "docs" in page.parts and page.name != "moving.md"]


def blocks(kind: str) -> list[tuple[str, str]]:
    """Each block of code in this language, with the name of its page."""
    return [
        (f"{page.parent.name}/{page.stem}", text)
        for page in DOCUMENTED
        for text in re.findall(rf"```{kind}\n(.*?)```", page.read_text(), re.DOTALL)
    ]


def sound(text: str) -> None:
    document = parse(text, "snippet.yaml", {})
    parsed, faults = validate(document.value, document.origins)
    assert not [*document.faults, *faults, *consistency.check(parsed)]


@pytest.mark.parametrize(("_page", "text"), blocks("yaml"))
def test_what_is_yaml_is_a_configuration(_page: str, text: str) -> None:
    sound(text)


@pytest.mark.parametrize(
    ("_page", "line"), [(page, line) for page, text in blocks("sh") for line in text.splitlines()]
)
def test_what_is_for_the_shell_is_a_command(_page: str, line: str) -> None:
    understood(line)


def test_no_page_of_the_cookbook_is_missing_in_its_index() -> None:
    index = (cookbook.FOLDER / "README.md").read_text()
    linked = dict(re.findall(r"^- \[([^]]+)\]\(([\w.-]+)\)$", index, re.MULTILINE))
    assert {title: (cookbook.FOLDER / name).read_text() for title, name in linked.items()} == (
        cookbook.PAGES
    )


def understood(line: str) -> None:
    """The command line parses, down to the last option."""
    name, *words = shlex.split(line, comments=True)
    assert name == "treehouse-proxy"
    if words == ["--version"]:
        return
    if words[0].startswith("-"):
        words = ["run", *words]
    command: click.Command = program
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, line
        command = found
    command.make_context(name, words)


COMMANDS = sorted(
    {
        (page.name, line)
        for page in PAGES
        for line in re.findall(r"(?<!`)`((?:sudo )?treehouse-proxy [^`\n]*)`", page.read_text())
    }
)


@pytest.mark.parametrize(("_page", "line"), COMMANDS)
def test_a_command_within_a_sentence_is_one(_page: str, line: str) -> None:
    """Words in capitals stand for what people put there, and bars between words for a choice; what
    a command needs may be left out."""
    line = re.sub(r"\b[A-Z]+\b(?! https)", "example.org", line.removeprefix("sudo "))
    line = re.sub(r"\|\S+", "", line)
    with contextlib.suppress(click.MissingParameter):
        understood(line)


def test_the_readmes_commands_and_file() -> None:
    text = (REPOSITORY / "README.md").read_text()
    lines = re.findall(r"^    (?:sudo )?(treehouse-proxy .*)$", text, re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        understood(line)
    (snippet,) = re.findall(r"(    # /etc/treehouse-proxy/config.yaml\n(?:    .*\n)+)", text)
    sound(re.sub(r"^    ", "", snippet, flags=re.MULTILINE))
    targets = re.findall(r"^    make (\w+)$", text, re.MULTILINE)
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", ["security.md", "faults.md"])
def test_every_test_that_is_named_as_showing_something_is_there(page: str) -> None:
    files: dict[str, str] = {}  # some have the same name
    for path in (REPOSITORY / "tests").rglob("*.py"):
        files[path.name] = files.get(path.name, "") + path.read_text()
    named, last = 0, ""
    for name, test in re.findall(
        r"`(?:[\w/]*?)(\w+\.py)?(?:::(\w+))?`", (REPOSITORY / "docs" / page).read_text()
    ):
        last = name or last
        if last.startswith("test_") and (name or test):
            assert last in files, last
            assert not test or f"def {test}(" in files[last], f"{last}::{test}"
            named += 1
    assert named > 20


def test_every_dependency_has_its_line() -> None:
    text = (REPOSITORY / "docs/dependencies.md").read_text().lower()
    project = (REPOSITORY / "pyproject.toml").read_text()
    (listed,) = re.findall(r"^dependencies = \[(.*?)\]", project, re.MULTILINE | re.DOTALL)
    names = re.findall(r'"([A-Za-z0-9-]+)', listed)
    assert "h11" in names
    for name in names:
        assert name.lower() in text, name


def test_every_yaml_of_config_is_yaml() -> None:
    found = list((REPOSITORY / "config").rglob("*.yaml"))
    assert found
    for path in found:
        yaml.safe_load(path.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_in_backticks_is_there(page: Path) -> None:
    named = re.findall(
        r"`((?:proxy|acme_client|tests|config|benchmarks|docs|requirements)/[\w/.-]*)(?:::\w+)?`",
        page.read_text(),
    )
    missing = [path for path in named if not (REPOSITORY / path).exists()]
    assert not missing
