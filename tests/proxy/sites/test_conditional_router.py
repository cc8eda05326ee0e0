"""Routes that ask for more than a path: which is taken, and that no spelling of a path changes it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config.schema.matching import Match, parse_test
from proxy.config.syntax.faults import Wrong
from proxy.errors import Fault
from proxy.protocol.exchange import Exchange
from proxy.protocol.message import Connection, Request, Response
from proxy.sites.conditional_router import ConditionalRouter, router_of
from proxy.sites.conditions import Condition
from proxy.sites.filters import Chain
from proxy.sites.router import Route, Router

PEER = Connection("192.0.2.9", 4711, "192.0.2.1", 443, b"https")


class Named:
    def __init__(self, name: str) -> None:
        self.name = name

    def handle(self, _request: Request) -> Response:
        raise NotImplementedError


class Guard:
    def request(self, _exchange: Exchange) -> None:
        raise NotImplementedError


def request(target: bytes, method: bytes = b"GET", **fields: str) -> Request:
    spelt = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    return Request(method, target, b"1.1", b"a", b"a", spelt, PEER)


def found(router: ConditionalRouter, asked: Request) -> str:
    """The name of the handler, or the status and Allow of the refusal."""
    handler = router.find(asked).handler
    if isinstance(handler, Named):
        return handler.name
    with pytest.raises(Fault) as caught:
        handler.handle(asked)
    fault = caught.value
    return " ".join([str(fault.what.status), *(value.decode() for _, value in fault.fields)])


def route(path: str, name: str, condition: Condition | None = None, **more: object) -> Route:
    return Route(path, Named(name), condition=condition, **more)  # type: ignore[arg-type]


ROUTES = ConditionalRouter(
    [
        route("/a/*", "post", Condition(("POST",))),
        route("/a/*", "two", Condition((), Match(header=(("x-version", "re:^2"),)))),
        route("/a/*", "beta", Condition(("GET",), Match(query=(("beta", "1"),)))),
        route("/a/b", "exact", Condition(("PUT",))),
        route("/a/*", "first"),
        route("/a/*", "never"),
        route("/only/*", "get", Condition(("GET",))),
        route("/only/*", "delete", Condition(("DELETE",))),
        route("/only/deep/*", "patch", Condition(("PATCH",))),
        route("/only/matched/*", "x", Condition(("PUT",), Match(header=(("x", "*"),)))),
        route("/near/*", "near", Condition((), None, ("192.0.2.0/24",))),
        route("/far/*", "far", Condition((), None, ("198.51.100.0/24",))),
    ]
)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (request(b"/a/x"), "first"),
        (request(b"/a/x", b"POST"), "post"),
        (request(b"/a/x", x_version="2.0"), "two"),
        (request(b"/a/x", b"POST", x_version="2.0"), "post"),
        (request(b"/a/x?beta=1"), "beta"),
        (request(b"/a/x?beta=1", b"HEAD"), "beta"),
        (request(b"/a/x?beta=1", b"DELETE"), "first"),
        (request(b"/a/b"), "first"),
        (request(b"/a/b", b"PUT"), "exact"),
        (request(b"/only/x"), "get"),
        (request(b"/only/x", b"HEAD"), "get"),
        (request(b"/only/x", b"PUT"), "405 GET, HEAD, DELETE"),
        (request(b"/only/deep/x"), "get"),
        (request(b"/only/deep/x", b"POST"), "405 GET, HEAD, DELETE, PATCH"),
        (request(b"/only/matched/x", b"PUT"), "405 GET, HEAD, DELETE"),
        (request(b"/only/matched/x", b"PUT", x="y"), "x"),
        (request(b"/near/x"), "near"),
        (request(b"/far/x"), "404"),
        (request(b"/nowhere", b"PUT"), "404"),
        (request(b"/only%2fx"), "400"),
        (request(b"/only/../x"), "400"),
        (request(b"/%6fnly//x"), "get"),
    ],
)
def test_the_most_specific_route_that_takes_the_request_counts(asked: Request, name: str) -> None:
    for _ in range(2):
        assert found(ROUTES, asked) == name


def test_a_site_without_conditions_has_a_plain_router() -> None:
    assert type(router_of([route("/*", "x")])) is Router
    assert type(router_of([route("/*", "x", Condition(("GET",)))])) is ConditionalRouter


def test_a_refused_method_meets_the_filters_of_the_route() -> None:
    chain, outer = Chain([Guard()]), Chain([Guard()])
    router = router_of([route("/x", "x", Condition(("PUT",)), chain=chain)], outer)
    assert router.find(request(b"/x")).chain is chain
    assert router.find(request(b"/y")).chain is outer


@given(
    path=st.lists(
        st.sampled_from([b"/", b"admin", b"x", b"%2f", b"..", b"%2e", b";", b"\\", b"//", b"%61dmin"]),
        max_size=8,
    ).map(lambda pieces: b"/" + b"".join(pieces)),
    method=st.sampled_from([b"GET", b"POST", b"PUT"]),
    version=st.sampled_from(["1", "2"]),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_a_conditional_site_decides_as_the_site_of_the_routes_that_are_left(
    path: bytes, method: bytes, version: str
) -> None:
    guarded = Chain([Guard()])
    get, two = Condition(("GET",)), Condition((), Match(header=(("x-version", "2"),)))
    routes = [
        Route("/admin/*", Named("a"), guarded, passes_on=True, condition=get),
        Route("/admin/*", Named("b"), guarded, passes_on=True, condition=two),
        Route("/x/*", Named("c"), passes_on=True, condition=two),
        Route("/*", Named("d"), passes_on=True),
    ]
    asked = request(path, method, x_version=version)
    left = [
        one
        for one in routes
        if one.condition is None
        or (one.condition.matches(asked) and one.condition.takes_method(asked))
    ]
    plain = Router(left).find(request(path, method))
    conditional = ConditionalRouter(routes).find(asked)
    assert (conditional.handler is plain.handler) or conditional.path == plain.path == ""


# Values


@pytest.mark.parametrize(
    ("fields", "query", "asked", "fits"),
    [
        ((("x", "a"),), (), request(b"/", x="a"), True),
        ((("x", "a"),), (), request(b"/", x="A"), False),
        ((("x", "*"),), (), request(b"/"), False),
        ((("x", "*"),), (), request(b"/", x=""), True),
        ((("x", "re:b+"),), (), request(b"/", x="abbc"), True),
        ((("x", "re:^b+$"),), (), request(b"/", x="abbc"), False),
        ((("x", "re:b"),), (), request(b"/", x="b" * 5000), False),
        ((), (("a", "b c"),), request(b"/?a=b+c"), True),
        ((), (("a", "b"),), request(b"/?a=c&a=b"), True),
        ((), (("a", ""),), request(b"/?a"), True),
        ((), (("a", "*"),), request(b"/?b=a"), False),
        ((), (("ä", "ö"),), request(b"/?%c3%a4=%c3%b6"), True),
        ((), (("a", "b"),), request(b"/?a=b;c"), False),
    ],
)
def test_a_value_is_a_word_or_anything_or_an_expression(
    fields: tuple[tuple[str, str], ...],
    query: tuple[tuple[str, str], ...],
    asked: Request,
    fits: bool,
) -> None:
    assert Condition((), Match(header=fields, query=query)).matches(asked) is fits


def test_several_lines_of_a_field_are_several_values() -> None:
    asked = Request(b"GET", b"/", b"1.1", b"a", b"a", [(b"x", b"a"), (b"x", b"b")], PEER)
    assert Condition((), Match(header=(("x", "b"),))).matches(asked)


@pytest.mark.parametrize("text", ["re:(", r"re:(a)\1+", "re:a(?=b)", "re:(a{60}){60}"])
def test_an_expression_that_has_no_bound_is_refused(text: str) -> None:
    with pytest.raises(Wrong):
        parse_test(text)


@pytest.mark.parametrize(
    "text", ["re:^v[12]$", "re:(?i)mobile|android", "re:a{1,3}b*", "re:(a|aa)+$", "x", "*"]
)
def test_an_expression_that_ends_is_taken_and_does_not_take_long(text: str) -> None:
    assert parse_test(text) == text
    condition = Condition((), Match(header=(("x", text),)))
    began = time.process_time()
    for value in ("a" * 4096, "ab" * 2048, "\t" * 4096):
        condition.matches(request(b"/", x=value))
    assert time.process_time() - began < 1


def test_what_is_no_whole_preflight_needs_a_method_that_is_taken() -> None:
    """Nothing but a preflight is answered before the handler."""
    posts = Condition(("POST",), answers_preflights=True)
    assert posts.takes_method(
        request(b"/", b"OPTIONS", origin="https://b", access_control_request_method="POST")
    )
    for fields in (
        {},
        {"origin": "https://b"},
        {"access_control_request_method": "POST"},
        {"origin": "https://b", "access_control_request_method": "PUT"},
    ):
        assert not posts.takes_method(request(b"/", b"OPTIONS", **fields))
