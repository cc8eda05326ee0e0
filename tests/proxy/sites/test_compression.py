"""Compressed bodies: what is fed comes out again, at once where the source has no more, and the
fields are those of the compressed representation."""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.schema.rules import Compression
from proxy.protocol.exchange import Exchange
from proxy.protocol.message import (
    Connection,
    Fields,
    FileBody,
    Login,
    Request,
    Response,
    StreamBody,
)
from proxy.sites import compression, encoders
from proxy.sites.compressed_bodies import TURN, CompressedBody
from proxy.sites.compression import Compress
from proxy.sites.encoders import encoder, load

load()
PEER = Connection("192.0.2.9", 4711, "192.0.2.1", 443, b"https")
TEXT = b"the same line again and again\n" * 100


def decoder(coding: bytes) -> Callable[[bytes], bytes]:
    """A decoder that gives what can be known from the bytes so far."""
    if coding == b"gzip":
        return zlib.decompressobj(31).decompress
    if coding == b"br":
        made: Callable[[bytes], bytes] = brotli.Decompressor().process
        return made
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd
    return zstd.ZstdDecompressor().decompress


class Source:
    """A `StreamBody` of these pieces; None: at this point there is nothing at hand."""

    def __init__(self, pieces: list[bytes | None]) -> None:
        self.trailers: Fields = []
        self.pieces = list(pieces)
        self.length = None
        self.closed: list[bool] = []

    @property
    def at_end(self) -> bool:
        return not self.pieces

    def read_now(self, most: int = 65536) -> bytes | None:
        return self.pieces.pop(0) if self.pieces else b""

    async def read(self, most: int = 65536) -> bytes:
        await asyncio.sleep(0)
        while (piece := self.read_now(most)) is None:
            pass
        return piece

    def close(self, complete: bool) -> None:
        self.closed.append(complete)


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"zstd"])
@given(pieces=st.lists(st.one_of(st.none(), st.binary(min_size=1, max_size=3000)), max_size=20))
def test_what_is_fed_comes_out_and_is_never_held_back(
    coding: bytes, pieces: list[bytes | None]
) -> None:
    async def check() -> None:
        source = Source(pieces)
        body = CompressedBody(source, encoder(coding))
        decode, found = decoder(coding), b""
        while True:
            piece = body.read_now()
            if piece is None:
                # Nothing is at hand: the receiver can read all that the source has given.
                given = pieces[: len(pieces) - len(source.pieces)]
                assert found == b"".join(one for one in given if one)
                piece = await body.read()
            if not piece:
                break
            found += decode(piece)
        assert found == b"".join(one for one in pieces if one)
        assert body.at_end

    asyncio.run(check())


def exchange(
    accept: bytes | None = b"gzip, br, zstd", method: bytes = b"GET", **more: bytes
) -> Exchange:
    fields = [(name.replace("_", "-").encode(), value) for name, value in more.items()]
    if accept is not None:
        fields.append((b"accept-encoding", accept))
    return Exchange(PEER, Request(method, b"/", b"1.1", b"h", b"h", fields, PEER))


def answer(body: bytes | StreamBody = TEXT, status: int = 200, **more: bytes) -> Response:
    fields = {
        "content-type": b"text/html; charset=utf-8",
        "etag": b'"1"',
        "accept-ranges": b"bytes",
    }
    fields |= {name.replace("_", "-"): value for name, value in more.items()}
    return Response(status, [(name.encode(), value) for name, value in fields.items()], body)


