"""How faults read: one line each, in the order of the file, with nothing in them that is not text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.syntax.faults import ConfigurationFaults, Fault, Origin, nearest, shown, spell


def test_a_fault_is_one_line_that_editors_can_jump_to():
    fault = Fault(Origin("c.yaml", 3, 7), "sites[0].root", "it is wrong", "mend it")
    assert str(fault) == "c.yaml:3:7: sites[0].root: it is wrong (mend it)"


def test_a_flag_has_neither_line_nor_key():
    assert (
        str(Fault(Origin("--root"), "", "it is wrong", "mend it"))
        == "--root: it is wrong (mend it)"
    )


def test_faults_come_in_the_order_of_the_file_after_those_of_flags_and_each_once():
    def fault(where: str, line: int = 0, column: int = 0) -> Fault:
        return Fault(Origin(where, line, column), "", "w", "r")

    late, early, flag = fault("c.yaml", 10, 1), fault("c.yaml", 2, 30), fault("--root")
    told = ConfigurationFaults([late, early, flag, late])
    assert told.faults == (flag, early, late)
    assert str(told).splitlines() == ["--root: w (r)", "c.yaml:2:30: w (r)", "c.yaml:10:1: w (r)"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("sites",), "sites"),
        (("sites", 0, "routes", 12, "path"), "sites[0].routes[12].path"),
    ],
)
def test_a_path_reads_as_people_write_it(path, text):
    assert spell(path) == text


def test_the_nearest_known_word_is_named_else_all_are():
    known = ("root", "backend", "redirect")
    assert nearest("rot", known) == "did you mean root?"
    assert nearest("Backnd", known) == "did you mean backend?"
    assert nearest("zzz", known) == "known here: root, backend, redirect"


def test_a_long_value_is_cut_and_another_kind_is_spelt():
    assert shown("x" * 500) == f'"{"x" * 77}..."'
    assert shown(["a"]) == "\"['a']\""


@given(st.text(st.characters()))
def test_nothing_breaks_or_colours_the_line(text):
    line = str(Fault(Origin(text), text, f"{shown(text)} is wrong", text))
    assert line.isprintable()
    assert "\x1b" not in shown(text)
