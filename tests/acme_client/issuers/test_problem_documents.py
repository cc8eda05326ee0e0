"""Problem documents of all shapes: nothing fails, and what decides is found."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acme_client.errors import ProblemDocument
from acme_client.issuers.problem_documents import ACME, in_words, read, said, type_of

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
KEYS = st.sampled_from(
    ["type", "detail", "title", "status", "identifier", "value", "subproblems", "error", "errors"]
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6)
)


@given(ANYTHING)
def test_whatever_comes_is_read_and_said(value: Any) -> None:
    problem = read(json.dumps(value).encode())
    typ = type_of(problem)
    assert typ is None or (isinstance(typ, str) and typ.strip())
    document = said(problem)
    assert document is not None
    assert in_words(document).isprintable()


@given(st.binary())
def test_no_bytes_are_a_crash(body: bytes) -> None:
    assert isinstance(read(body), dict)


def test_brackets_without_end_are_no_crash() -> None:
    assert read(b"[" * 100_000) == {}


@pytest.mark.parametrize(
    ("typ", "understood"),
    [
        (ACME + "badNonce", ACME + "badNonce"),
        ("urn:acme:error:badNonce", ACME + "badNonce"),
        (f" {ACME}badNonce\n", ACME + "badNonce"),
        ("about:blank", "about:blank"),
        ("https://ca.example/errors/quota", "https://ca.example/errors/quota"),
        ("", None),
        (7, None),
        (None, None),
        (["urn"], None),
    ],
)
def test_the_type(typ: object, understood: str | None) -> None:
    assert type_of({"type": typ}) == understood


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        ({"detail": "no"}, "no"),
        ({"title": "No"}, "No"),
        ({"detail": "", "title": "No"}, "No"),
        ({"detail": None, "title": "No"}, "No"),
        ({"detail": {"en": "no"}, "title": "No"}, "No"),
        ({"message": "not allowed"}, "not allowed"),
        ({"error": "invalid_request", "error_description": "no such role"}, "no such role"),
        ({"error": {"code": 403, "message": "forbidden"}}, "forbidden"),
        ({"errors": ["a", "b"]}, "a"),
        ({"errors": []}, "no reason given"),
        ({"detail": 7}, "7"),
        ({"detail": True}, "no reason given"),
    ],
)
def test_the_words(problem: dict[str, Any], words: str) -> None:
    document = said(problem)
    assert document is not None
    assert in_words(document) == words


@pytest.mark.parametrize(
    ("identifier", "name"),
    [
        ({"type": "dns", "value": "a.example"}, "a.example"),
        ("a.example", "a.example"),
        ({"value": None}, None),
        ({"value": 7}, None),
        (None, None),
        ([], None),
    ],
)
def test_what_a_subproblem_is_about(identifier: object, name: str | None) -> None:
    document = said({"subproblems": [{"type": ACME + "caa", "identifier": identifier}]})
    assert document is not None
    assert document.parts == (ProblemDocument("caa", "", name),)
