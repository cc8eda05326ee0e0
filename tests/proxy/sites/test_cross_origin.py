"""`cors`: what browsers are told, once, whatever the application says of it."""

from __future__ import annotations

import pytest

from proxy.config.schema.access import Cors
from proxy.config.syntax import cross_origin as words
from proxy.config.syntax.faults import Wrong
from proxy.protocol.exchange import Exchange
from proxy.protocol.message import Connection, Fields, Request, Response
from proxy.sites.cross_origin import CrossOrigin

PEER = Connection("192.0.2.9", 4711, "192.0.2.1", 443, b"https")
APP = b"https://app.test"
PREFLIGHT = {"access_control_request_method": b"PUT"}


def exchange(method: bytes = b"GET", **fields: bytes) -> Exchange:
    made = [(name.encode().replace(b"_", b"-"), value) for name, value in fields.items()]
    return Exchange(PEER, Request(method, b"/", b"1.1", b"h", b"h", made, PEER))


def answered(rules: Cors, asked: Exchange, fields: Fields | None = None) -> dict[bytes, bytes]:
    """The fields that a browser gets, preflight or not; none of them twice."""
    cors = CrossOrigin(rules)
    made = cors.request(asked) or Response(200, fields or [], b"x")
    made = cors.response(asked, made)
    assert len(dict(made.fields)) == len(made.fields)
    return dict(made.fields)


def allowed(rules: Cors, origin: bytes) -> bytes | None:
    return answered(rules, exchange(origin=origin)).get(b"access-control-allow-origin")


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        (APP, APP),
        (b"https://sub.wide.test", b"https://sub.wide.test"),
        (b"https://a.b.wide.test", b"https://a.b.wide.test"),
        (b"https://own.test:8443", b"https://own.test:8443"),
        (b"https://wide.test", None),
        (b"https://.wide.test", None),
        (b"https://evil.test/.wide.test", None),
        (b"https://evil.test#.wide.test", None),
        (b"https://u@x.wide.test", None),
        (b"http://sub.wide.test", None),
        (b"https://sub.wide.test:8443", None),
        (b"https://app.test.evil.test", None),
        (b"https://APP.test", None),  # browsers write small letters
        (b"https://app.test:443", None),
        (b"http://app.test", None),
        (b"https://app.test, https://evil.test", None),
        (b"null", None),
        (b"", None),
    ],
)
def test_an_origin_is_the_listed_one_to_the_letter(origin: bytes, said: bytes | None) -> None:
    origins = ("https://app.test", "https://*.wide.test", "https://own.test:8443")
    rules = Cors(origins=origins)
    assert allowed(rules, origin) == said
    preflight = answered(rules, exchange(b"OPTIONS", origin=origin, **PREFLIGHT))
    assert preflight.get(b"access-control-allow-origin") == said
    assert (b"access-control-allow-methods" in preflight) == (said is not None)


def test_two_origins_are_none() -> None:
    asked = exchange(origin=APP)
    assert asked.request is not None
    asked.request.fields.append((b"origin", b"https://evil.test"))
    fields = answered(Cors(origins=("https://app.test",)), asked)
    assert b"access-control-allow-origin" not in fields


@pytest.mark.parametrize("asked", [exchange(), exchange(origin=APP), exchange(origin=b"https://x")])
@pytest.mark.parametrize(
    ("vary", "kept"),
    [(None, b"origin"), (b"accept-encoding", None), (b"Accept, ORIGIN", b"Accept, ORIGIN"),
     (b"*", b"*")],
)  # fmt: skip
def test_caches_learn_that_the_origin_decides(
    asked: Exchange, vary: bytes | None, kept: bytes | None
) -> None:
    cors = CrossOrigin(Cors(origins=("https://app.test",)))
    made = cors.response(asked, Response(200, [(b"vary", vary)] if vary else [], b"x"))
    said = [value for name, value in made.fields if name == b"vary"]
    assert said == ([kept] if kept else [b"accept-encoding", b"origin"])


def test_everybody_is_the_same_answer_for_all() -> None:
    for asked in (exchange(), exchange(origin=APP)):
        fields = answered(Cors(origins=("*",)), asked)
        assert fields == {b"access-control-allow-origin": b"*"}


