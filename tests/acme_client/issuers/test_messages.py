"""What CAs answer: parsed once, and refused in words where it is not ACME."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acme_client.certificates.renewal import Window
from acme_client.errors import IssuanceError, ProblemDocument
from acme_client.issuers import messages as answers
from acme_client.issuers.messages import OfferedChallenge, words

ORDER: dict[str, Any] = {
    "status": "pending",
    "authorizations": ["https://ca.example/authz/1"],
    "finalize": "https://ca.example/finalize/1",
    "expires": "2026-12-01T00:00:00Z",
}
AUTHORIZATION: dict[str, Any] = {
    "status": "pending",
    "identifier": {"type": "dns", "value": "example.org"},
    "challenges": [
        {
            "type": "http-01",
            "url": "https://ca.example/c/1",
            "token": "abc_-9",
            "status": "pending",
        },
        {"type": "dns-persist-01", "url": "https://ca.example/c/2"},
    ],
}
WINDOW: dict[str, Any] = {
    "suggestedWindow": {"start": "2026-11-24T12:00:00Z", "end": "2026-11-25T12:00:00.5+01:00"},
    "explanationURL": "https://ca.example/why",
}


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_an_order() -> None:
    placed = answers.order(encoded(ORDER))
    assert placed.authorizations == ("https://ca.example/authz/1",)
    assert (placed.status, placed.certificate, placed.error) == ("pending", None, None)


def test_an_empty_text_is_a_url_that_is_not_there_yet() -> None:
    placed = answers.order(encoded({**ORDER, "certificate": "", "finalize": "", "error": ""}))
    assert (placed.certificate, placed.finalize, placed.error) == (None, None, None)


def test_an_order_with_the_reason_of_its_failure() -> None:
    error = {"type": "urn:ietf:params:acme:error:caa", "detail": "CAA forbids it"}
    assert answers.order(encoded({**ORDER, "error": error})).error == "CAA forbids it (caa)"


def test_an_authorization_keeps_challenges_of_unknown_kinds() -> None:
    authorization = answers.authorization(encoded(AUTHORIZATION))
    assert (authorization.name, authorization.wildcard) == ("example.org", False)
    assert authorization.challenges == (
        OfferedChallenge("http-01", "https://ca.example/c/1", "abc_-9", None),
        OfferedChallenge("dns-persist-01", "https://ca.example/c/2", "", None),
    )


@pytest.mark.parametrize("token", ["../../etc/passwd", "a/b", ".", "a b", "a\n", "é", "x" * 256])
def test_a_token_that_could_be_a_path_is_refused(token: str) -> None:
    challenges = [{"type": "http-01", "url": "u", "token": token}]
    with pytest.raises(IssuanceError, match="token"):
        answers.authorization(encoded({**AUTHORIZATION, "challenges": challenges}))


def test_a_window_with_its_explanation() -> None:
    assert answers.window(encoded(WINDOW)) == Window(
        1_795_521_600.0, 1_795_604_400.5, "https://ca.example/why"
    )


def test_a_window_without_zone_is_utc() -> None:
    suggested = {"start": "2026-11-24T12:00:00", "end": "2026-11-24T12:00:00"}
    window = answers.window(encoded({"suggestedWindow": suggested}))
    assert (window.start, window.end, window.explanation) == (
        1_795_521_600.0,
        1_795_521_600.0,
        None,
    )


@pytest.mark.parametrize(
    ("parse", "body"),
    [
        (answers.order, b""),
        (answers.order, b"<html>502"),
        (answers.order, b"[]"),
        (answers.order, b"{}"),
        (answers.order, b"\xff"),
        (answers.order, b"[" * 100_000),
        (answers.order, encoded({**ORDER, "status": 1})),
        (answers.order, encoded({**ORDER, "authorizations": None})),
        (answers.order, encoded({**ORDER, "authorizations": [7]})),
        (answers.order, encoded({**ORDER, "certificate": {}})),
        (answers.authorization, encoded({**AUTHORIZATION, "identifier": "example.org"})),
        (answers.authorization, encoded({**AUTHORIZATION, "challenges": {}}) + b"}"),
        (answers.authorization, encoded({**AUTHORIZATION, "challenges": ["http-01"]})),
        (answers.window, encoded({"suggestedWindow": {"start": "soon", "end": "later"}})),
        (answers.window, encoded({"suggestedWindow": {"start": 1, "end": 2}})),
        (
            answers.window,
            encoded(
                {"suggestedWindow": {"start": "2026-11-25T00:00Z", "end": "2026-11-24T00:00Z"}}
            ),
        ),
    ],
)
def test_what_is_not_acme_is_nonsense(parse: Callable[[bytes], Any], body: bytes) -> None:
    with pytest.raises(IssuanceError) as refusal:
        parse(body)
    assert refusal.value.kind == "nonsense"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.data())
def test_no_answer_is_a_crash(data: st.DataObject) -> None:
    for parse, good in (
        (answers.order, ORDER),
        (answers.authorization, AUTHORIZATION),
        (answers.window, WINDOW),
    ):
        changed = {**good, data.draw(st.sampled_from(list(good))): data.draw(json_values)}
        with contextlib.suppress(IssuanceError):
            parse(encoded(changed))


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        ({"type": "urn:ietf:params:acme:error:dns", "detail": "NXDOMAIN"}, "NXDOMAIN (dns)"),
        ({"type": "about:blank", "title": "Bad Gateway"}, "Bad Gateway"),
        ({}, "no reason given"),
        (None, "no reason given"),
        ("oops", "no reason given"),
        (
            {
                "type": "urn:ietf:params:acme:error:compound",
                "detail": "two are bad",
                "subproblems": [
                    {
                        "type": "urn:ietf:params:acme:error:caa",
                        "detail": "CAA",
                        "identifier": {"value": "a.example"},
                    },
                    {"detail": "no A record"},
                    "not a problem",
                ],
            },
            "two are bad (compound); a.example: CAA (caa); no A record",
        ),
        ({"detail": "line\nbreak \x1b[31mred"}, "line break  [31mred"),
    ],
)
def test_the_cas_own_words(problem: Any, text: str) -> None:
    assert words(problem) == text


@given(json_values)
def test_words_are_printable_and_bounded(problem: Any) -> None:
    text = words(problem)
    assert text.isprintable()
    assert len(text) <= 2000


def test_the_parts_of_a_problem_survive_for_the_record() -> None:
    prefix = "urn:ietf:params:acme:error:"
    problem = {
        "type": prefix + "compound",
        "detail": "some\nare wrong",
        "subproblems": [
            {
                "type": prefix + "caa",
                "detail": "CAA forbids it",
                "identifier": {"type": "dns", "value": "a.test"},
                "subproblems": [{"type": "deeper"}],
            },
            "nonsense",
            {"type": "about:blank", "title": "no detail"},
        ],
    }
    assert answers.said(problem) == ProblemDocument(
        "compound",
        "some are wrong",
        None,
        (
            ProblemDocument("caa", "CAA forbids it", "a.test"),
            ProblemDocument("about:blank", "no detail"),
        ),
    )


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["type", "detail", "title", "identifier", "subproblems", "value"]),
                inner,
            )
        ),
    )
)
def test_whatever_a_problem_is_it_is_read_or_none(value: Any) -> None:
    found = answers.said(value)
    assert (found is None) == (not isinstance(value, dict))
