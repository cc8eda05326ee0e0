"""The C forms say what the Python forms say, or nothing; whatever they are given, memory is safe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import accelerated
from proxy.accelerated.build import build
from proxy.config.model import Limits
from proxy.protocol.exchange import Exchange
from proxy.protocol.h1.fast_parser import FastParser
from proxy.protocol.h1.head_cache import HeadTemplate
from proxy.protocol.message import Connection, Request, Response
from proxy.worker.access_lines import accelerated_text_line, text_line
from support.accelerated import bound, lane

REPOSITORY = Path(__file__).resolve().parents[3]
HEAD = (
    b"%b /a?q=%d HTTP/1.1\r\nHost: x.test\r\nAccept: */*\r\nCookie: n=%d\r\nDNT: 1\r\n"
    b"%bTE: trailers\r\n\r\n"
)
UNSET = object()


@pytest.fixture(autouse=True, scope="module")
def _there_is_a_lane() -> None:
    try:
        lane()
    except RuntimeError as error:
        pytest.skip(str(error))


def connection() -> Connection:
    return Connection("192.0.2.1", 1, "192.0.2.2", 2, tls_version="TLSv1.3")


def facts(made: object) -> dict[str, object]:
    return {name: getattr(made, name, UNSET) for name in type(made).__slots__}  # type: ignore[attr-defined]


# Heads


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"DELETE"])
@pytest.mark.parametrize("more", [b"", b"Content-Length: 10\r\n", b"Referer: https://x.test/ \r\n"])
def test_a_usual_head_is_parsed_in_c(method: bytes, more: bytes) -> None:
    limits = Limits()
    python, client = FastParser(limits), connection()
    for number in range(3):
        head = HEAD % (method, number, number, more)
        expected = python.parse(head, client)
        if number == 2:  # the second has made a template
            found = lane().plain_head(head, client, 100, 8000, 16000)
            assert found is not None
            assert expected is not None
            assert facts(found[0]) == facts(expected[0])
            assert found[1:] == expected[1:]
            assert found[0].uncached_fields is not found[0].fields


def test_bounds_are_those_of_the_configuration() -> None:
    client = connection()
    parser = bound(lane(), Limits())
    for number in range(3):
        head = HEAD % (b"GET", number, number, b"")
        parser.parse(head, client)
    target = len(b"/a?q=2")
    assert lane().plain_head(head, client, 5, target, len(head)) is not None
    assert lane().plain_head(head, client, 4, target, len(head)) is None
    assert lane().plain_head(head, client, 5, target - 1, len(head)) is None
    assert lane().plain_head(head, client, 5, target, len(head) - 1) is None


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_every_byte_of_a_head_may_be_another(data: st.DataObject) -> None:
    limits = Limits()
    python, client = FastParser(limits), connection()
    for number in range(3):
        head = HEAD % (b"POST", number, number, b"Content-Length: 3\r\n")
        python.parse(head, client)
    changed = bytearray(head)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        how = data.draw(st.sampled_from(["set", "cut", "put"]))
        if how == "set":
            changed[at] = data.draw(
                st.one_of(st.sampled_from(b"\r\n :\t?#\0\x7f\xff"), st.integers(0, 255))
            )
        elif how == "cut" and len(changed) > 1:
            del changed[at : at + data.draw(st.integers(1, 40))]
        else:
            changed[at:at] = data.draw(
                st.sampled_from([b"\r\n", b"\r", b": ", b"Cookie: a\r\n", b" "])
            )
        if not changed:
            return
    found = lane().plain_head(bytes(changed), client, 100, 8000, 16000)
    if found is not None:
        expected = python.parse(bytes(changed), client)
        assert expected is not None
        assert facts(found[0]) == facts(expected[0])
        assert found[1:] == expected[1:]


@pytest.mark.parametrize("size", [0, 1, 10, 60, -1, -2])
def test_a_head_that_ends_anywhere_is_declined(size: int) -> None:
    client = connection()
    parser = bound(lane(), Limits())
    for number in range(3):
        head = HEAD % (b"GET", number, number, b"")
        parser.parse(head, client)
    assert lane().plain_head(head[:size], client, 100, 8000, 16000) is None
    assert lane().plain_head(head + head[:size], client, 100, 8000, 16000) is None or size == 0


@pytest.mark.parametrize("name", HeadTemplate.__slots__)
@pytest.mark.parametrize("value", [None, 7, b"", "text", (), [1], UNSET])
def test_a_template_that_is_out_of_order_is_declined(name: str, value: object) -> None:
    client = connection()
    parser = bound(lane(), Limits())
    for number in range(3):
        head = HEAD % (b"GET", number, number, b"")
        parser.parse(head, client)
    (template,) = client.protocol_state
    copy = HeadTemplate((b"", b"", b""), ([], [], []), template.host)
    for slot in HeadTemplate.__slots__:
        setattr(copy, slot, getattr(template, slot))
    if value is UNSET:
        delattr(copy, name)
    else:
        setattr(copy, name, value)
    client.protocol_state = [copy]
    lane().plain_head(head, client, 100, 8000, 16000)  # and nothing is read that is not there
    client.protocol_state = [value, copy]
    assert lane().plain_head(head, client, 100, 8000, 16000) is None
    client.protocol_state = value
    assert lane().plain_head(head, client, 100, 8000, 16000) is None


# Exchanges


def test_an_exchange_is_like_pythons() -> None:
    client = connection()
    request = Request(b"GET", b"/", b"1.1", b"x", b"x", [], client)
    made, expected = lane().exchange(client, request, 1.5), Exchange(client, request, 1.5)
    assert type(made) is Exchange
    assert facts(made) == facts(expected)


# Lines of the access log

WORDS = st.one_of(st.none(), st.sampled_from(["", "static", "caf\xe9", "\u20ac"]))


@settings(max_examples=500, deadline=None)
@given(
    method=st.sampled_from([b"GET", b"P\xff", b""]),
    target=st.one_of(st.binary(max_size=40), st.text("/az?&=\"\\~ ", max_size=40).map(str.encode)),
    host=st.sampled_from([b"x.test", b"y.test", b""]),
    ident=st.one_of(st.just(b""), st.binary(max_size=12), st.just(b"abc 1")),
    status=st.sampled_from([200, 0, 999, -1, 2**70]),
    sent=st.one_of(st.integers(0, 2**64), st.just(True)),
    duration=st.one_of(st.floats(0, 0.2), st.sampled_from([float("nan"), float("inf"), -1.0, 0.09995])),
    words=st.tuples(WORDS, WORDS, WORDS, WORDS),
    own_id=st.sampled_from(["", "-", "5f-1a", "\u20ac"]),
    known=st.one_of(st.none(), st.just((b"x.test", "192.0.2.1 x.test", "TLSv1.3")), st.just(("x.test",))),
)  # fmt: skip
def test_a_line_is_pythons_or_none(
    method, target, host, ident, status, sent, duration, words, own_id, known
) -> None:
    client = connection()
    client.named_in_log = known
    exchange = Exchange(client, Request(method, target, b"1.1", host, host, [], client))
    exchange.request.id = ident  # type: ignore[union-attr] # it has just been made
    exchange.response = Response(status, [], b"", handler=words[0], error=words[1])
    exchange.response.backend = words[2]
    exchange.error, exchange.sent, exchange.duration = words[3], sent, duration
    line = lane().text_line("2026-11-24T20:00:00.123Z", exchange, own_id)
    if line is not None:
        assert line == text_line("2026-11-24T20:00:00.123Z", exchange, own_id)
        assert line.isascii()


def test_a_usual_line_is_made_in_c() -> None:
    client = connection()
    exchange = Exchange(client, Request(b"GET", b"/a?b", b"1.1", b"x.test", b"x.test", [], client))
    exchange.response = Response(200, [], b"", handler="static")
    exchange.duration = 0.01234
    first = accelerated_text_line(lane())(
        "now", exchange, "id-1"
    )  # Python's, which names the parties
    assert lane().text_line("now", exchange, "id-1") == first == text_line("now", exchange, "id-1")
    assert " 12.3ms static - id-1 TLSv1.3 -\n" in first


@pytest.mark.parametrize("name", Exchange.__slots__)
@pytest.mark.parametrize("value", [None, 7, b"", "text", (), UNSET])
def test_facts_that_are_missing_are_pythons_business(name: str, value: object) -> None:
    client = connection()
    client.named_in_log = (b"x", "a x", "-")
    exchange = Exchange(client, Request(b"GET", b"/", b"1.1", b"x", b"x", [], client))
    exchange.response = Response(200, [], b"")
    if value is UNSET:
        delattr(exchange, name)
    else:
        setattr(exchange, name, value)
    line = lane().text_line("now", exchange, "-")
    if line is not None:
        assert line == text_line("now", exchange, "-")


# Memory


def test_nothing_is_kept_and_nothing_is_lost() -> None:
    client = connection()
    parser = bound(lane(), Limits())
    for number in range(3):
        head = HEAD % (b"GET", number, number, b"")
        parser.parse(head, client)
    template = client.protocol_state[0]
    request = parser.parse(head, client)[0]  # type: ignore[index] # it was not declined
    done = lane().exchange(client, request, 0.5)
    done.response = Response(200, [], b"", handler="static")
    text_line("now", done)
    watched = [
        None, False, head, client, template, template.block, template.host, *template.host,
        *template.before_fields, request, request.target, done, done.response, "now", 0, b"",
    ]  # fmt: skip

    def all_of_it() -> None:
        for text in (head, head[:40], head + head, head.replace(b"Cookie", b"X-Y"), b""):
            lane().plain_head(text, client, 100, 8000, 16000)
        lane().plain_head(head, client, 1, 8000, 16000)
        lane().exchange(client, request, 0.5)
        assert lane().text_line("now", done, "-")
        lane().text_line("caf\xe9", done, "-")
        lane().text_line("now", client, "-")

    all_of_it()
    before = [sys.getrefcount(one) for one in watched]
    for _ in range(2000):
        all_of_it()
    after = [sys.getrefcount(one) for one in watched]
    # Whatever leaks once in a call would be 2000 now.
    assert [a - b for a, b in zip(after, before, strict=True) if abs(a - b) > 100] == []


@pytest.mark.parametrize(
    "name", ["plain_head", "exchange", "text_line", "bind_requests", "bind_exchanges"]
)
@pytest.mark.parametrize(
    "given", [(), (1,), (1, 2), (b"", None, None), (None,) * 4, (b"", 1, "", [], 2)]
)
def test_wrong_arguments_are_errors_or_declined(name: str, given: tuple[object, ...]) -> None:
    try:
        found = getattr(lane(), name)(*given)
    except (TypeError, AttributeError):
        return
    assert found is None or name == "exchange"


def test_a_class_without_the_slots_is_refused() -> None:
    class Other:
        __slots__ = ("response",)
        status = 7

    with pytest.raises(TypeError, match="status is no slot"):
        lane().bind_exchanges(Exchange(connection()), Other)
    with pytest.raises(AttributeError):
        lane().bind_exchanges(object(), Response)
    lane().bind_exchanges(Exchange(connection()), Response)


# Which form runs


def test_the_environment_asks_for_pure_python() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "--version"],
        cwd=REPOSITORY, env={**os.environ, "TREEHOUSE_PURE_PYTHON": "1"},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "treehouse-proxy, version 0.1.0 (pure Python)\n"


def test_a_lane_of_another_revision_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, accelerated.NAME, lane())  # type: ignore[arg-type] # a module
    assert accelerated.load() is lane()
    monkeypatch.setattr(accelerated, "REVISION", accelerated.REVISION + 1)
    assert accelerated.load() is None


def test_who_has_no_compiler_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "/nowhere/cc")
    with pytest.raises(RuntimeError, match="apt-get install gcc"):
        build(tmp_path)
    assert list(tmp_path.iterdir()) == []
