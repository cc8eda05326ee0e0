"""``explain`` tells of every key that there is which line decided, and repeats no secret."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.config.load import Options, load
from proxy.config.model import Config, Site
from proxy.config.schema.document import Document
from proxy.config.schema.document import Site as SiteSection
from proxy.config.schema.parse import subsection
from proxy.config.schema.rules import Rules
from proxy.config.schema.site import Route as RouteSection
from proxy.config.syntax.sections import Section
from proxy.explain import settings
from proxy.explain.request import Question, explain

PLACE = "c.yaml:7:3"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "site").mkdir()
    options = Options(domain=("a.test",), backend=("http://127.0.0.1:1",), state=tmp_path / "state")
    return load(options, now_uid=1000)


def keys_of(section: type[Section], prefix: str = "") -> Iterator[str]:
    """The keys that have no keys below them."""
    for name, field in section.known_keys().items():
        below = subsection(field.annotation)
        if below is None or below in (SiteSection, RouteSection):
            yield prefix + name
        else:
            yield from keys_of(below, f"{prefix}{name}.")


OF_THE_SERVER = sorted(
    key for key in keys_of(Document)
    if key.partition(".")[0] not in Rules.known_keys() and not key.startswith(("listen.", "sites"))
)  # fmt: skip
OF_A_SITE = sorted(
    key for key in SiteSection.known_keys()
    if key not in Rules.known_keys()
    and key not in ("names", "routes", "certificate", "root", "backend", "fastcgi")
)  # fmt: skip
OF_A_ROUTE = sorted(Rules.known_keys())


@pytest.mark.parametrize("key", OF_THE_SERVER)
def test_every_key_at_the_top_is_told_with_its_line(config: Config, key: str) -> None:
    rows = list(settings.of_the_server(replace(config, origins={key: PLACE})))
    assert [(row.text.partition(":")[0], row.place) for row in rows] == [(key, PLACE)]


@pytest.mark.parametrize("key", OF_A_SITE)
def test_every_key_of_a_site_is_told_with_its_line(config: Config, key: str) -> None:
    site: Site = replace(config.sites[0], origins={key: PLACE})
    rows = list(settings.of_a_site(site))
    assert [(row.text.partition(":")[0], row.place) for row in rows] == [(key, PLACE)]


@pytest.mark.parametrize("key", OF_A_ROUTE)
def test_every_key_that_is_inherited_is_told_with_its_line(config: Config, key: str) -> None:
    """At a route, which has it from wherever it was given; a key that has rows of its own tells its
    place there, where its value has any effect."""
    (site,) = config.sites
    (route,) = site.routes
    told = replace(route, origins={**route.origins, key: PLACE})
    changed = replace(config, sites=(replace(site, routes=(told,)),))
    rows = asyncio.run(explain(changed, Question("GET", "https://a.test/")))
    assert any(row.place == PLACE for row in rows) or key in (
        "rate_limit",
        "redirect",
        "respond",
        "status",
    )


def test_the_value_is_the_one_in_force(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        f"state: {tmp_path}/state\nlimits: {{header_size: 64KiB}}\nacme: {{email: a@b.test}}\n"
        "sites:\n- {names: [a.test], backend: 'http://127.0.0.1:1', http2: off}\n"
    )
    loaded = load(Options(config=tmp_path / "c.yaml"), now_uid=1000)
    rows = asyncio.run(explain(loaded, Question("GET", "https://a.test/")))
    told = {row.text: row.place.rpartition("c.yaml:")[2] for row in rows if row.place}
    assert told["limits.header_size: 65536"] == "2:10"
    assert told["acme.email: a@b.test"] == "3:8"
    assert told["http2: false"].startswith("5:")


def test_no_secret_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "very-secret-token")
    (tmp_path / "c.yaml").write_text(
        f"state: {tmp_path}/state\n"
        "alerts: {webhook: 'https://chat.test/hooks/secret-path'}\n"
        "acme: {dns: {provider: cloudflare, credentials: {auth_token: '${TOKEN}'}}}\n"
        "sites:\n- {names: [a.test], backend: 'http://127.0.0.1:1'}\n"
    )
    loaded = load(Options(config=tmp_path / "c.yaml"), now_uid=1000)
    said = str(asyncio.run(explain(loaded, Question("GET", "https://a.test/"))))
    assert "alerts.webhook" in said
    assert "secret-path" not in said
    assert "very-secret-token" not in said