def test_the_fields_are_those_of_another_representation() -> None:
    made = Compress(Compression()).response(exchange(b"gzip"), answer(content_length=b"3000"))
    fields = dict(made.fields)
    assert fields[b"content-encoding"] == b"gzip"
    assert fields[b"etag"] == b'W/"1"'
    assert fields[b"vary"] == b"accept-encoding"
    assert b"content-length" not in fields
    assert b"accept-ranges" not in fields
    assert isinstance(made.body, bytes)
    assert decoder(b"gzip")(made.body) == TEXT


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        (b"gzip, deflate, br, zstd", b"br"),
        (b"gzip;q=1, br;q=0.5", b"gzip"),
        (b"zstd", b"zstd"),
        (b"GZIP", b"gzip"),
        (b"*", b"br"),
        (b"identity", None),
        (b"gzip;q=0", None),
        (b"deflate", None),
        (None, None),
    ],
)
def test_the_client_chooses(accept: bytes | None, coding: bytes | None) -> None:
    made = Compress(Compression()).response(exchange(accept), answer())
    assert dict(made.fields).get(b"content-encoding") == coding
    assert dict(made.fields)[b"vary"] == b"accept-encoding"  # for caches, in either case


@pytest.mark.parametrize(
    ("response", "asked"),
    [
        (answer(content_type=b"image/png"), {}),
        (answer(b"short"), {}),
        (answer(content_encoding=b"br"), {}),
        (answer(status=206, content_range=b"bytes 0-9/10"), {}),
        (answer(cache_control=b"no-transform, max-age=5"), {}),
        (answer(status=204), {}),
        (answer(set_cookie=b"session=1"), {}),
        (answer(), {"authorization": b"Basic eDp5"}),
    ],
    ids=["image", "short", "encoded", "part", "no-transform", "204", "cookie", "authorization"],
)
def test_what_is_left_alone(response: Response, asked: dict[str, bytes]) -> None:
    made = Compress(Compression("auto")).response(exchange(b"gzip", **asked), response)
    assert dict(made.fields).get(b"content-encoding") in (None, b"br")
    assert made.body == response.body


@pytest.mark.parametrize(
    ("asked", "compressed"),
    [
        ({}, True),  # nobody's session
        ({"cookie": b"session=1"}, False),
        ({"cookie": b"session=1", "sec_fetch_site": b"cross-site"}, False),
        ({"cookie": b"session=1", "sec_fetch_site": b"something-new"}, False),
        ({"cookie": b"session=1", "sec_fetch_site": b"same-origin"}, True),
        ({"cookie": b"session=1", "sec_fetch_site": b"same-site"}, True),
        ({"cookie": b"session=1", "sec_fetch_site": b"none"}, True),
        ({"cookie": b"session=1", "referer": b"https://h/page"}, True),
        ({"cookie": b"session=1", "referer": b"https://h.evil.test/"}, False),
        ({"cookie": b"session=1", "referer": b"http://h/"}, False),
        ({"cookie": b"session=1", "referer": b"https://evil.test/?https://h/"}, False),
        # What the browser knows better than the page's own word.
        (
            {"cookie": b"s=1", "sec_fetch_site": b"cross-site", "referer": b"https://h/"},
            False,
        ),
        ({"sec_fetch_site": b"cross-site"}, True),
        ({"authorization": b"Basic eDp5", "sec_fetch_site": b"same-origin"}, False),
    ],
)
def test_a_session_is_answered_compressed_where_no_other_site_can_be_behind_it(
    asked: dict[str, bytes], compressed: bool
) -> None:
    asked = {name.replace("_", "-"): value for name, value in asked.items()}
    made = Compress(Compression("auto")).response(exchange(b"gzip", **asked), answer())
    assert (dict(made.fields).get(b"content-encoding") == b"gzip") == compressed
    assert dict(made.fields)[b"vary"] == b"accept-encoding"
    always = Compress(Compression("true")).response(exchange(b"gzip", **asked), answer())
    assert dict(always.fields)[b"content-encoding"] == b"gzip"


