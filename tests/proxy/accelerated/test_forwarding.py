"""The head for a backend that the lane makes is Python's, or none; and it is made where it is usual."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config.schema.rules import RequestFieldRules
from proxy.errors import Fault
from proxy.handlers.upstream import request_head
from proxy.handlers.upstream.request_head import (
    PSEUDONYM,
    AcceleratedForwarder,
    Forwarder,
    new_forwarder,
)
from proxy.protocol.message import Connection, FieldBlock, Fields, Login, Request
from proxy.protocol.rewritten import Rewritten
from support.accelerated import lane, leaked

HOST = (b"host", b"x.test")
BLOCK = FieldBlock([HOST, (b"accept", b"*/*"), (b"te", b"trailers"), (b"connection", b"close")])
BLOCKS = [None, BLOCK, FieldBlock([])]
UNSET = object()
TOLD = frozenset({b"remote-user", b"authorization"})
RULES = [
    RequestFieldRules(),
    RequestFieldRules(set=(("cookie", "none"), ("x-client", "{client}")), add=(("x-a", "b"),)),
    RequestFieldRules(set=(("x-path", "{path}"), ("remote-user", "bob"))),
]
FIELDS = [
    HOST,
    *((name, value) for name in request_head._VARYING for value in (b"", b"a=1, b")),
    *((b"connection", value) for value in (b"close", b"keep-alive", b"TE", b"cookie, close")),
    *((b"te", value) for value in (b"trailers", b"gzip", b"gzip, trailers")),
    *((b"x-request-id", value) for value in (b"abc", b"", b"no id", b"x" * 129)),
    *((b"cdn-loop", value) for value in (b"other", PSEUDONYM, b"a, " + PSEUDONYM)),
    (b"via", b"1.1 other"),
    (b"user-agent", b"browser"),
    (b"accept", b"*/*"),
    (b"x-forwarded-for", b"6.6.6.6"),
    (b"x_forwarded_for", b"6.6.6.6"),
    (b"forwarded", b"for=6.6.6.6"),
    (b"remote-user", b"root"),
    (b"remote_user", b"root"),
    (b"x-own", b"1"),
    (b"traceparent", b"00-1"),
    (b"upgrade", b"websocket"),
    (b"expect", b"100-continue"),
    (b"transfer-encoding", b"chunked"),
    (b"proxy-authorization", b"secret"),
    (b"accept-language", b"x" * 300),
]


def client(**more: Any) -> Connection:
    return Connection("192.0.2.1", 1, "192.0.2.2", 443, b"https", **more)


def asked(
    by: Connection, uncached: Fields, block: FieldBlock | None = None, target: bytes = b"/a?q"
) -> Request:
    fields = [*(block.fields if block is not None else ()), *uncached]
    request = Request(b"GET", target, b"1.1", b"x.test:1", b"x.test", fields, by)
    request.uncached_fields, request.cached_fields = uncached, block
    return request


def told(forwarder: Forwarder, request: Request, *more: Any) -> tuple[bytes, bytes]:
    """Return the head, or the fault, and the id that the request has then."""
    try:
        head = forwarder.head(request, *more)
    except Fault as fault:
        head = fault.kind.encode()
    prefix = forwarder._prefix  # is random
    return head.replace(prefix, b"prefix"), request.id.replace(prefix, b"prefix")


def pair(rules: RequestFieldRules = RULES[0], told: frozenset[bytes] = TOLD) -> tuple[Any, Any]:
    return Forwarder((), rules=rules, told=told), AcceleratedForwarder(lane(), rules, told)


@settings(max_examples=300, deadline=None)
@given(
    asks=st.lists(
        st.tuples(
            st.lists(st.sampled_from(FIELDS), max_size=5),
            st.sampled_from(BLOCKS),
            st.sampled_from([b"/", b"/a?q", b"*"]),
            st.sampled_from([b"", b"given"]),
        ),
        min_size=1,
        max_size=4,
    ),
    rules=st.sampled_from(RULES),
    host=st.sampled_from([None, b"inner:1"]),
    prefix=st.sampled_from([b"", b"/app"]),
    framing=st.sampled_from([b"", b"content-length: 3\r\n"]),
    certificate=st.sampled_from([b"", b"client-cert: :eA==:\r\n"]),
    login=st.sampled_from([None, Login(b"alice", [(b"remote-user", b"alice")])]),
    stripped=st.sampled_from([None, b"", b"/b"]),
)
def test_a_head_is_pythons_whatever_is_asked(
    asks: list[tuple[Fields, FieldBlock | None, bytes, bytes]],
    rules: RequestFieldRules,
    host: bytes | None,
    prefix: bytes,
    framing: bytes,
    certificate: bytes,
    login: Login | None,
    stripped: bytes | None,
) -> None:
    forwarders = pair(rules)
    clients = [client(client_certificate=certificate) for _ in forwarders]
    for _ in range(2):  # the second time, lines are known
        for fields, block, target, given_id in asks:
            said = []
            for forwarder, by in zip(forwarders, clients, strict=True):
                request = asked(by, fields, block, target)
                request.id, request.login = given_id, login
                if stripped is not None:
                    request = Rewritten(request, target, stripped)
                said.append(told(forwarder, request, host, framing, prefix))
            assert said[0] == said[1]


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(
    "fields", [[], [(b"cookie", b"a=b"), (b"content-length", b"3")], [HOST, (b"accept", b"*/*")]]
)
def test_a_usual_head_is_made_in_c(
    fields: Fields, block: FieldBlock | None, rules: RequestFieldRules
) -> None:
    python, accelerated = pair(rules)
    first, second = client(), client()
    for _ in range(2):
        expected = told(python, asked(first, fields, block), None, b"", b"/app")
        found = told(accelerated, asked(second, fields, block), None, b"", b"/app")
        assert found == expected
    own = accelerated._own_fields
    request = asked(second, fields, block)
    lines = b"" if own is None else own.lines(request)
    usual = accelerated._usual_head(request, None, b"", b"/app", lines)
    expected, _ = told(python, asked(first, fields, block), None, b"", b"/app")
    assert usual is not None
    assert usual.replace(accelerated._prefix, b"prefix") == expected


def test_ids_are_numbered_in_one_row() -> None:
    accelerated = pair()[1]
    by = client()
    ids = []
    for fields in ([], [], [(b"x-own", b"1")], []):  # the first and the third are made in Python
        request = asked(by, fields)
        accelerated.head(request, None, b"")
        ids.append(int(request.id.rpartition(b"-")[2], 16))
    assert ids == [1, 2, 3, 4]


def usual(accelerated: Any) -> Request:
    """A request that C answers."""
    by = client()
    accelerated.head(asked(by, [], BLOCK), None, b"")
    return asked(by, [(b"cookie", b"a=b")], BLOCK)


@pytest.mark.parametrize("value", [None, 7, b"", "text", (), [1], [()], [(b"a",)], [(1, 2)], UNSET])
@pytest.mark.parametrize("name", [name for name in Request.__slots__ if name != "trace"])
def test_a_request_that_is_out_of_order_is_declined(name: str, value: object) -> None:
    accelerated = pair()[1]
    request = usual(accelerated)
    if value is not UNSET:
        setattr(request, name, value)
    elif hasattr(request, name):
        delattr(request, name)
    made = accelerated._usual_head(request, None, b"", b"", b"")
    assert made is None or made.startswith((b"GET ", b" "))
    assert accelerated._usual_head(value, None, b"", b"", b"") is None


@pytest.mark.parametrize(
    "value", [7, b"", (), (b"x.test:1",), (b"x.test:1", None), (b"x.test:2", b""), (1, 2), UNSET]
)
def test_what_is_told_of_the_client_is_there_or_pythons_business(value: object) -> None:
    accelerated = pair()[1]
    request = usual(accelerated)
    if value is UNSET:
        del request.connection.told
    else:
        request.connection.told = value  # type: ignore[assignment] # the point
    assert accelerated._usual_head(request, None, b"", b"", b"") is None


@pytest.mark.parametrize("place", range(1, 5))
@pytest.mark.parametrize("value", [7, "text", [], None])
def test_what_is_no_bytes_is_declined(place: int, value: object) -> None:
    accelerated = pair()[1]
    given_: list[object] = [usual(accelerated), None, b"", b"", b""]
    given_[place] = value
    assert (accelerated._usual_head(*given_) is None) == (place != 1 or value is not None)


def test_more_fields_than_there_is_room_for_are_pythons_business() -> None:
    accelerated = pair()[1]
    for number, good in ((48, True), (49, False)):
        request = usual(accelerated)
        request.uncached_fields = [(b"cookie", b"a")] * number
        assert (accelerated._usual_head(request, None, b"", b"", b"") is not None) == good


def test_numbers_that_are_none_are_declined() -> None:
    for wrong in (count(-1), count(2**63), count(1.5)):  # type: ignore[var-annotated] # the point
        made = lane().forwarder({}, {}, {}, FieldBlock, b"", b"p", wrong)
        assert made.head(usual(pair()[1]), None, b"", b"", b"") is None
    for arguments in ((), ({}, {}, {}, FieldBlock, b"", b"", iter(())), (1, 2, 3, 4, 5, 6, 7)):
        with pytest.raises(TypeError):
            lane().forwarder(*arguments)


def test_nothing_is_kept_and_nothing_is_lost() -> None:
    accelerated = pair()[1]
    request = usual(accelerated)
    strange = asked(request.connection, [(b"x-own", b"1")], BLOCK)
    watched = [
        None, request, strange, request.connection, *request.connection.told, BLOCK, b"", HOST,
        request.target, request.uncached_fields, *request.uncached_fields, accelerated._serial,
        accelerated._known, accelerated._blocks, FieldBlock, accelerated._prefix,
    ]  # fmt: skip

    def all_of_it() -> None:
        request.id = b""
        assert accelerated._usual_head(request, None, b"", b"", b"")
        assert accelerated._usual_head(strange, None, b"", b"", b"") is None
        lane().forwarder({}, {}, {}, FieldBlock, b"", b"", count())

    assert leaked(watched, all_of_it, 1000) == []


@pytest.mark.parametrize(
    ("trusted", "via", "rules", "usual_one"),
    [
        ((), False, RULES[1], True),
        (("192.0.2.0/24",), False, RULES[0], False),
        ((), True, RULES[0], False),
        ((), False, RequestFieldRules(remove=("x-forwarded-for",)), False),
    ],
)
def test_heads_are_made_in_c_where_nothing_more_has_to_be_looked_at(
    trusted: tuple[str, ...],
    via: bool,
    rules: RequestFieldRules,
    usual_one: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_head, "lane", lane())
    made = new_forwarder(trusted, via, rules, frozenset(), traces=False)
    assert (type(made) is AcceleratedForwarder) == usual_one
    monkeypatch.setattr(request_head, "lane", None)
    assert type(new_forwarder(trusted, via, rules, frozenset(), traces=False)) is Forwarder
