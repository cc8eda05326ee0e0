"""What the server expects to see of itself, by name and by what the visitor knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config.model import ClientAuth, Config, RefuseAction, Route, Site, Tls
from proxy.ipc.messages import CertificateFacts
from proxy.ipc.packs import alone
from proxy.supervisor.self_check import expected_certificates
from proxy.worker.startup import Announced


def site(name: str, *, paired: bool = False, auth: bool = False) -> Site:
    return Site(
        (name,),
        (Route("/*", RefuseAction()),),
        key_types=("ecdsa-p256", "rsa-2048") if paired else ("ecdsa-p256",),
        client_auth=ClientAuth(Path("/ca.pem")) if auth else None,
    )


def certificate(name: str, family: str, *names: str, not_after: float = 2e9) -> Announced:
    site = name.partition("/")[0]
    facts = CertificateFacts(name, site, names, not_after, f"{name} {family}", family)
    return Announced(facts, alone(b""))


def seen(certificates: list[Announced], *sites: Site, tls: Tls | None = None) -> dict[str, str]:
    found = expected_certificates(certificates, Config(sites, Path("/state"), tls=tls or Tls()))
    return {f"{name} {family}".strip(): one.facts.serial for (name, family), one in found.items()}


PAIR = [
    certificate("a.test", "ecdsa", "a.test", "b.test"),
    certificate("a.test/rsa", "rsa", "a.test"),
]


def test_of_two_the_usual_visitor_sees_ecdsa_and_one_who_knows_rsa_alone_the_other() -> None:
    assert seen(PAIR, site("a.test", paired=True)) == {
        "a.test": "a.test ecdsa",
        "a.test rsa": "a.test/rsa rsa",
        "b.test": "a.test ecdsa",
    }


def test_the_order_in_the_configuration_makes_no_difference() -> None:
    swapped = [
        certificate("a.test", "rsa", "a.test"),
        certificate("a.test/ecdsa", "ecdsa", "a.test", not_after=1e9),
    ]
    assert seen(swapped, site("a.test", paired=True)) == {
        "a.test": "a.test/ecdsa ecdsa",
        "a.test rsa": "a.test rsa",
    }


@pytest.mark.parametrize(
    ("tls", "auth"), [(Tls(min_version="1.3"), False), (Tls(), True)], ids=["1.3", "client_auth"]
)
def test_nobody_is_played_who_would_not_get_in(tls: Tls, auth: bool) -> None:
    found = seen(PAIR, site("a.test", paired=True, auth=auth), tls=tls)
    assert "a.test rsa" not in found


def test_a_worker_that_knows_of_one_shows_one() -> None:
    """Of a generation before or after the one that has two."""
    assert seen(PAIR, site("a.test")) == {"a.test": "a.test ecdsa", "b.test": "a.test ecdsa"}
    assert seen(PAIR, site("c.test")) == {}


def test_of_two_sites_with_one_name_that_whose_name_it_is_decides() -> None:
    """And for a name of neither, that which lasts longer."""
    longer = certificate("c.test", "rsa", "c.test", "a.test", "b.test", not_after=3e9)
    found = seen([*PAIR, longer], site("a.test", paired=True), site("c.test"))
    assert found["a.test"] == "a.test ecdsa"
    assert found["b.test"] == "c.test rsa"


def test_the_wildcard_of_the_hosts_own_site_goes_before_its_name_elsewhere() -> None:
    wildcard = certificate("*.w.test", "ecdsa", "*.w.test")
    other = certificate("c.test", "rsa", "c.test", "x.w.test", not_after=3e9)
    found = seen([wildcard, other], site("*.w.test"), site("c.test"))
    assert found["x.w.test"] == "*.w.test ecdsa"