@pytest.mark.parametrize("password", [False, True])
@pytest.mark.parametrize("certificate", [b"", b"client-cert: :MII=:\r\n"])
def test_other_credentials_that_a_browser_sends_by_itself_are_a_session_too(
    password: bool, certificate: bytes
) -> None:
    asked = exchange(b"gzip")
    assert asked.request is not None
    asked.request.connection = replace(PEER, client_certificate=certificate)
    asked.request.login = Login(b"alice", [], password) if password or not certificate else None
    made = Compress(Compression("auto")).response(asked, answer())
    assert b"content-encoding" not in dict(made.fields)


def test_a_file_repeats_nothing_of_a_request_and_is_compressed_for_a_session() -> None:
    file = answer()
    file.handler = "static"
    for shared in (False, True):
        file.shared = shared
        for _ in range(2):
            made = Compress(Compression("auto")).response(exchange(b"gzip", cookie=b"a=b"), file)
            assert dict(made.fields)[b"content-encoding"] == b"gzip"
            file = answer()
            file.handler, file.shared = "static", shared


def test_beside_a_secret_only_if_that_is_asked_for() -> None:
    made = Compress(Compression("true")).response(exchange(b"gzip"), answer(set_cookie=b"a=b"))
    assert dict(made.fields)[b"content-encoding"] == b"gzip"


def test_a_head_says_what_a_get_would() -> None:
    compress = Compress(Compression())
    got = compress.response(exchange(b"gzip"), answer(content_length=b"3000"))
    for body, fields in (
        (b"", {"content_length": b"3000"}),
        (b"", {}),  # a backend that says no length: it would have sent chunks
        (Source([]), {}),
    ):
        head = compress.response(exchange(b"gzip", b"HEAD"), answer(body, **fields))
        assert head.fields == got.fields
        assert not isinstance(head.body, bytes), "no Content-Length of 0"
        assert head.body.length is None
        head.discard()
        if isinstance(body, Source):
            assert body.closed == [False]
    short = compress.response(exchange(b"gzip", b"HEAD"), answer(b"", content_length=b"30"))
    assert b"content-encoding" not in dict(short.fields)


def test_a_shared_response_is_compressed_once() -> None:
    compress = Compress(Compression())
    shared = answer()
    shared.shared = True
    first = compress.response(exchange(b"gzip"), shared)
    assert compress.response(exchange(b"gzip"), shared) is first
    assert compress.response(exchange(b"br"), shared) is not first
    assert dict(shared.fields).get(b"content-encoding") is None
    plain = compress.response(exchange(None), shared)
    assert plain.body == TEXT
    assert dict(plain.fields)[b"vary"] == b"accept-encoding"
    never = answer(content_type=b"image/png")
    never.shared = True
    assert compress.response(exchange(b"gzip"), never) is never
    assert compress.response(exchange(b"gzip"), never) is never


