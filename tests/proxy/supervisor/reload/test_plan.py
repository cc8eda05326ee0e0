"""What a reload would change, in words."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest

from acme_client.link import INTERNAL
from proxy.config.model import (
    Acme,
    Address,
    Admin,
    Alerts,
    ClientAuth,
    Cluster,
    Config,
    Docker,
    ExternalAccount,
    FilesAction,
    Limits,
    Listen,
    Log,
    OnDemand,
    OwnCertificate,
    Providers,
    RateLimit,
    Route,
    Rules,
    Site,
    Tls,
    Tracing,
)
from proxy.config.schema.document import SiteLog
from proxy.supervisor.reload.plan import Certified, changes, kept, orders

CA, OTHER = "https://ca.example/dir", "https://other.example/dir"
HERE = (Route("/*", FilesAction(Path("/srv/www"))),)
A, B = Site(("a.example", "www.a.example"), HERE), Site(("b.example",), HERE)
INSIDE = Site(("c.test",), HERE, internal=True)


def config(*sites: Site, directory: str = CA) -> Config:
    return Config(sites, Path("/state"), acme=Acme(directory=directory))


HAD = frozenset(
    {
        (frozenset({"www.a.example", "a.example"}), CA, "ecdsa-p256"),
        (frozenset({"b.example"}), CA, "ecdsa-p256"),
        (frozenset({"c.test"}), INTERNAL, "ecdsa-p256"),
    }
)


@pytest.mark.parametrize(
    ("new", "certified", "ordered"),
    [
        (config(A, B, INSIDE), HAD, []),
        (config(Site(("www.a.example", "a.example"), HERE)), HAD, []),
        (config(A, B), frozenset(), ["a.example", "b.example"]),
        (config(Site(("a.example",), HERE)), HAD, ["a.example"]),
        (config(A, B, INSIDE, directory=OTHER), HAD, ["a.example", "b.example"]),
        (config(replace(B, internal=True)), HAD, ["b.example"]),
        (config(replace(INSIDE, internal=False)), HAD, ["c.test"]),
    ],
)
def test_what_is_ordered_is_what_no_configured_ca_has_certified(
    new: Config, certified: Certified, ordered: list[str]
) -> None:
    assert [one.names[0] for one, _key in orders(new, certified)] == ordered
    said = [line for line in changes(new, new, certified) if line.startswith("certificate for")]
    assert len(said) == len(ordered)


EAB = ExternalAccount("kid-1", Path("/key"))


@pytest.mark.parametrize(
    ("old", "new", "ordered"),
    [
        (Acme(CA), Acme(CA), []),
        (Acme(CA), Acme(CA, email="ops@example.org"), []),
        (Acme(CA), Acme(CA, profile="shortlived"), ["a.example", "b.example"]),
        (Acme(CA, profile="shortlived"), Acme(CA), ["a.example", "b.example"]),
        (Acme(CA), Acme(CA, eab=EAB), ["a.example", "b.example"]),
        (Acme(CA, eab=EAB), Acme(CA, eab=replace(EAB, hmac_key_file=Path("/other"))), []),
        (Acme(CA), Acme(CA, fallback=(Acme(OTHER, profile="x"),)), []),  # it has certified nothing
    ],
)
def test_another_profile_or_external_account_is_another_order(
    old: Acme, new: Acme, ordered: list[str]
) -> None:
    before, after = (replace(config(A, B, INSIDE), acme=one) for one in (old, new))
    certified = kept(before, after, HAD)
    assert [one.names[0] for one, _key in orders(after, certified)] == ordered


def test_a_certificate_of_a_fallback_is_good_enough() -> None:
    given = config(A, directory=OTHER)
    given = replace(given, acme=replace(given.acme, fallback=(Acme(directory=CA),)))
    assert orders(given, HAD) == []


def test_a_second_kind_of_key_is_another_certificate() -> None:
    both = replace(A, key_types=("ecdsa-p256", "rsa-2048"))
    site, order = changes(config(A), config(both), HAD)
    assert site == "site a.example: keys are ecdsa-p256 → ecdsa-p256, rsa-2048"
    assert "with a key of type rsa-2048: to be had from " in order
    assert orders(config(A), HAD) == []


# Another value for each field; a field without one here fails the tests below.
SITE = {
    "names": ("a.example",),
    "routes": (),
    "certificates": (OwnCertificate(Path("/c.pem"), Path("/k.pem")),),
    "key_types": ("rsa-2048",),
    "log": SiteLog(lines=False),
    "default": True,
    "metrics_label": "shop",
    "internal": True,
    "http2": False,
    "client_auth": ClientAuth(Path("/ca.pem"), "request"),
    "rate_limits": (RateLimit(1.0, 1),),
    "on_demand": OnDemand(),
    "rules": Rules(connect_timeout=1.0),
}
CONFIG = {
    "sites": (),
    "state": Path("/elsewhere"),
    "listen": Listen(http=()),
    "uid": 1,
    "gid": 1,
    "workers": 7,
    "acme": Acme(email="a@b.example"),
    "tls": Tls(min_version="1.3"),
    "log": Log(access="off"),
    "limits": Limits(header_count=11),
    "trusted_proxies": ("10.0.0.0/8",),
    "proxy_protocol": ("10.0.0.0/8",),
    "admin": Admin(Address("127.0.0.1", 9000)),
    "cluster": Cluster(
        "shop", ("https://192.0.2.1:2379",), Path("/etc/cluster.key"), False, "web-1"
    ),
    "tracing": Tracing("http://127.0.0.1:4318"),
    "alerts": Alerts(webhook="https://x.example/"),
    "sandbox": "off",
    "fast_lane": False,
    "http2": False,
    "websocket_over_http2": True,
    "uvloop": False,
    "watch": True,
    "sites_dir": Path("/srv/sites"),
    "include": (Path("/srv/sites.d/*.yaml"),),
    "providers": Providers(Docker("tcp://127.0.0.1:2375")),
}


@pytest.mark.parametrize("field", [one.name for one in dataclasses.fields(Site) if one.compare])
def test_whatever_changes_of_a_site_is_told(field: str) -> None:
    changed = config(replace(A, **{field: SITE[field]}))  # type: ignore[arg-type] # one of each
    assert changes(config(A), changed, HAD)
    assert changes(changed, config(A), HAD)


@pytest.mark.parametrize("field", [one.name for one in dataclasses.fields(Config) if one.compare])
def test_whatever_else_changes_is_told(field: str) -> None:
    if field == "source":  # where it was read from, which is no setting
        return
    changed = replace(config(A), **{field: CONFIG[field]})  # type: ignore[arg-type] # one of each
    assert changes(config(A), changed, HAD)


def test_nothing_changed() -> None:
    assert changes(config(A, B), config(A, B), HAD) == []


LIKE = OnDemand(patterns=("*.shops.example",), max_new_per_hour=5)
ASKED = OnDemand(ask="https://app.example/allowed?token=s3cret", dns=True, max_names=20)
LIKE_SAID = (
    "names on demand, like *.shops.example (each is a new order; 5 an hour and 1000 in all at most)"
)
ASKED_SAID = (
    "names on demand, that app.example allows and whose DNS leads here "
    "(each is a new order; 50 an hour and 20 in all at most)"
)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (None, LIKE, f"no names on demand → {LIKE_SAID}"),
        (LIKE, ASKED, f"{LIKE_SAID} → {ASKED_SAID}"),
        (ASKED, None, f"{ASKED_SAID} → no names on demand"),
        (
            None,
            OnDemand(dns=True, addresses=("192.0.2.1", "2001:db8::1")),
            (
                "no names on demand → names on demand, whose DNS leads to 192.0.2.1, 2001:db8::1 "
                "(each is a new order; 50 an hour and 1000 in all at most)"
            ),
        ),
    ],
)
def test_which_names_come_on_demand(old: OnDemand | None, new: OnDemand | None, said: str) -> None:
    before, after = replace(A, on_demand=old), replace(A, on_demand=new)
    assert changes(config(before), config(after), HAD) == [f"site a.example: takes {said}"]


def test_a_new_site_says_which_names_it_takes() -> None:
    new, takes = changes(config(A), config(A, replace(B, on_demand=LIKE)), HAD)
    assert new.startswith("site b.example: new (/* → ")
    assert takes == f"site b.example: takes {LIKE_SAID}"
