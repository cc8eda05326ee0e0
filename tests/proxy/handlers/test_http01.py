"""Challenges that are known, and those that a machine without its cluster answers all the same."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

import pytest

from acme_client.link import HEARD, SPARE
from proxy.errors import Fault
from proxy.handlers import http01
from proxy.handlers.http01 import PREFIX, Http01Handler
from proxy.protocol.message import Request, Response
from proxy.tls import unheard
from proxy.tls.unheard import UnheardChallenges

TOKEN = b"y" * 43


@dataclass
class Asked:
    host: bytes
    target: bytes
    method: bytes = b"GET"


def answer(handler: Http01Handler, token: bytes, host: bytes = b"a.test") -> object:
    try:
        response = handler.handle(cast(Request, Asked(host, PREFIX + token)))
    except Fault as fault:
        return fault.kind
    assert isinstance(response, Response)
    return response.body


async def later(handler: Http01Handler, token: bytes, host: bytes = b"a.test") -> object:
    """The answer to somebody who has to wait for it."""
    response = handler.handle(cast(Request, Asked(host, PREFIX + token)))
    assert not isinstance(response, Response)
    try:
        return (await response).body
    except Fault as fault:
        return fault.kind


@pytest.fixture
def handler() -> Http01Handler:
    made = Http01Handler(UnheardChallenges())
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


def test_before_the_cluster_was_heard_an_unknown_token_waits() -> None:
    async def live() -> None:
        handler = Http01Handler(UnheardChallenges(expected=True))
        handler.may_be_ours = lambda host: host == b"a.test"
        handler.put("a.test", "known", "known.key")
        assert answer(handler, b"known") == b"known.key"
        # Neither what no CA asks for, nor what is not asked here.
        for token, host in ((b"short", b"a.test"), (TOKEN, b"b.test"), (TOKEN + b"/", b"a.test")):
            assert answer(handler, token, host) == "not_found"
        waiting = [asyncio.create_task(later(handler, one)) for one in (TOKEN, b"z" * 43)]
        await asyncio.sleep(0)
        handler.put("a.test", TOKEN.decode(), "y.key")
        assert await waiting[0] == b"y.key"
        assert not waiting[1].done()
        handler.put("*", HEARD, "")
        assert await waiting[1] == "not_found"
        assert answer(handler, b"z" * 43) == "not_found"
        handler.remove("*", HEARD)  # the certifier has ended, and another one is to come
        again = asyncio.create_task(later(handler, TOKEN + b"z"))
        await asyncio.sleep(0)
        handler.is_ours = handler.may_be_ours
        handler.put("*", "*", "thumb")
        assert await again == TOKEN + b"z.thumb"

    asyncio.run(live())


def test_who_has_waited_is_answered_by_the_spare_thumbprint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http01, "_PATIENCE", 0.01)

    async def live() -> None:
        handler = Http01Handler(UnheardChallenges())
        handler.is_ours = handler.may_be_ours = lambda host: host == b"a.test"
        handler.put("*", SPARE, "thumb")
        assert answer(handler, TOKEN) == "not_found"  # the certifier hears all that there is
        handler.remove("*", HEARD)
        assert await later(handler, TOKEN) == TOKEN + b".thumb"
        assert answer(handler, TOKEN, b"b.test") == "not_found"
        assert answer(handler, b"short") == "not_found"
        handler.put("a.test", TOKEN.decode(), "y.key")
        assert answer(handler, TOKEN) == b"y.key"
        handler.remove("*", SPARE)
        monkeypatch.setattr(unheard, "_WITHIN", 0.01)
        assert await later(handler, b"z" * 43) == "not_found"

    asyncio.run(live())


def test_what_comes_while_somebody_waits_is_answered_before_the_spare_thumbprint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http01, "_PATIENCE", 60.0)

    async def live() -> None:
        handler = Http01Handler(UnheardChallenges(expected=True))
        handler.is_ours = handler.may_be_ours = lambda host: host == b"a.test"
        handler.put("*", SPARE, "thumb")
        waiting = [asyncio.create_task(later(handler, one)) for one in (TOKEN, b"z" * 43)]
        await asyncio.sleep(0)
        handler.put("a.test", TOKEN.decode(), "y.key")
        assert await waiting[0] == b"y.key"
        handler.put("*", HEARD, "")
        assert await waiting[1] == "not_found"

    asyncio.run(live())