@pytest.mark.parametrize("shared", [False, True])
async def test_a_large_body_is_compressed_in_turns_with_others(
    shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter may give a body of 64 MiB; whoever else is connected waits for some milliseconds."""
    body, fed, most = TEXT * 1300, 0, 0

    class Counting:
        def __init__(self, made: encoders.Encoder) -> None:
            self._made = made
            self.flush, self.finish = made.flush, made.finish

        def feed(self, data: bytes) -> bytes:
            nonlocal fed
            fed += len(data)
            return self._made.feed(data)

    async def others() -> None:
        nonlocal fed, most
        while True:
            most, fed = max(most, fed), 0
            await asyncio.sleep(0)

    monkeypatch.setattr(
        compression, "encoder", lambda coding, level: Counting(encoder(coding, level))
    )
    compress = Compress(Compression())
    response = answer(body)
    response.shared = shared
    talk = asyncio.create_task(others())
    await asyncio.sleep(0)
    made = compress.response(exchange(b"gzip"), response)
    assert isinstance(made.body, CompressedBody)
    assert b"content-length" not in dict(made.fields)
    found = b""
    while True:
        piece = made.body.read_now()
        if piece is None:
            piece = await made.body.read()
        if not piece:
            break
        found += piece
    made.body.close(True)
    talk.cancel()
    assert decoder(b"gzip")(found) == body
    assert len(body) > 10 * TURN
    assert 0 < most <= TURN + 64 * 1024
    again = compress.response(exchange(b"gzip"), response)
    assert (again.body == found) is shared  # kept only where others get it as well
    head = compress.response(exchange(b"gzip", method=b"HEAD"), answer(body))
    assert dict(head.fields)[b"content-encoding"] == b"gzip"
    assert not isinstance(head.body, bytes)


def test_a_304_has_the_entity_tag_that_the_client_knows() -> None:
    made = Compress(Compression()).response(
        exchange(b"gzip", if_none_match=b'W/"1"'), answer(b"", 304)
    )
    assert dict(made.fields)[b"etag"] == b'W/"1"'


async def test_a_large_file_is_kept_compressed_and_a_newer_version_is_compressed_anew(
    tmp_path: Path,
) -> None:
    path = tmp_path / "big.txt"
    path.write_bytes(TEXT * 100)
    compress = Compress(Compression())
    released = []

    async def get() -> bytes:
        fd = os.open(path, os.O_RDONLY)

        def release() -> None:
            released.append(fd)
            os.close(fd)

        body = FileBody(fd, 0, path.stat().st_size, release)
        made = compress.response(exchange(b"gzip"), answer(body))  # type: ignore[arg-type]
        if isinstance(made.body, bytes):
            return made.body
        whole = b""
        assert isinstance(made.body, CompressedBody)
        while piece := await made.body.read():
            whole += piece
        made.body.close(True)
        return whole

    first = await get()
    assert decoder(b"gzip")(first) == TEXT * 100
    assert await get() == first
    assert len(released) == 2
    path.write_bytes(b"new " * 30000)
    assert decoder(b"gzip")(await get()) == b"new " * 30000


def streamed(compress: Compress, coding: bytes = b"br") -> Response:
    """The answer to a client that reads nothing of it."""
    request = Request(b"GET", b"/", b"1.1", b"h", b"h", [(b"accept-encoding", coding)], PEER)
    response = Response(200, [(b"content-type", b"text/plain")], Source([TEXT * 20, None, TEXT]))
    made = compress.response(Exchange(PEER, request), response)
    assert isinstance(made, Response)
    if isinstance(made.body, CompressedBody):
        made.body.read_now()
    return made


@pytest.mark.parametrize("coding", [b"br", b"zstd"])
def test_slow_readers_of_many_streams_cannot_fill_the_memory(coding: bytes) -> None:
    compress = Compress(Compression(mode="true", level="best"))
    held = encoders._Account.held
    many = [streamed(compress, coding) for _ in range(300)]
    assert encoders._Account.held <= encoders._MOST
    plain = [one for one in many if isinstance(one.body, Source)]
    assert plain  # they get what they asked for, uncompressed
    assert all((b"vary", b"accept-encoding") in one.fields for one in plain)
    assert not [one for one in plain if b"content-encoding" in dict(one.fields)]
    for one in many:
        one.discard()
    assert encoders._Account.held == held
    again = streamed(compress, coding)
    assert isinstance(again.body, CompressedBody)
    while again.body.read_now():
        pass
    assert encoders._Account.held == held  # at the end, though the client has not taken everything


@pytest.mark.parametrize(
    "values", [[b"No-Transform"], [b"no-transform", b"max-age=60"], [b"max-age=60,no-TRANSFORM"]]
)
def test_no_transform_is_obeyed_however_it_is_spelt(values: list[bytes]) -> None:
    request = Request(b"GET", b"/", b"1.1", b"h", b"h", [(b"accept-encoding", b"br")], PEER)
    fields = [(b"content-type", b"text/plain"), *((b"cache-control", one) for one in values)]
    made = Compress(Compression(mode="true")).response(
        Exchange(PEER, request), Response(200, fields, TEXT)
    )
    assert isinstance(made, Response)
    assert made.body == TEXT
