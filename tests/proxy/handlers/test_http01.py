"""Challenges that are known, and those that a machine without its cluster answers all the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest

from proxy.errors import Fault
from proxy.handlers.http01 import PREFIX, Http01Handler
from proxy.protocol.message import Request

TOKEN = b"y" * 43


@dataclass
class Asked:
    host: bytes
    target: bytes
    method: bytes = b"GET"


def answer(handler: Http01Handler, token: bytes, host: bytes = b"a.test") -> object:
    try:
        return handler.handle(cast(Request, Asked(host, PREFIX + token))).body
    except Fault as fault:
        return fault.kind


@pytest.fixture
def handler() -> Http01Handler:
    made = Http01Handler()
    made.is_ours = lambda host: host == b"a.test"
    made.put("a.test", "known", "known.key")
    return made


def test_what_is_unknown_is_answered_only_while_that_is_said(handler: Http01Handler) -> None:
    assert answer(handler, b"known") == b"known.key"
    assert answer(handler, TOKEN) == "not_found"
    handler.put("*", "*", "thumb")
    assert answer(handler, TOKEN) == TOKEN + b".thumb"
    assert answer(handler, b"known") == b"known.key"
    handler.remove("*", "*")
    assert answer(handler, TOKEN) == "not_found"


@pytest.mark.parametrize(
    ("token", "host"),
    [
        (TOKEN, b"b.test"),
        (TOKEN, b"*"),
        (b"*", b"a.test"),
        (b"*", b"*"),
        (b"y" * 21, b"a.test"),
        (b"y" * 257, b"a.test"),
        (TOKEN + b"?x", b"a.test"),
        (TOKEN + b"/", b"a.test"),
        (TOKEN + b".z", b"a.test"),
        (TOKEN + b"%41", b"a.test"),
        (TOKEN + b"\n", b"a.test"),
        (b"", b"a.test"),
    ],
)
def test_nothing_else_is_reflected(handler: Http01Handler, token: bytes, host: bytes) -> None:
    handler.put("*", "*", "thumb")
    assert answer(handler, token, host) == "not_found"
