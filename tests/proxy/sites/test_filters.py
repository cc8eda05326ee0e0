"""Chains of filters: order, waiting, failing, and what is kept with a shared response."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field

import pytest

from proxy.config.model import Hsts
from proxy.config.schema.rules import ResponseFieldRules
from proxy.errors import Fault
from proxy.protocol.exchange import Exchange
from proxy.protocol.h1.serializer import SerialisedHead, serialise
from proxy.protocol.message import Connection, FileBody, Handler, Request, Response
from proxy.sites.field_rules import FixedFields, filter_of
from proxy.sites.filters import Chain, Fixed
from proxy.sites.response_fields import StrictTransportSecurity
from proxy.sites.router import Refusing

PEER = Connection("192.0.2.9", 4711, "192.0.2.1", 443, b"https")


HANDLER = Refusing("not_found")


def exchange() -> Exchange:
    return Exchange(PEER, Request(b"GET", b"/", b"1.1", b"h", b"h", [], PEER))


def failed(_exchange: Exchange, error: Exception) -> Response:
    kind = error.kind if isinstance(error, Fault) else "internal"
    return Response(Fault(kind).what.status, [], error=kind)


@dataclass
class Step:
    """A filter that notes that it was asked; ``answer`` and ``raises`` are what a request meets,
    ``late``: it waits first."""

    name: str
    seen: list[str]
    late: bool = False
    answer: Response | None = None
    raises: Exception | None = None
    breaks: Exception | None = None  # what a response meets

    def request(self, _exchange: Exchange) -> Response | Awaitable[Response | None] | None:
        self.seen.append(f"{self.name}?")
        return self._later_request() if self.late else self._request()

    def _request(self) -> Response | None:
        if self.raises is not None:
            raise self.raises
        return self.answer

    async def _later_request(self) -> Response | None:
        await asyncio.sleep(0)
        return self._request()

    def response(self, _exchange: Exchange, response: Response) -> Response | Awaitable[Response]:
        self.seen.append(f"{self.name}!{response.status}")
        return self._later_response(response) if self.late else self._response(response)

    def _response(self, response: Response) -> Response:
        if self.breaks is not None:
            raise self.breaks
        return response

    async def _later_response(self, response: Response) -> Response:
        await asyncio.sleep(0)
        return self._response(response)


@dataclass
class Asked:
    """The handler at the end."""

    seen: list[str]
    response: Response = field(default_factory=lambda: Response(200, []))
    late: bool = False

    def __call__(self, _exchange: Exchange, handler: Handler) -> Response | Awaitable[Response]:
        assert handler is HANDLER
        self.seen.append("handler")
        return self._later() if self.late else self.response

    async def _later(self) -> Response:
        await asyncio.sleep(0)
        return self.response


async def outcome(chain: Chain, asked: Asked) -> tuple[Response, bool]:
    """The response, and whether it had to be waited for."""
    answer = chain.handle(exchange(), HANDLER, asked, failed)
    if isinstance(answer, Response):
        return answer, False
    return await answer, True


@pytest.mark.parametrize("late", ["", "a", "b", "x", "y", "handler", "abxyhandler"])
async def test_filters_act_in_their_order_and_wait_only_if_one_must(late: str) -> None:
    seen: list[str] = []
    a, b, x, y = (Step(name, seen, late=name in late) for name in "abxy")
    asked = Asked(seen, late="handler" in late)
    response, waited = await outcome(Chain([a, b], [x, y]), asked)
    assert seen == ["a?", "b?", "handler", "x!200", "y!200"]
    assert response is asked.response
    assert waited == bool(late)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("how", "status"), [("answer", 401), ("fault", 429), ("exception", 500)])
async def test_an_answer_of_a_filter_passes_all_filters_of_responses(
    how: str, status: int, late: bool
) -> None:
    seen: list[str] = []
    first = Step("a", seen, late=late)
    if how == "answer":
        first.answer = Response(401, [])
    else:
        first.raises = Fault("rate_limited") if how == "fault" else RuntimeError("a bug")
    chain = Chain([first, Step("b", seen)], [Step("x", seen), Step("y", seen, late=late)])
    response, _ = await outcome(chain, Asked(seen))
    assert response.status == status
    assert seen == ["a?", f"x!{status}", f"y!{status}"]


@pytest.mark.parametrize("late", [False, True])
async def test_where_a_filter_of_responses_fails_the_body_is_ended_and_the_rest_goes_on(
    late: bool,
) -> None:
    seen: list[str] = []
    released: list[bool] = []
    body = FileBody(0, 0, 5, lambda: released.append(True))
    broken = Step("x", seen, late=late, breaks=RuntimeError("a bug"))
    chain = Chain((), [broken, Step("y", seen)])
    response, _ = await outcome(chain, Asked(seen, Response(200, [], body)))
    assert response.status == 500
    assert seen == ["handler", "x!200", "y!500"]
    assert released == [True]


async def test_where_the_client_leaves_while_a_filter_waits_the_body_is_ended() -> None:
    released: list[bool] = []

    class Never:
        def response(self, _exchange: Exchange, response: Response) -> Awaitable[Response]:
            return asyncio.get_running_loop().create_future()

    body = FileBody(0, 0, 5, lambda: released.append(True))
    answer = Chain((), [Never()]).handle(
        exchange(), HANDLER, Asked([], Response(200, [], body)), failed
    )
    assert not isinstance(answer, Response)
    task = asyncio.ensure_future(answer)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert released == [True]


def file_response() -> Response:
    fields = [(b"content-length", b"5")]
    return Response(
        200, fields, b"apple", cached=SerialisedHead(serialise(200, fields)), shared=True
    )


class Counted:
    """A field filter that counts how often it is asked."""

    def __init__(self) -> None:
        self.times = 0

    def change(self, response: Response) -> None:
        self.times += 1
        response.set_field(b"x-a", b"1")


async def test_fields_of_a_shared_response_are_added_once_and_to_a_copy() -> None:
    counted, seen = Counted(), []
    chain = Chain((), [Fixed([counted])])
    asked = Asked(seen, file_response())
    first, _ = await outcome(chain, asked)
    second, _ = await outcome(chain, asked)
    assert first is second
    assert isinstance(first.cached, SerialisedHead)
    assert first.cached.wire.endswith(b"content-length: 5\r\nx-a: 1\r\n")
    assert counted.times == 1
    assert (b"x-a", b"1") not in asked.response.fields
    assert b"x-a" not in getattr(asked.response.cached, "wire", b"")
    # Another route with the same file and other filters.
    third, _ = await outcome(Chain((), [Fixed([Counted()]), Fixed([Counted()])]), asked)
    assert third is not first
    assert third.shared
    # Whoever is answered alone is changed each time.
    for _ in range(2):
        await outcome(chain, Asked(seen))
    assert counted.times == 3


@pytest.mark.parametrize("own", [[], [b"max-age=31536000"], [b"max-age=1", b"max-age=2"]])
@pytest.mark.parametrize("shared", [False, True])
async def test_hsts_is_said_once_and_by_us(own: list[bytes], shared: bool) -> None:
    given = [(b"content-length", b"0"), *((b"strict-transport-security", one) for one in own)]
    response = Response(
        200, given, b"", cached=SerialisedHead(serialise(200, given)), shared=shared
    )
    chain = Chain((), [Fixed([StrictTransportSecurity(Hsts(60.0))])])
    for _ in range(2):
        changed, _ = await outcome(chain, Asked([], response))
        sent = getattr(changed.cached, "wire", None) or serialise(changed.status, changed.fields)
        assert sent.count(b"strict-transport-security: ") == 1
        assert b"strict-transport-security: max-age=60\r\n" in sent
        assert changed.fields.count((b"strict-transport-security", b"max-age=60")) == 1
        if not shared:
            break


def test_heads_that_a_backend_repeats_are_changed_once() -> None:
    """By what it does, and not by what it was last: another head, or another filter, is another."""
    fields = [(b"server", b"app"), (b"x-a", b"1"), (b"content-length", b"1")]
    head = SerialisedHead(serialise(200, fields))
    rules = filter_of(ResponseFieldRules(set=(("x-a", "ours"),), remove=("server",)))
    assert isinstance(rules, FixedFields)
    first, second = Fixed([rules]), Fixed([StrictTransportSecurity(Hsts(max_age=5.0))])

    def changed(by: Fixed, head: SerialisedHead) -> Response:
        return by.response(exchange(), Response(200, fields, b"x", cached=head))

    made = changed(first, head)
    assert changed(first, head).cached is made.cached
    assert changed(first, head).fields is made.fields
    assert made.fields == [(b"content-length", b"1"), (b"x-a", b"ours")]
    assert isinstance(made.cached, SerialisedHead)
    assert made.cached.wire == serialise(200, made.fields)
    other = changed(second, head)
    assert other.fields == [*fields, (b"strict-transport-security", b"max-age=5")]
    assert isinstance(other.cached, SerialisedHead)
    assert other.cached.wire == serialise(200, other.fields)
    assert changed(first, SerialisedHead(serialise(200, fields))).cached is not made.cached
    assert fields[0] == (b"server", b"app"), "the parser's own list"
    vary = head.plus(b"vary", b"a")
    assert head.plus(b"vary", b"a") is vary
    assert head.plus(b"vary", b"b").wire.endswith(b"vary: b\r\n")
    assert head.plus(b"vary", b"a").wire == vary.wire
