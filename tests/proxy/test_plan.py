"""What a reload would change, in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from acme_client.link import INTERNAL
from proxy.config.model import Acme, Config, FilesAction, Route, Site
from proxy.plan import Certified, changes, orders

CA, OTHER = "https://ca.example/dir", "https://other.example/dir"
HERE = (Route("/*", FilesAction(Path("/srv/www"))),)
A, B = Site(("a.example", "www.a.example"), HERE), Site(("b.example",), HERE)
INSIDE = Site(("c.test",), HERE, internal=True)


def config(*sites: Site, directory: str = CA) -> Config:
    return Config(sites, Path("/state"), acme=Acme(directory=directory))


HAD = frozenset(
    {
        (frozenset({"www.a.example", "a.example"}), CA),
        (frozenset({"b.example"}), CA),
        (frozenset({"c.test"}), INTERNAL),
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
    assert [one.names[0] for one in orders(new, certified)] == ordered
    said = [line for line in changes(new, new, certified) if line.startswith("certificate for")]
    assert len(said) == len(ordered)


def test_a_certificate_of_a_fallback_is_good_enough() -> None:
    given = config(A, directory=OTHER)
    given = replace(given, acme=replace(given.acme, fallback=(Acme(directory=CA),)))
    assert orders(given, HAD) == []


def test_nothing_changed() -> None:
    assert changes(config(A, B), config(A, B), HAD) == []
