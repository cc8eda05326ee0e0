"""meta.json: read back as it was written, and never in the way of anything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acme_client.certificates.lifecycle import State
from acme_client.certificates.record import HISTORY, VERSION, Attempt, Record, from_json, to_json
from acme_client.certificates.renewal import Window
from acme_client.errors import ProblemDocument

moments = st.floats(-1e10, 1e10)
texts = st.text(max_size=20)
leaves = st.builds(ProblemDocument, texts, texts, st.none() | texts)
sayings = st.builds(
    ProblemDocument, texts, texts, st.none() | texts, st.lists(leaves, max_size=3).map(tuple)
)
attempts = st.builds(
    Attempt, at=moments, outcome=texts, directory=texts, challenge=st.none() | texts, text=texts,
    seconds=st.none() | moments, said=st.none() | sayings,
)  # fmt: skip
records = st.builds(
    Record,
    names=st.lists(texts, max_size=3).map(tuple),
    source=st.none() | texts,
    directory=st.none() | texts,
    serial=st.none() | texts,
    not_before=st.none() | moments,
    not_after=st.none() | moments,
    renew_at=st.none() | moments,
    state=st.sampled_from(State),
    attempts=st.integers(0, 999),
    last_error=st.none() | texts,
    paused_at=st.none() | moments,
    next_attempt=st.none() | moments,
    interrupted=st.integers(0, 9),
    window=st.none() | st.builds(Window, moments, moments, st.none() | texts),
    ask_at=st.none() | moments,
    challenge=st.none() | texts,
    history=st.lists(attempts, max_size=HISTORY).map(tuple),
)

# As version 1 wrote it on 2026-11-24. It stays as it is, whatever later versions write.
FROZEN = b"""{
 "version": 1,
 "names": ["example.org", "www.example.org"],
 "source": "acme",
 "directory": "https://ca.example/dir",
 "serial": "3f",
 "not_before": 1795500000.0,
 "not_after": 1803276000.0,
 "renew_at": 1800650000.5,
 "state": "failed",
 "attempts": 2,
 "last_error": "example.org: http-01: connection refused",
 "paused_at": 1800650010.0,
 "next_attempt": 1800650610.0,
 "interrupted": 0,
 "window": {"start": 1800600000.0, "end": 1800700000.0, "explanation": null},
 "ask_at": 1800652000.0,
 "challenge": "http-01",
 "history": [{"at": 1800650010.0, "outcome": "validation", "directory": "https://ca.example/dir",
              "challenge": "http-01", "text": "connection refused"}]
}"""


@given(records)
def test_what_was_written_is_read(record: Record) -> None:
    assert from_json(to_json(record)) == record


def test_what_the_first_version_wrote_is_still_read() -> None:
    record = from_json(FROZEN)
    assert record == Record(
        names=("example.org", "www.example.org"),
        source="acme",
        directory="https://ca.example/dir",
        serial="3f",
        not_before=1795500000.0,
        not_after=1803276000.0,
        renew_at=1800650000.5,
        state=State.FAILED,
        attempts=2,
        last_error="example.org: http-01: connection refused",
        paused_at=1800650010.0,
        next_attempt=1800650610.0,
        window=Window(1800600000.0, 1800700000.0, None),
        ask_at=1800652000.0,
        challenge="http-01",
        history=(
            Attempt(
                1800650010.0,
                "validation",
                "https://ca.example/dir",
                "http-01",
                "connection refused",
            ),
        ),
    )


def test_the_version_is_in_the_file() -> None:
    assert json.loads(to_json(Record()))["version"] == VERSION


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", FROZEN[:200]])
def test_a_torn_file_is_an_empty_record(data: bytes) -> None:
    assert from_json(data) == Record()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("state", "enchanted"),
        ("state", 3),
        ("attempts", -1),
        ("attempts", True),
        ("attempts", "2"),
        ("renew_at", "tomorrow"),
        ("renew_at", float("nan")),
        ("renew_at", 1e300),
        ("names", "example.org"),
        ("names", [1]),
        ("window", {"start": 1}),
        ("window", [1, 2]),
        ("history", [{"at": 1}]),
        ("history", {}),
    ],
)
def test_a_value_of_the_wrong_kind_costs_only_itself(key: str, value: Any) -> None:
    document = {**json.loads(to_json(Record(serial="3f", challenge="http-01"))), key: value}
    record = from_json(json.dumps(document).encode())
    assert getattr(record, key) == getattr(Record(), key)
    assert (record.serial, record.challenge) == ("3f", "http-01")


def test_keys_that_were_added_later_are_left_out() -> None:
    document = {**json.loads(to_json(Record(serial="3f"))), "moon": "full"}
    assert from_json(json.dumps(document).encode()) == Record(serial="3f")


def test_of_a_newer_version_no_key_is_taken_to_mean_what_we_think() -> None:
    document = {**json.loads(to_json(Record(serial="3f"))), "version": 2}
    assert from_json(json.dumps(document).encode()) == Record()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(list(Record.__dataclass_fields__)), json_values))
def test_no_document_is_a_crash(document: dict[str, Any]) -> None:
    from_json(json.dumps(document).encode())
