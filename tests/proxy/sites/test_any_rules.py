"""Any rules on fields and any answer: one message comes out, with the framing of its own body, and the
fields that protect the site. The rules are those that `check` lets through, whatever they are."""

from __future__ import annotations

import asyncio
import string
import zlib
from typing import NoReturn

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config import model
from proxy.config.schema.access import Cors
from proxy.config.schema.rules import Compression, ResponseFieldRules, Rules
from proxy.config.syntax import field_rules
from proxy.config.syntax.faults import Wrong
from proxy.errors import Fault
from proxy.protocol.exchange import Exchange
from proxy.protocol.h1.fast_parser import FastParser
from proxy.protocol.message import Fields, Handler, Request, Response
from proxy.sites.chains import Chains
from support.h2_peer import headers
from support.http.conversation import Told, conversation
from support.http.h2_conversation import h2_conversation

BODY = b"the same line again and again\n" * 60
HSTS = b"max-age=5184000"
# Those that decide where a message ends, what it is, or who may see it; and harmless ones.
NAMES = [
    "Content-Length", "content_length", "Transfer-Encoding", "Connection", "Keep-Alive", "Upgrade",
    "Trailer", "TE", "Date", "Content-Encoding", "Content-Range", "Content-Type", "Vary", "ETag",
    "Set-Cookie", "Server", "Via", "Accept-Ranges", "Strict-Transport-Security", "Location",
    "Access-Control-Allow-Origin", "X-Content-Type-Options", "X-A", "X-B", "Retry-After",
]  # fmt: skip
PLACES = [
    "{host}",
    "{path}",
    "{query}",
    "{id}",
    "{scheme}",
    "{client}",
    "{none}",
    "{",
    "\r\n",
    "\0",
]
name = st.one_of(st.sampled_from(NAMES), st.text(string.printable, min_size=1, max_size=8))
value = st.one_of(
    st.lists(st.sampled_from([*PLACES, "a", "b: c", '"', "gzip", " "]), max_size=5).map("".join),
    st.text(max_size=10),
)


