"""Places that a request fills: nothing that it says gets out of its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.protocol.message import Connection, Request
from proxy.protocol.placeholders import filled

PEER = Connection("192.0.2.9", 4711, "192.0.2.1", 443, b"https")


def request(target: bytes = b"/a?b=c", host: bytes = b"a.test") -> Request:
    return Request(b"GET", target, b"1.1", host, host, [], PEER)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", b""),
        ("plain", b"plain"),
        ("{host}", b"a.test"),
        ("{host}{path}?{query}", b"a.test/a?b=c"),
        ("<{scheme}> {client}!", b"<https> 192.0.2.9!"),
        ("{", b"{"),
        ("{}", b"{}"),
        ("{host", b"{host"),
    ],
)
def test_places_are_filled(text: str, found: bytes) -> None:
    for _ in range(2):
        assert filled(text, request()) == found
    assert filled(text, None) == (found if "{host}" not in text and "}!" not in text else {
        "{host}": b"", "{host}{path}?{query}": b"?", "<{scheme}> {client}!": b"<> !",
    }[text])  # fmt: skip


def test_an_id_is_made_once() -> None:
    asked = request()
    assert filled("{id}", asked) == filled("{id}", asked) == asked.id != b""


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_nothing_but_visible_characters_is_filled_in(target: bytes, host: bytes) -> None:
    made = filled("[{path}|{query}|{host}]", request(target, host))
    assert all(0x20 < byte < 0x7F for byte in made)
    assert made.startswith(b"[")
    assert made.endswith(b"]")
