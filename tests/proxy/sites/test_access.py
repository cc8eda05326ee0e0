"""What a site demands, found by host as the router finds the site."""

from __future__ import annotations

import pytest

from proxy.config.model import ClientAuth, RateLimit, RefuseAction, Route, Site
from proxy.errors import Fault
from proxy.ipc.rate_buckets import Buckets, RateLimits
from proxy.protocol.message import Connection, Request
from proxy.sites.access import Gates

ONCE = (RateLimit(1.0, 1),)


def site(names: str, *, limited: bool = False, default: bool = False, asks: bool = False) -> Site:
    return Site(
        tuple(names.split()),
        (Route("/*", RefuseAction()),),
        default=default,
        client_auth=ClientAuth("ca.pem") if asks else None,
        rate_limits=ONCE if limited else (),
    )


def gates(*sites: Site, guests: dict[bytes, bytes] | None = None) -> Gates:
    buckets = Buckets()
    limits = {
        one.names[0]: RateLimits(one.names[0], one.rate_limits, buckets, lambda: 1.0, str)
        for one in sites
        if one.rate_limits
    }
    return Gates(sites, limits, guests or {})


def passed(of: Gates, host: str) -> str:
    """ "yes" or the kind of the fault; the same client each time."""
    peer = Connection("192.0.2.9", 4711, "192.0.2.1", 443, b"https")
    try:
        of.check(Request(b"GET", b"/", b"1.1", host.encode(), host.encode(), [], peer))
    except Fault as fault:
        return fault.kind
    return "yes"


def test_a_site_that_demands_nothing_has_no_gate() -> None:
    assert not gates(site("a.example"))
    assert gates(site("a.example", limited=True))


@pytest.mark.parametrize(
    ("host", "limited"),
    [
        ("a.example", True),
        ("x.b.example", True),
        ("free.b.example", False),
        ("shop.example", True),
        ("c.example", False),
        ("unknown.example", False),
    ],
)
def test_whose_rate_counts(host: str, limited: bool) -> None:
    made = gates(
        site("a.example", limited=True),
        site("*.b.example", limited=True),
        site("free.b.example"),
        site("c.example"),
        guests={b"shop.example": b"a.example"},
    )
    assert [passed(made, host) for _ in range(2)] == ["yes", "rate_limited" if limited else "yes"]


def test_all_names_of_a_site_share_its_rate_those_on_demand_too() -> None:
    made = gates(site("a.example", limited=True), guests={b"shop.example": b"a.example"})
    assert passed(made, "a.example") == "yes"
    assert passed(made, "shop.example") == "rate_limited"


def test_whoever_is_unknown_meets_the_default_sites_gate() -> None:
    made = gates(
        site("a.example"), site("d.example", limited=True, default=True),
        guests={b"shop.example": b"a.example"},
    )  # fmt: skip
    assert passed(made, "unknown.example") == "yes"
    assert passed(made, "x.unknown.example") == "rate_limited"
    assert [passed(made, "shop.example") for _ in range(2)] == ["yes", "yes"]


def test_a_client_certificate_is_asked_for_by_the_site_of_the_handshake() -> None:
    assert passed(gates(site("a.example", asks=True)), "a.example") == "misdirected"