def taken(parse_name: object, given: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The pairs that the configuration takes."""
    assert callable(parse_name)
    found: dict[str, str] = {}
    for one, text in given:
        try:
            found[parse_name(one)] = field_rules.value(text)
        except Wrong:
            continue
    return tuple(found.items())


pairs = st.lists(st.tuples(name, value), max_size=4).map(
    lambda given: taken(field_rules.response_name, given)
)
rules = st.builds(
    ResponseFieldRules,
    set=pairs, add=pairs, default=pairs,
    remove=st.lists(name, max_size=3).map(
        lambda given: tuple(one for one, _ in taken(field_rules.response_name, [(n, "") for n in given]))
    ),
    security=st.sampled_from([None, "lax", "strict"]),
)  # fmt: skip
own_field = st.tuples(
    st.sampled_from(
        [b"content-type", b"vary", b"etag", b"x-a", b"server", b"set-cookie", b"cache-control",
         b"strict-transport-security", b"access-control-allow-origin", b"last-modified"]
    ),
    st.sampled_from([b"text/html", b"*", b'"1"', b"accept-encoding", b"no-transform", b"max-age=1"]),
)  # fmt: skip


class Pieces:
    """A body that comes in pieces, of unknown or of known length."""

    def __init__(self, body: bytes, length: int | None) -> None:
        self.trailers: Fields = []
        self.length = length
        self._pieces = [body[at : at + 500] for at in range(0, len(body), 500)]

    @property
    def at_end(self) -> bool:
        return not self._pieces

    def read_now(self, most: int = 65536) -> bytes | None:
        return self._pieces.pop(0) if self._pieces else b""

    async def read(self, most: int = 65536) -> bytes:
        return self.read_now(most) or b""

    def close(self, complete: bool) -> None:
        pass


def made(status: int, fields: Fields, kind: str) -> Response:
    body: bytes | Pieces = b""
    if status not in (204, 304):
        body = {"bytes": BODY, "chunks": Pieces(BODY, None), "stream": Pieces(BODY, len(BODY)),
                "nothing": b""}[kind]  # fmt: skip
    return Response(status, [*fields], body, shared=kind == "bytes")


def nobody(_rule: model.ForwardAuth) -> NoReturn:
    raise AssertionError


class Sites(Told):
    """A service whose answers pass a chain."""

    def through(self, headers: ResponseFieldRules, response: Response) -> None:
        chains = Chains(
            model.Tls(hsts=model.Hsts(max_age=5184000.0)), model.Limits(), lambda _site: nobody, nobody  # type: ignore[arg-type,return-value]
        )  # fmt: skip
        self._chain = chains.of(
            model.Site(("a.test",), ()),
            Rules(
                headers=headers, compress=Compression(), cors=Cors(origins=("https://app.test",))
            ),
        )
        self._response = response

    def handle(self, exchange: Exchange) -> Response:
        assert exchange.request is not None
        if exchange.request.path == b"/next":
            return Response(200, [], b"next")
        assert self._chain is not None
        answer = self._chain.handle(exchange, Nothing(), self._given, self._failed)
        assert isinstance(answer, Response)
        return answer

    def _given(self, _exchange: Exchange, _handler: Handler) -> Response:
        return self._response

    def _failed(self, exchange: Exchange, error: Exception) -> Response:
        assert isinstance(error, Fault), error
        raise error


class Nothing:
    def handle(self, request: Request) -> Response:
        raise NotImplementedError


methods = st.sampled_from([b"GET", b"HEAD"])
statuses = st.sampled_from([200, 204, 206, 301, 304, 404, 500])
kinds = st.sampled_from(["bytes", "chunks", "stream", "nothing"])
coding = st.sampled_from([b"gzip", b"identity"])
target = st.sampled_from([b"/", b"/a%0d%0aX:b?c", b"/{host}?{id}={", b"//x:y;z?%00"])


@settings(deadline=None, max_examples=150)
@given(
    rules, st.lists(own_field, max_size=4), methods, statuses, kinds, coding, target, st.booleans()
)
def test_one_message_comes_out_with_its_own_framing(
    headers: ResponseFieldRules, fields: Fields, method: bytes, status: int, kind: str,
    accepted: bytes, path: bytes, fast: bool,
) -> None:  # fmt: skip
    async def check() -> None:
        service = Sites(FastParser(model.Limits()) if fast else None)
        async with conversation(service, b"https") as client:
            for _ in range(2):  # the second time from what is kept
                service.through(headers, made(status, fields, kind))
                lines = b"Host: a.test\r\nOrigin: https://app.test\r\nAccept-Encoding: " + accepted
                await client.says(b"%b %b HTTP/1.1\r\n%b\r\n\r\n" % (method, path, lines))
                await client.says(b"GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n")
                heard = await client.hears(b"\r\n\r\nnext")
                judge(heard, method, status, kind, headers)

    asyncio.run(check())


def judge(heard: bytes, method: bytes, status: int, kind: str, headers: ResponseFieldRules) -> None:
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method=method, target="/", headers=[("Host", "a.test")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(heard)
    head = reader.next_event()
    assert isinstance(head, h11.Response)
    assert head.status_code == status
    body = b""
    while isinstance(event := reader.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    # What follows is the next answer, from its first byte on.
    assert reader.trailing_data[0].startswith(b"HTTP/1.1 200 OK\r\n")
    judge_fields(list(head.headers), headers)
    whole = BODY if method == b"GET" and status not in (204, 304) and kind != "nothing" else b""
    encoded = (b"content-encoding", b"gzip") in head.headers and body != b""
    assert (zlib.decompress(body, 31) if encoded else body) == whole


def judge_fields(fields: Fields, headers: ResponseFieldRules) -> None:
    said = [name for name, _ in fields]
    assert said.count(b"content-length") + said.count(b"transfer-encoding") <= 1
    for once in (b"date", b"content-encoding", b"content-range", b"connection", b"upgrade"):
        assert said.count(once) <= 1
    assert b"content_length" not in said or "content_length" in {
        one for one, _ in (*headers.set, *headers.add, *headers.default)
    }
    ruled = {one for one, _ in (*headers.set, *headers.add, *headers.default)} | {*headers.remove}
    if "strict-transport-security" not in ruled:
        assert [value for name, value in fields if name == b"strict-transport-security"] == [HSTS]
    if "access-control-allow-origin" not in ruled:
        assert said.count(b"access-control-allow-origin") == 1
    for name, value in headers.set:
        found = [one for one_name, one in fields if one_name == name.encode()]
        assert len(found) == 1 + sum(one == name for one, _ in headers.add)
        if "{" not in value:
            assert value.encode().strip() in found
    if headers.security is None:  # whose defaults come behind what is removed
        written = {one for one, _ in (*headers.set, *headers.add, *headers.default)}
        assert not {one.encode() for one in set(headers.remove) - written} & set(said)


@settings(deadline=None, max_examples=60)
@given(rules, st.lists(own_field, max_size=4), methods, statuses, kinds, coding, st.booleans())
def test_over_http2_too(
    rules: ResponseFieldRules, fields: Fields, method: bytes, status: int, kind: str,
    accepted: bytes, own_engine: bool,
) -> None:  # fmt: skip
    async def check() -> None:
        service = Sites(None)
        service.through(rules, made(status, fields, kind))
        async with h2_conversation(service, own_engine=own_engine) as client:
            asked: Fields = [
                (b":method", method), (b":scheme", b"https"), (b":authority", b"a.test"),
                (b":path", b"/"), (b"origin", b"https://app.test"), (b"accept-encoding", accepted),
            ]  # fmt: skip
            await client.says(headers(1, asked))
            await client.hears_end_of(1)
            assert client.reset_with(1) is None
            assert len(client.heads(1)) == 1
            assert client.status(1) == status
            found = client.heads(1)[0][1:]
            assert not {b"connection", b"transfer-encoding", b"keep-alive", b"upgrade"} & {
                name for name, _ in found
            }
            judge_fields(found, rules)
            body = client.body(1)
            lengths = [int(value) for name, value in found if name == b"content-length"]
            assert method == b"HEAD" or status == 304 or not lengths or lengths == [len(body)]
            whole = (
                BODY if method == b"GET" and status not in (204, 304) and kind != "nothing" else b""
            )
            encoded = (b"content-encoding", b"gzip") in found and body != b""
            assert (zlib.decompress(body, 31) if encoded else body) == whole

    asyncio.run(check())
