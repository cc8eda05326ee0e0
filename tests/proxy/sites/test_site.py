"""Which site a host names: exact names, wildcards, names on demand, the default."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config.model import FilesAction, RefuseAction, Route, Site
from proxy.config.schema.matching import Match
from proxy.config.schema.rules import BasicAuth, Rules
from proxy.config.syntax.sections import already_read
from proxy.sites.router import Router
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


def test_a_router_is_made_once_and_for_sites_that_are_asked_for() -> None:
    some = SiteTable((site("a.example"), site("b.example")))
    made: list[str] = []

    def router_of(config: Site) -> Router:
        made.append(config.names[0])
        return Router(())

    some.bind(router_of)
    assert not made
    match = some.find(b"b.example")
    assert match is not None
    assert match.site.router is match.site.router
    assert made == ["b.example"]
    with pytest.raises(AttributeError):
        _ = match.site.routers  # type: ignore[attr-defined] # what is not there stays away


def test_a_table_knows_what_each_worker_would_look_at_all_sites_for() -> None:
    """In memory that workers share: whoever looks at each site copies it."""
    rules, logins = already_read(Rules), already_read(Rules, basic_auth=already_read(BasicAuth))
    root = FilesAction(Path("/srv"))
    usual = Site(("usual.example",), (Route("/*", root, rules),), rules=rules)
    same = Site(("same.example",), (Route("/*", FilesAction(Path("/srv")), rules),), rules=rules)
    login = Site(("login.example",), (Route("/*", root, logins),), rules=rules)
    plain = Site(("plain.example",), (Route("/*", root, rules),), rules=rules, http2=False)
    shared = Site(("shared.example",), (Route("/*", root, rules),), rules=rules, metrics_label="x")
    chosen = already_read(Match, from_=("10.0.0.0/8",))
    inner = Site(("inner.example",), (Route("/*", root, rules, match=chosen),), rules=rules)
    some = SiteTable((usual, same, login, plain, shared, inner))
    assert some.particular == (login, plain)
    assert some.actions == (root,)
    assert some.ruled == ((usual, rules), (login, logins))
    assert some.labels == {"shared.example": "x"}
    assert [one.name for one in some.reading] == ["inner.example"]
    assert some.has("usual.example")
    assert not some.has("else.example")
    assert (some.owner("login.example"), some.owner("x.example")) == ("login.example", None)
