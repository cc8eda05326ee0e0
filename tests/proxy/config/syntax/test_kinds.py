"""Sections as code makes them, and what pydantic does for them at an import."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from proxy.config import model as _all_sections  # noqa: F401 - defines the last of them
from proxy.config.schema.inherit import innermost
from proxy.config.schema.rules import Rules
from proxy.config.syntax.kinds import Section, already_read


def _below(section: type[Section]) -> Iterator[type[Section]]:
    for inner in section.__subclasses__():
        yield inner
        yield from _below(inner)


WITHOUT_REQUIRED_KEYS = [
    section
    for section in _below(Section)
    if not any(field.is_required() for field in section.known_keys().values())
]


@pytest.mark.parametrize("section", WITHOUT_REQUIRED_KEYS, ids=lambda section: section.__name__)
def test_values_that_have_been_read_make_the_same_section_as_a_call(
    section: type[Section],
) -> None:
    made = already_read(section)
    assert made == section()
    assert vars(made) == vars(section())
    assert not made.given


def test_what_holds_at_a_route_is_the_section_that_a_call_would_make() -> None:
    outer = Rules(via=True, rewrite="/a{rest}", connect_timeout=1.0)
    outer.__dict__["_given"] = frozenset({"via", "rewrite", "connect_timeout"})
    inner = Rules(via=False, index=("a.html",))
    inner.__dict__["_given"] = frozenset({"via", "index"})
    found = innermost(((), outer), (("sites", 0), inner)).rules
    assert found == Rules(via=False, index=("a.html",), rewrite="/a{rest}", connect_timeout=1.0)
    assert not found.given


def test_an_import_of_the_configuration_builds_no_rules_of_a_section() -> None:
    """Each takes a start 1 to 7 ms, and a start needs few of them."""
    code = (
        "import proxy.config.load, proxy.config.syntax.kinds as kinds\n"
        "def below(one):\n"
        "    return [one, *(each for inner in one.__subclasses__() for each in below(inner))]\n"
        "made = below(kinds.Section)\n"
        "assert len(made) > 50\n"
        "print(*(one.__name__ for one in made if vars(one).get('__pydantic_complete__')))\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert said.stdout.split() == []
