"""Expressions: they find what Python's `re` finds, in a time that the text cannot make endless."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proxy.config.syntax.expressions import Expression
from proxy.config.syntax.faults import Wrong

ATOMS = st.sampled_from(
    ["a", "b", "A", "-", r"\.", ".", r"\d", r"\w", r"\s", r"\D", r"\W", r"\S", "[ab]", "[^a]", "[a-c_]",
     r"[^\w-]", r"[\d.]", "1", " ", r"\b", r"\B", "^", "$", r"\A", r"\Z"]
)  # fmt: skip
REPEATS = st.sampled_from(
    ["", "", "", "*", "+", "?", "*?", "+?", "??", "{2}", "{1,3}", "{0,2}?", "{2,}"]
)


def repeated(one: str, sign: str) -> str:
    return f"(?:{one}){sign}" if sign else one


PATTERNS = st.recursive(
    st.builds(repeated, ATOMS, REPEATS),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.lists(inner, min_size=2, max_size=3).map("|".join),
        st.builds(lambda one, sign: f"({one}){sign}", inner, REPEATS),
        inner.map(lambda one: f"(?i:{one})"),
    ),
    max_leaves=8,
)
TEXTS = st.text(alphabet="abcABC1_-. ", max_size=12)


@given(pattern=PATTERNS, text=TEXTS, ignore=st.booleans())
@settings(max_examples=600, deadline=None)
def test_it_finds_what_re_finds(pattern: str, text: str, ignore: bool) -> None:
    if ignore:
        pattern = f"(?i){pattern}"
    assume(text or r"\B" not in pattern)  # Python 3.14 reads it in another way there
    expected = re.search(pattern, text) is not None
    found = Expression(pattern)
    for _ in range(2):  # the second time by what is remembered
        assert found.search(text) is expected


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+$", "(a|aa)+$", "(a|a)*b", "(a?a?)*b", ".*a.*b.*c.*d", "(.*)*x", "((a*)*)*b", r"(\w+\s?)*$"],
)  # fmt: skip
def test_no_text_keeps_it_busy(pattern: str) -> None:
    found = Expression(pattern)
    began = time.process_time()
    for text in ("a" * 8000 + "!", "ab" * 4000 + "!", "abc" * 2600 + "!"):
        found.search(text)
    assert time.process_time() - began < 5  # `re` takes longer than anybody lives


def test_what_is_remembered_is_bounded() -> None:
    found = Expression("[ab]*a[ab]{10}c")  # two thousand sets of states
    found.search("abbab" * 3000)
    for number in range(3000):
        found.search(f"{number:b}".replace("0", "a").replace("1", "b") * 3)
    assert len(found._steps) <= 4096


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(", "no regular expression"), ("[", "no regular expression"), ("a**", "no regular"),
        (r"(a)\1", "looks around or back"), ("a(?=b)", "looks around"), ("(?<!a)b", "looks around"),
        ("(?>a+)b", "looks around"), ("a++b", "looks around"), ("a{5000}", "too large"),
        ("((a{60}){60}){60}", "too large"), ("(?x) a", "flag"), ("(?m)^a", "flag"),
        ("(a)(?(1)b|c)", "looks around"), ("(" * 2000 + ")" * 2000, "regular expression"),
    ],
)  # fmt: skip
def test_what_has_no_automaton_is_refused(pattern: str, said: str) -> None:
    with pytest.raises(Wrong, match=said):
        Expression(pattern)
