"""What a site demands of its clients before any handler is asked."""

from __future__ import annotations

from typing import NoReturn

import pytest

from proxy.config import model
from proxy.config.schema.rules import Compression, Rules
from proxy.config.schema.rules import RateLimit as Limit
from proxy.errors import Fault
from proxy.ipc.rate_buckets import Buckets, RateLimits
from proxy.protocol.client_address import TrustedProxies
from proxy.protocol.exchange import Exchange
from proxy.protocol.message import Connection, Fields, Request, Response
from proxy.sites.chains import Chains
from proxy.sites.router import Route, Router
from proxy.sites.site import SiteTable

ONCE = (model.RateLimit(1.0, 1),)

NOTHING = Rules(compress=Compression("false"))  # beside what the site itself demands


class Yes:
    def handle(self, request: Request) -> Response:
        return Response(200, [])


def site(names: str, *, limited: bool = False, default: bool = False, asks: bool = False):
    return model.Site(
        tuple(names.split()),
        (model.Route("/*", model.RefuseAction()),),
        default=default,
        client_auth=model.ClientAuth("ca.pem") if asks else None,  # type: ignore[arg-type]
        rate_limits=ONCE if limited else (),
    )


def no_login_service(_rule: model.ForwardAuth) -> NoReturn:
    raise AssertionError("nobody asks for one")


def table(*sites: model.Site, on_demand: dict[str, str] | None = None) -> SiteTable:
    buckets = Buckets()
    chains = Chains(
        model.Tls(),
        model.Limits(),
        lambda one: RateLimits(one.names[0], one.rate_limits, buckets, lambda: 1.0, str),
        no_login_service,
    )
    made = SiteTable(sites, on_demand or {})
    made.bind(lambda one: Router([Route("/*", Yes(), chains.of(one, NOTHING))]))
    return made


def passed(of: SiteTable, host: str, connection: Connection | None = None, fields: Fields = []):  # noqa: B006
    """ "yes" or the kind of the fault; the same client each time."""
    peer = connection or Connection("192.0.2.9", 4711, "192.0.2.1", 443, b"https")
    asked = Request(b"GET", b"/", b"1.1", host.encode(), host.encode(), fields, peer)
    match = of.find(host.encode())
    if match is None:
        return "unknown"
    found = match.site.router.find(asked)

    def failed(_exchange: Exchange, error: Exception) -> Response:
        assert isinstance(error, Fault)
        return Response(error.what.status, error.fields, error=error.kind)

    if found.chain is None:
        return "yes"
    exchange = Exchange(peer, asked)
    answer = found.chain.handle(
        exchange, found.handler, lambda _exchange, handler: handler.handle(asked), failed
    )
    assert isinstance(answer, Response)
    return answer.error or "yes"


def test_a_site_that_demands_nothing_has_no_filters() -> None:
    asked = Request(b"GET", b"/", b"1.1", b"h", b"h", [], Connection("192.0.2.9", 1, "", 443))
    for limited in (False, True):
        match = table(site("a.example", limited=limited)).find(b"a.example")
        assert match is not None
        assert (match.site.router.find(asked).chain is not None) == limited


@pytest.mark.parametrize(
    ("host", "limited"),
    [
        ("a.example", True),
        ("x.b.example", True),
        ("free.b.example", False),
        ("shop.example", True),
        ("c.example", False),
    ],
)
def test_whose_rate_counts(host: str, limited: bool) -> None:
    made = table(
        site("a.example", limited=True),
        site("*.b.example", limited=True),
        site("free.b.example"),
        site("c.example"),
        on_demand={"shop.example": "a.example"},
    )
    assert [passed(made, host) for _ in range(2)] == ["yes", "rate_limited" if limited else "yes"]


def test_all_names_of_a_site_share_its_rate_those_on_demand_too() -> None:
    made = table(site("a.example", limited=True), on_demand={"shop.example": "a.example"})
    assert passed(made, "a.example") == "yes"
    assert passed(made, "shop.example") == "rate_limited"


def test_whoever_is_unknown_meets_the_default_sites_rate() -> None:
    made = table(
        site("a.example"), site("d.example", limited=True, default=True),
        on_demand={"shop.example": "a.example"},
    )  # fmt: skip
    assert passed(made, "unknown.example") == "yes"
    assert passed(made, "x.unknown.example") == "rate_limited"
    assert [passed(made, "shop.example") for _ in range(2)] == ["yes", "yes"]


def test_a_client_certificate_is_asked_for_by_the_site_of_the_handshake() -> None:
    made = table(site("a.example", asks=True))
    assert passed(made, "a.example") == "misdirected"
    shown = Connection("192.0.2.9", 4711, "192.0.2.1", 443, b"https", mtls_site="a.example")
    assert passed(made, "a.example", shown) == "yes"


def test_behind_a_trusted_proxy_each_of_its_clients_has_a_rate_of_its_own() -> None:
    made = table(site("a.example", limited=True))
    proxy = Connection("127.0.0.1", 4711, "127.0.0.1", 443, b"https")
    proxy.proxies = TrustedProxies(("127.0.0.0/8",))
    first, second = ([(b"x-forwarded-for", b"203.0.113.%d" % n)] for n in (1, 2))
    assert [passed(made, "a.example", proxy, fields) for fields in (first, second, first)] == [
        "yes", "yes", "rate_limited",
    ]  # fmt: skip


def test_a_route_has_the_rates_of_its_site_or_its_own():
    buckets = Buckets()
    chains = Chains(
        model.Tls(),
        model.Limits(),
        lambda one: RateLimits(one.names[0], one.rate_limits, buckets, lambda: 1.0, str),
        no_login_service,
    )
    once = Rules(rate_limit=(Limit(rate=0.001, burst=1),))
    twice = Rules(rate_limit=(Limit(rate=0.001, burst=2),))
    of = model.Site(("a.test",), (), rate_limits=model.rate_limits(once), rules=once)
    plain, own, none = (chains.of(of, rules) for rules in (once, twice, Rules(rate_limit=())))
    assert plain is not None
    assert own is not None
    assert chains.of(of, once) is plain, "routes with the same limits share what they count"
    assert [limited(plain), limited(plain)] == [False, True]
    assert [limited(own), limited(own), limited(own)] == [False, False, True]
    assert none is None or not limited(none)


def limited(chain) -> bool:
    peer = Connection("192.0.2.9", 4711, "192.0.2.1", 443, b"https")
    request = Request(b"GET", b"/", b"1.1", b"a.test", b"a.test", [], peer)
    exchange = Exchange(peer)
    exchange.request = request
    try:
        for one in chain.guards:
            one.request(exchange)
    except Fault:
        return True
    return False
