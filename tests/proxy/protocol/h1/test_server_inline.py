"""Requests whose response is known at once: answered where they arrive, as all others are."""

from __future__ import annotations

import pytest

from proxy.config.model import Limits
from proxy.protocol.h1.fast_parser import FastParser
from proxy.protocol.h1.serializer import SerialisedHead, serialise
from proxy.protocol.message import Response
from support.http.conversation import Told, conversation

GET = b"GET /%b HTTP/1.1\r\nHost: x.test\r\nCookie: a=%b\r\n\r\n"


def answer(body: bytes) -> Response:
    fields = [(b"content-length", b"%d" % len(body))]
    return Response(200, fields, body, cached=SerialisedHead(serialise(200, fields)))


def shelf(limits: Limits | None = None, **there: bytes) -> Told:
    limits = limits or Limits()
    bodies = {b"/" + name.encode(): answer(body) for name, body in there.items()}
    return Told(FastParser(limits), limits=limits, ready=bodies)


async def test_what_is_known_at_once_and_what_is_not_by_turns() -> None:
    service = shelf(a=b"apple", b=b"pear")
    async with conversation(service) as client:
        for path, body in ((b"a", b"apple"), (b"c", b"GET /c|x.test|"), (b"b", b"pear")) * 3:
            await client.says(GET % (path, path))
            heard = await client.hears(body)
            assert heard.startswith(b"HTTP/1.1 200 OK\r\n")
            assert heard.count(b"\r\ndate: ") == 1
    assert [request.target for request in service.requests] == [b"/c"] * 3
    assert [(status, error) for status, _, error in service.ends] == [(200, None)] * 9


async def test_pipelined_ones_in_their_order() -> None:
    async with conversation(shelf(a=b"apple", b=b"pear")) as client:
        await client.says(GET % (b"a", b"1") + GET % (b"c", b"1") + GET % (b"b", b"1"))
        await client.says(GET % (b"a", b"2"))
        for body in (b"apple", b"|x.test|", b"pear", b"apple"):
            await client.hears(body)


async def test_a_head_in_pieces() -> None:
    async with conversation(shelf(a=b"apple")) as client:
        for cut in (1, 20, len(GET)):
            head = GET % (b"a", b"1")
            await client.says(head[:cut])
            await client.says(head[cut:])
            await client.hears(b"apple")


async def test_a_body_follows_its_head() -> None:
    service = shelf(a=b"apple")
    post = b"POST /c HTTP/1.1\r\nHost: x.test\r\nContent-Length: 5\r\n\r\n"
    async with conversation(service) as client:
        for _ in range(2):
            await client.says(post + b"12345" + GET % (b"a", b"1"))
            await client.hears(b"POST /c|x.test|12345")
            await client.hears(b"apple")
            await client.says(post + b"12")
            await client.says(b"345")
            await client.hears(b"POST /c|x.test|12345")


async def test_a_head_request_has_no_body() -> None:
    async with conversation(shelf(a=b"apple")) as client:
        await client.says(b"HEAD /a HTTP/1.1\r\nHost: x.test\r\n\r\n")
        heard = await client.hears(b"\r\n\r\n")
        assert b"content-length: 5\r\n" in heard
        await client.says(GET % (b"a", b"1"))
        assert (await client.hears(b"apple")).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_an_answer_that_the_kernel_does_not_take_at_once() -> None:
    body = b"x" * 8_000_000 + b"end"
    service = shelf(a=body, b=b"pear")
    async with conversation(service) as client:
        for _ in range(2):
            await client.says(GET % (b"a", b"1"))
            assert (await client.hears(b"xend")).endswith(body)
            await client.says(GET % (b"b", b"1"))
            await client.hears(b"pear")
    assert [sent for _, sent, _ in service.ends] == [len(body), 4] * 2


async def test_the_last_one_of_a_connection_says_so() -> None:
    service = shelf(Limits(requests_per_connection=3), a=b"apple")
    async with conversation(service) as client:
        for _ in range(2):
            await client.says(GET % (b"a", b"1"))
            assert b"connection: close" not in await client.hears(b"apple")
        await client.says(GET % (b"a", b"1"))
        assert b"connection: close\r\n" in await client.hears_the_end()
    assert service.limits_reached == ["requests_per_connection"]


async def test_who_drains_says_so() -> None:
    service = shelf(a=b"apple")
    async with conversation(service) as client:
        await client.says(GET % (b"a", b"1"))
        await client.hears(b"apple")
        service.draining = True
        await client.says(GET % (b"a", b"1"))
        assert b"connection: close\r\n" in await client.hears_the_end()


async def test_what_is_no_request_is_refused_after_others() -> None:
    async with conversation(shelf(a=b"apple")) as client:
        await client.says(GET % (b"a", b"1"))
        await client.hears(b"apple")
        await client.says(b"GET /a HTTP/1.1\r\nHost: x.test\r\nHost: x.test\r\n\r\n")
        assert b"HTTP/1.1 400 " in await client.hears_the_end()


async def test_patience_begins_anew_with_each() -> None:
    limits = Limits(keepalive_timeout=50.0)
    service = shelf(limits, a=b"apple")
    async with conversation(service) as client:
        for _ in range(4):
            await client.says(GET % (b"a", b"1"))
            await client.hears(b"apple")
            client.service.clock.now += 30.0
            client.time_passes(0)
        client.time_passes(51)
        assert await client.hears_the_end() == b""


async def test_a_mistake_in_the_server_ends_the_connection() -> None:
    service = shelf(a=b"apple")
    service.ready[b"/a"].cached = SerialisedHead(1)  # type: ignore[assignment] # what could not be sent
    client_of = conversation(service)
    client = await client_of.__aenter__()
    await client.says(GET % (b"a", b"1"))
    assert await client.hears_the_end() == b""
    with pytest.raises(TypeError):
        await client_of.__aexit__(None, None, None)
    assert service.ends == [(200, 0, "internal")]


async def test_the_head_of_what_is_given_to_many_is_made_once() -> None:
    """What a filter has made of a cached file has no head yet."""
    service = shelf()
    service.ready[b"/a"] = shared = Response(200, [(b"vary", b"x")], b"apple", shared=True)
    async with conversation(service) as client:
        heads = []
        for _ in range(2):
            await client.says(GET % (b"a", b"1"))
            heard = await client.hears(b"apple")
            assert heard.count(b"content-length: 5\r\n") == heard.count(b"vary: x\r\n") == 1
            heads.append(shared.cached)
        await client.says(b"HEAD /a HTTP/1.1\r\nHost: x.test\r\n\r\n")
        assert (await client.hears(b"\r\n\r\n")).count(b"content-length: 5\r\n") == 1
    assert heads[0] is heads[1]
    assert isinstance(heads[0], SerialisedHead)


async def test_a_head_that_cannot_be_made_is_told_and_not_sent() -> None:
    service = shelf()
    service.ready[b"/a"] = Response(200, [(b"x", b"1\r\n2")], b"apple", shared=True)
    async with conversation(service) as client:
        await client.says(GET % (b"a", b"1"))
        assert await client.hears_the_end() == b"RESET"
    assert service.ends == [(200, 0, "internal")]
