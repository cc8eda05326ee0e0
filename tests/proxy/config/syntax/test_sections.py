"""Sections as code makes them, as documents do, and what an import of them costs."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from proxy.config import model as _all_sections  # noqa: F401 - defines the last of them
from proxy.config.schema.alerts import Alerts
from proxy.config.schema.document import Document, Hsts, Limits, Listen
from proxy.config.schema.inherit import innermost
from proxy.config.schema.matching import Match
from proxy.config.schema.rules import RateLimit, Rules
from proxy.config.syntax.sections import FAILED, Section, Slip, already_read, of_few


def _below(section: type[Section]) -> Iterator[type[Section]]:
    for inner in section.__subclasses__():
        yield inner
        yield from _below(inner)


WITHOUT_REQUIRED_KEYS = [
    section
    for section in _below(Section)
    if not any(field.required for field in section.known_keys().values())
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
    outer.__dict__["given"] = frozenset({"via", "rewrite", "connect_timeout"})
    inner = Rules(via=False, index=("a.html",))
    inner.__dict__["given"] = frozenset({"via", "index"})
    found = innermost(((), outer), (("sites", 0), inner)).rules
    assert found == Rules(via=False, index=("a.html",), rewrite="/a{rest}", connect_timeout=1.0)
    assert not found.given


def test_what_holds_few_of_its_keys_is_the_section_that_a_call_would_make() -> None:
    few = of_few(Rules, {"via": False, "index": ("a.html",)})
    whole = Rules(via=False, index=("a.html",))
    assert few == whole
    assert hash(few) == hash(whole)
    assert repr(few) == repr(whole)
    assert replace(few, via=True) == Rules(via=True, index=("a.html",))
    assert pickle.loads(pickle.dumps(few)) == whole
    assert not few.given
    with pytest.raises(FrozenInstanceError):
        few.via = True  # type: ignore[misc] # what is tried


def test_a_section_is_a_frozen_value() -> None:
    limits = Limits(connections=5)
    assert limits == Limits(connections=5) != Limits(connections=6)
    assert limits != Listen()
    assert hash(limits) == hash(Limits(connections=5))
    assert replace(limits, tunnels=7) == Limits(connections=5, tunnels=7)
    assert repr(Hsts(max_age=1.0)) == "Hsts(max_age=1.0)"
    assert "secret" not in repr(Alerts(webhook="https://hooks.example/secret"))
    with pytest.raises(FrozenInstanceError):
        limits.connections = 6  # type: ignore[misc] # that is what is tested
    with pytest.raises(FrozenInstanceError):
        del limits.connections


@pytest.mark.parametrize(
    "wrongly",
    [
        lambda: Hsts(),
        lambda: Hsts(max_age=1.0, min_age=2.0),
        lambda: Hsts(1.0, 2.0),
    ],
)
def test_a_section_that_code_makes_wrongly_is_refused(wrongly) -> None:
    with pytest.raises(TypeError):
        wrongly()


def test_reading_goes_on_behind_a_fault() -> None:
    slips: list[Slip] = []
    tree = {
        "limits": {"connections": "none", "tunnels": "many", "speed": "1"},
        "rate_limit": [{"rate": "1/s"}, {"burst": "5"}, "fast"],
        "tls": {"hsts": {}},
    }
    assert Document.read(tree, Path(), (), slips) is FAILED
    assert [path for path, _ in slips] == [
        ("limits", "connections"),
        ("limits", "tunnels"),
        ("limits", "speed"),
        ("rate_limit", 1, "rate"),
        ("rate_limit", 2),
        ("tls", "hsts", "max_age"),
    ]
    kinds = [wrong if isinstance(wrong, str) else "wrong" for _, wrong in slips]
    assert kinds == ["wrong", "wrong", "unknown", "missing", "wrong", "missing"]


def test_a_key_whose_name_is_a_word_of_python_s() -> None:
    slips: list[Slip] = []
    read = Match.read({"from": "10.0.0.0/8", "header": None}, Path(), (), slips)
    assert (slips, read.given, getattr(read, "from")) == ([], {"from"}, read.from_)


def test_one_element_may_stand_for_a_list() -> None:
    slips: list[Slip] = []
    read = Document.read({"rate_limit": {"rate": "2/s"}}, Path(), (), slips)
    assert (slips, read.rate_limit) == ([], (RateLimit(rate=2.0),))


def test_an_import_of_the_configuration_works_out_no_key_and_compiles_no_method() -> None:
    """Of seven hundred keys a start meets a few, and reading annotations is dear."""
    code = (
        "import proxy.config.load, proxy.config.syntax.sections as sections\n"
        "def below(one):\n"
        "    return [one, *(each for inner in one.__subclasses__() for each in below(inner))]\n"
        "made = below(sections.Section)\n"
        "assert len(made) > 50\n"
        "print(*(one.__name__ for one in made if vars(one)['_facts']._readers))\n"
        "print(*(one.__name__ for one in made if vars(one).get('__init__', 0) and one.__base__ "
        "is not object))\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert said.stdout.split() == []
