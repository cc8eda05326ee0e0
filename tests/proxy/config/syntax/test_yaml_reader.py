"""YAML in, words and their places out; every odd text is a fault with a line, never an exception."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.syntax.yaml_reader import LARGEST, parse


def read(text: str):
    """The value of a text without faults."""
    document = parse(text, "c.yaml")
    assert not document.faults, document.faults
    return document.value


def told(text: str) -> str:
    return "\n".join(str(fault) for fault in parse(text, "c.yaml").faults)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", {}),
        ("---\n", {}),
        ("# a comment\n", {}),
        ("null", {}),
        ("a: b", {"a": "b"}),
        ("\ufeffa: b", {"a": "b"}),
        ("a: b\r\nc: d\r\n", {"a": "b", "c": "d"}),
        ("--- {a: b}\n...\n", {"a": "b"}),
        ("%YAML 1.1\n---\na: b", {"a": "b"}),
        ("a: [1, x, 'y', \"z\"]", {"a": ["1", "x", "y", "z"]}),
        ("a: |\n  one\n  two\n", {"a": "one\ntwo\n"}),
        ("a: !!str 1", {"a": "1"}),
        ("a: ! 1", {"a": "1"}),
    ],
)
def test_a_document_is_a_tree_of_words(text, value):
    assert read(text) == value


@pytest.mark.parametrize("word", ["off", "yes", "1.20", "22:30", "0777", "0x1F", "1_000", "1e3", ".inf", "2026-01-01", "=", "NO"])  # fmt: skip
def test_a_plain_word_stays_a_word(word):
    assert read(f"a: {word}") == {"a": word}


@pytest.mark.parametrize("word", ["", "~", "null", "Null", "NULL"])
def test_null_means_not_given_and_quoted_it_is_a_word(word):
    assert read(f"a: {word}") == {"a": None}
    assert read(f"a: '{word}'") == {"a": word}


def test_every_key_and_value_keeps_its_place():
    origins = parse("a: b\nsites:\n  - names: [x.test,\n      y.test]\n", "c.yaml").origins
    assert str(origins.at(("a",))) == "c.yaml:1:4"
    assert str(origins.at(("sites", 0, "names", 1))) == "c.yaml:4:7"
    assert str(origins.fault_of_key(("sites", 0, "names"), "", "").origin) == "c.yaml:3:5"
    # What was not written has the place of what is around it.
    assert str(origins.at(("sites", 0, "root", "x"))) == "c.yaml:3:5"
    assert str(origins.at(("nowhere",))) == "c.yaml:1:1"


# Twice, anchors, merge


def test_a_key_written_twice_is_a_fault_and_the_first_one_counts():
    document = parse("a: 1\nb: {c: 2, c: 3}\na: 4\n", "c.yaml")
    assert document.value == {"a": "1", "b": {"c": "2"}}
    assert [str(fault) for fault in document.faults] == [
        "c.yaml:2:11: b.c: this key stands here twice, first in line 2 (keep one of the two)",
        "c.yaml:3:1: a: this key stands here twice, first in line 1 (keep one of the two)",
    ]


def test_aliases_stand_for_what_they_name_and_keep_its_place():
    document = parse("a: &x {b: c}\nd: *x\n", "c.yaml")
    assert document.value == {"a": {"b": "c"}, "d": {"b": "c"}}
    assert str(document.origins.at(("d", "b"))) == "c.yaml:1:11"


@pytest.mark.parametrize(
    ("text", "merged"),
    [
        ("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}", {"a": "1", "b": "3"}),
        ("x: &x {a: 1, b: 2}\ny: {b: 3, <<: *x}", {"a": "1", "b": "3"}),
        ("x: [&p {a: 1}, &q {a: 2, b: 2}]\ny: {<<: [*p, *q]}", {"a": "1", "b": "2"}),
        ("x: [&p {a: 1}, &q {<<: *p, b: 2}]\ny: {<<: *q}", {"a": "1", "b": "2"}),
        ("y: {'<<': 1}", {"<<": "1"}),
    ],
)
def test_merge_keys_fill_in_what_is_not_there(text, merged):
    assert read(text)["y"] == merged


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: *nobody", "c.yaml:1:4: the alias *nobody has no anchor"),
        ("a: &x [*x]", "c.yaml:1:8: *x stands inside the value it is for"),
        ("a: &x {<<: *x}", "stands inside the value it is for"),
        ("a: {<<: 1}", "<< takes a mapping"),
        ("a: {<<: [1]}", "<< takes a mapping"),
        ("[a, b]", "c.yaml:1:1: the file is not a mapping"),
        ("word", "the file is not a mapping"),
        ("a: 1\n---\nb: 2", "a second document begins here"),
        ("a: !!python/object/apply:os.system [id]", "has no meaning here"),
        ("a: !!binary aGk=", "has no meaning here"),
        ("? [a]\n: b", "a key here is not a plain word"),
        ("? {a: b}\n: c", "a key here is not a plain word"),
        ("~: a", "a key here is not a plain word"),
        ("a: [", "close the"),
        ("a: 'x", "close the quotation mark"),
        ("\ta: b", "indent with spaces"),
        ("a:\n\t- b", "indent with spaces"),
        ("a: b: c", "quote a value that holds a colon"),
        ("a: @b", "quote a value that starts with @"),
        ("a: b\n c: d", "c.yaml:2:"),
        ("a: \x07", "control character"),
        ("a: \ud800", "save the file as UTF-8"),
        ("a: %", "this is not YAML"),
    ],
)
def test_an_odd_text_is_a_fault_with_its_place(text, said):
    assert said in told(text)
    assert told(text).startswith("c.yaml:")


# Bounds


def test_nine_lines_do_not_become_a_billion_values():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "more than 300000 values" in told("\n".join(lines))


def test_nor_by_merging():
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 9)]
    assert "more than 300000 values" in told("\n".join(lines))


@pytest.mark.parametrize("bracket", ["[", "{a: ", "- ", "? "])
def test_depth_is_bounded_before_the_stack_is(bracket):
    assert "levels deep" in told("a: " + bracket * 1000 if bracket[0] in "[{" else bracket * 1000)


def test_a_chain_of_aliases_is_bounded_in_depth():
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 60)]
    assert "levels deep" in told("\n".join(lines))


def test_a_file_too_large_is_not_read_at_all():
    assert f"larger than {LARGEST >> 20} MiB" in told("#" * (LARGEST + 1))


def test_ten_thousand_sites_are_not_too_many():
    sites = "\n".join(f"  - names: [s{n}.test]\n    root: /srv/{n}" for n in range(10_000))
    assert len(read(f"sites:\n{sites}")["sites"]) == 10_000


def test_a_file_that_is_something_else_has_a_bounded_list_of_faults():
    assert len(parse("\n".join(f"k: {n}" for n in range(1000)), "c.yaml").faults) == 100


# Any text

YAMLISH = st.lists(
    st.sampled_from(
        ["a", "b", ":", " ", "\n", "\n  ", "- ", "? ", "[", "]", "{", "}", ",", "&x ", "*x", "<<", "|", ">",
         "'", '"', "!", "!!str ", "%", "@", "`", "#", "---\n", "...\n", "~", "\t", "\\", "\x85", "\u2028", "\ufeff"]
    ),
    max_size=25,
).map("".join)  # fmt: skip


@given(YAMLISH | st.text(max_size=50))
def test_no_text_is_worse_than_a_fault(text):
    document = parse(text, "c.yaml")
    assert isinstance(document.value, dict)
    assert all(str(fault).isprintable() for fault in document.faults)


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=8)
TREES = st.recursive(
    WORDS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=15
)  # fmt: skip


@given(st.dictionaries(WORDS, TREES, max_size=4), st.booleans())
def test_what_yaml_writes_is_read_back(tree, flow):
    assert read(yaml.safe_dump(tree, default_flow_style=flow, default_style='"')) == tree