def test_the_applications_own_word_is_replaced() -> None:
    own = [
        (b"access-control-allow-origin", b"*"),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", b"x-all"),
    ]
    rules = Cors(origins=("https://app.test",), expose=("etag",))
    assert answered(rules, exchange(origin=APP), [*own]) == {
        b"access-control-allow-origin": APP,
        b"access-control-expose-headers": b"etag",
        b"vary": b"origin",
    }
    assert answered(rules, exchange(origin=b"https://evil.test"), [*own]) == {b"vary": b"origin"}


def test_a_preflight_learns_what_the_rules_allow() -> None:
    rules = Cors(
        origins=("https://app.test",), methods=("GET", "PUT"), headers=("content-type", "x-a"),
        credentials=True, max_age=60.0,
    )  # fmt: skip
    assert answered(rules, exchange(b"OPTIONS", origin=APP, **PREFLIGHT)) == {
        b"vary": b"origin, access-control-request-method, access-control-request-headers",
        b"access-control-allow-methods": b"GET, PUT",
        b"access-control-allow-headers": b"content-type, x-a",
        b"access-control-max-age": b"60",
        b"access-control-allow-origin": APP,
        b"access-control-allow-credentials": b"true",
    }


def test_all_methods_and_fields_are_named_where_credentials_make_an_asterisk_worthless() -> None:
    rules = Cors(origins=("https://app.test",), methods=("*",), headers=("*",), credentials=True)
    asked = exchange(
        b"OPTIONS", origin=APP, access_control_request_method=b"PURGE",
        access_control_request_headers=b"authorization,x-b",
    )  # fmt: skip
    fields = answered(rules, asked)
    assert fields[b"access-control-allow-methods"] == b"PURGE"
    assert fields[b"access-control-allow-headers"] == b"authorization,x-b"
    for wrong in (b"\x80", b"a\tb", b"x;y"):
        asked = exchange(
            b"OPTIONS", origin=APP, access_control_request_method=wrong,
            access_control_request_headers=wrong,
        )  # fmt: skip
        assert all(wrong not in value for value in answered(rules, asked).values())


@pytest.mark.parametrize(
    "asked",
    [
        exchange(b"OPTIONS"),
        exchange(b"OPTIONS", origin=APP),
        exchange(b"OPTIONS", **PREFLIGHT),
        exchange(b"GET", origin=APP, **PREFLIGHT),
    ],
)
def test_what_is_no_preflight_goes_on_to_the_login(asked: Exchange) -> None:
    assert CrossOrigin(Cors(origins=("*",))).request(asked) is None


def test_a_cached_answer_is_kept_for_each_listed_origin_and_for_no_other() -> None:
    cors = CrossOrigin(Cors(origins=("https://app.test", "https://*.wide.test")))
    shared = Response(200, [], b"x", shared=True)
    mine = cors.response(exchange(origin=APP), shared)
    assert cors.response(exchange(origin=APP), shared) is mine
    assert cors.response(exchange(), shared) is cors.response(exchange(), shared)
    assert dict(mine.fields)[b"access-control-allow-origin"] == APP
    assert shared.fields == []
    for number in range(100):
        cors.response(exchange(origin=b"https://n%d.wide.test" % number), shared)
        cors.response(exchange(origin=b"https://n%d.evil.test" % number), shared)
    assert shared.kept is not None
    assert len(shared.kept) == 2


@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("https://App.Example.org/", "https://app.example.org"),
        ("https://app.example.org:443", "https://app.example.org"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://*.Example.org", "https://*.example.org"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ("*", "*"),
        ("app.example.org", None),
        ("https://app.example.org/path", None),
        ("https://*", None),
        ("https://a.*.example.org", None),
        ("https://app.example.org:99999", None),
        ("https://b\u00fccher.example", None),
    ],
)
def test_origins_are_read_as_browsers_write_them(written: str, origin: str | None) -> None:
    if origin is None:
        with pytest.raises(Wrong):
            words.origin(written)
    else:
        assert words.origin(written) == origin
