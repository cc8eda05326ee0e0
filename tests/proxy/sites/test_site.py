"""Which site a host names: exact names, wildcards, names on demand, the default."""

from __future__ import annotations

import pytest

from proxy.config.model import RefuseAction, Route, Site
from proxy.sites.site import SiteTable


def site(names: str, *, default: bool = False) -> Site:
    return Site(tuple(names.split()), (Route("/*", RefuseAction()),), default=default)


def found(table: SiteTable, host: str) -> str | None:
    """The first name of the host's site."""
    match = table.find(host.encode())
    return None if match is None else match.site_name


def label(table: SiteTable, host: str) -> str | None:
    match = table.find(host.encode())
    return None if match is None else match.label.decode()


HOSTS = SiteTable(
    (
        site("example.org www.example.org"),
        site("*.example.org"),
        site("a.b.example.org"),
        site("2001:db8::1 192.0.2.1"),
        site("xn--bcher-kva.example"),
    )
)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("example.org", "example.org"),
        ("www.example.org", "example.org"),  # exact before wildcard
        ("shop.example.org", "*.example.org"),
        ("b.example.org", "*.example.org"),
        ("a.b.example.org", "a.b.example.org"),
        ("c.b.example.org", None),  # an asterisk is one label
        ("*.example.org", "*.example.org"),  # no DNS name, and harmless
        ("notexample.org", None),
        ("org", None),
        ("", None),
        (".example.org", "*.example.org"),  # the grammar of Host refuses it before
        ("2001:db8::1", "2001:db8::1"),
        ("192.0.2.1", "2001:db8::1"),
        ("192.0.2.2", None),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_a_host_finds_its_site(host: str, name: str | None) -> None:
    assert found(HOSTS, host) == name
    assert HOSTS.configured(host) == (name is not None)


def test_requests_are_counted_under_the_name_that_was_found() -> None:
    assert label(HOSTS, "www.example.org") == "www.example.org"
    assert label(HOSTS, "shop.example.org") == "*.example.org"


def test_whom_nobody_knows_goes_to_the_default_site_and_has_no_label() -> None:
    some = SiteTable((site("example.org"), site("fallback.example", default=True)))
    assert found(some, "elsewhere.example") == "fallback.example"
    assert label(some, "elsewhere.example") == ""
    assert label(some, "fallback.example") == "fallback.example"
    assert not some.configured("elsewhere.example")


def test_without_a_site_every_host_is_unknown() -> None:
    assert found(SiteTable(()), "example.org") is None


def test_all_names_of_a_site_are_one_site() -> None:
    some = SiteTable((site("a.example b.example"),))
    one, other = some.find(b"a.example"), some.find(b"b.example")
    assert one is not None
    assert other is not None
    assert one.site is other.site
    assert (one.label, other.label) == (b"a.example", b"b.example")


def test_a_host_that_came_on_demand_is_its_sites_and_no_others() -> None:
    on_demand: dict[str, str] = {}
    some = SiteTable(
        (site("shops.example"), site("*.own.example"), site("d.example", default=True)), on_demand
    )
    assert found(some, "shop.example") == "d.example"
    on_demand["shop.example"] = "shops.example"
    assert found(some, "shop.example") == "shops.example"
    assert label(some, "shop.example") == "shops.example"
    assert not some.configured("shop.example")
    # What is configured comes first, and a name of a site that is gone has none.
    on_demand["x.own.example"] = on_demand["d.example"] = "shops.example"
    assert found(some, "x.own.example") == "*.own.example"
    assert found(some, "d.example") == "d.example"
    on_demand["lost.example"] = "gone.example"
    assert found(some, "lost.example") == "d.example"
    del on_demand["shop.example"]
    assert found(some, "shop.example") == "d.example"
