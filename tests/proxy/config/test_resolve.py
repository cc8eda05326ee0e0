"""From sound sections to what the program uses: absolute, numbered, in one form."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from proxy.config.model import (
    Address,
    Backend,
    BackendRules,
    BackendTls,
    Config,
    Dns,
    ExternalAccount,
    FilesAction,
    HashKey,
    Health,
    Hsts,
    OwnCertificate,
    ProxyAction,
    RateLimit,
    RedirectAction,
    RefuseAction,
    Route,
    Runway,
    StickyCookie,
    Tsig,
    rate_limits,
)
from proxy.config.resolve import Surroundings, resolve
from proxy.config.schema import inherit

AROUND = Surroundings(Path("/var/state"), 65534, 65533, Path("/etc/th/c.yaml"))
SITE = "sites: [{names: a.test, root: www}]\n"


@pytest.fixture
def resolved(sections):
    def read(text: str) -> Config:
        parsed = sections(text)
        return resolve(parsed, AROUND)

    return read


def test_what_is_not_said_is_as_in_the_model(resolved):
    config = resolved(SITE)
    plain = Config(config.sites, AROUND.state)
    for field in dataclasses.fields(Config):
        if field.name not in ("sites", "state", "gid", "workers", "source"):
            assert getattr(config, field.name) == getattr(plain, field.name), field.name
    assert (config.state, config.uid, config.gid) == (AROUND.state, 65534, 65533)
    assert config.source == AROUND.source
    assert config.workers == len(os.sched_getaffinity(0))


def test_relative_paths_start_where_the_file_lies(resolved):
    config = resolved(
        "log: {access: access.log}\nsites_dir: sites\n"
        "acme: {ca_file: ca.pem, eab: {kid: k, hmac_key_file: /abs}, dns: [{hook: h},\n"
        "  {server: 192.0.2.1, zone: A.test., ttl: 5m, tsig: {name: K., secret_file: s}}]}\n"
        "sites:\n"
        "  - {names: a.test, root: www, certificate: {chain: c.pem, key: ../k.pem}}\n"
        "  - {names: b.test, backend: 'https://x', backend_tls: {ca_file: x.pem}}\n"
    )
    assert config.log.access == "/etc/th/access.log"
    assert config.sites_dir == Path("/etc/th/sites")
    assert config.acme.ca_file == Path("/etc/th/ca.pem")
    assert config.acme.eab == ExternalAccount("k", Path("/abs"))
    assert config.acme.dns == (
        Dns(hook=Path("/etc/th/h")),
        Dns("a.test", Address("192.0.2.1", 53), Tsig("k", Path("/etc/th/s")), ttl=300.0),
    )
    one, other = config.sites
    assert one.routes == (Route("/*", FilesAction(Path("/etc/th/www"))),)
    assert one.certificates == (OwnCertificate(Path("/etc/th/c.pem"), Path("/etc/th/../k.pem")),)
    assert not one.internal
    assert isinstance(other.routes[0].action, ProxyAction)
    assert other.routes[0].action.tls == BackendTls(Path("/etc/th/x.pem"))


@pytest.mark.parametrize("word", ["stdout", "stderr", "off"])
def test_words_for_the_access_log_are_no_paths(resolved, word):
    assert resolved(f"log: {{access: {word}}}\n{SITE}").log.access == word


def test_everything_about_a_proxied_route_arrives(resolved):
    config = resolved(
        "sites: [{names: a.test, routes: [{path: /x/*, backend: ["
        "{url: 'http://h:1', weight: 3}, 'unix:/s'], balance: hash, hash_by: 'cookie:sid', "
        "sticky_cookie: lb, health: {path: /up, interval: 1s, timeout: 500ms}, connect_timeout: 1s, "
        "response_timeout: 2s, idle_timeout: 3s, pool_idle: 4s, connections: 5, preserve_host: false}]}]"
    )
    (route,) = config.sites[0].routes
    assert route == (
        Route(
            "/x/*",
            ProxyAction(
                backends=(
                    Backend("http://h:1", "http", "h", 1, weight=3),
                    Backend("unix:/s", "unix", path="/s"),
                ),
                balance="hash",
                health=Health("/up", 1.0, 0.5),
                connect_timeout=1.0,
                response_timeout=2.0,
                idle_timeout=3.0,
                idle_connection_timeout=4.0,
                max_connections=5,
                preserve_host=False,
                hash_by=HashKey("cookie", "sid"),
                sticky_cookie=StickyCookie(name="lb"),
            ),
            route.rules,
        )
    )
    for key in BackendRules.known_keys():
        assert getattr(route.rules, key) == getattr(route.action, key), key


INHERITED = """\
connect_timeout: 1s
preserve_host: off
max_queued: 7
sites:
  - names: a.test
    connect_timeout: 2s
    backend: http://127.0.0.1:1
  - names: b.test
    health: {path: /site}
    routes:
      - {path: /one, backend: "http://127.0.0.1:1", connect_timeout: 3s, health: null}
      - {path: /two, backend: "http://127.0.0.1:2", health: {path: /two, interval: 1s}}
      - {path: /three, root: www}
"""


def test_the_innermost_of_the_top_a_site_and_a_route_decides_and_says_where(resolved):
    one, other = resolved(INHERITED).sites
    alone = one.routes[0]
    assert isinstance(alone.action, ProxyAction)
    assert (alone.action.connect_timeout, alone.action.preserve_host) == (2.0, False)
    assert alone.action.max_queued == alone.rules.max_queued == one.rules.max_queued == 7
    assert alone.origins == {
        "connect_timeout": "c.yaml:6:5",
        "preserve_host": "c.yaml:2:1",
        "max_queued": "c.yaml:3:1",
        "backend": "c.yaml:7:5",
    }
    first, second, third = other.routes
    assert (first.action.connect_timeout, first.action.health.path) == (3.0, "/site")
    assert first.origins["health"] == "c.yaml:9:5", "null is not given"
    assert (second.action.connect_timeout, second.action.health) == (1.0, Health("/two", 1.0))
    assert third.origins["root"] == "c.yaml:13:24"
    assert other.rules.connect_timeout == 1.0
    assert Config((), AROUND.state) == Config((), AROUND.state)


def test_a_value_that_adds_up_joins_the_outer_ones(monkeypatch, sections):
    parsed = sections(INHERITED)
    monkeypatch.setitem(
        inherit._JOINS, "health", lambda outer, inner: Health(outer.path + inner.path)
    )
    (at, site), (where, route) = (
        (("sites", 1), parsed.sites[1][1]),
        (
            ("sites", 1, "routes", 1),
            parsed.sites[1][1].routes[1],
        ),
    )
    found = inherit.innermost(((), parsed.document), (at, site), (where, route))
    assert found.rules.health == Health("/site/two")
    assert found.paths["health"] == (*where, "health")


def test_rates_are_inherited_and_an_empty_list_is_none(resolved):
    (site,) = resolved(
        "rate_limit: {rate: 10/s}\n"
        "sites: [{names: a.test, routes: ["
        "{path: /one, root: www}, {path: /two, root: www, rate_limit: {rate: 1/m, burst: 3}}, "
        "{path: /three, root: www, rate_limit: []}]}]"
    ).sites
    assert site.rate_limits == (RateLimit(10.0, 10),)
    assert [rate_limits(route.rules) for route in site.routes] == [
        (RateLimit(10.0, 10),),
        (RateLimit(1 / 60, 3),),
        (),
    ]


OLD_NAMES = """\
alerts: {webhook: "https://x.test/", certifier_silent: 1m}
queue: 3
sites:
  - names: a.test
    backend: http://127.0.0.1:1
    pool_idle: 1s
    connections: 4
    breaker: {share: 50%}
    on_demand: {patterns: ["*.b.test"], most: 5, per_hour: 6, forget: 7d}
"""


def test_old_names_of_keys_are_taken_and_told(sections):
    parsed = sections(OLD_NAMES)
    config = resolve(parsed, AROUND)
    assert config.alerts.certifier_timeout == 60.0
    action, demand = config.sites[0].routes[0].action, config.sites[0].on_demand
    assert (action.max_queued, action.max_connections, action.idle_connection_timeout) == (
        3,
        4,
        1.0,
    )
    assert action.breaker.failure_ratio == 0.5
    assert (demand.max_names, demand.max_new_per_hour, demand.forget_after) == (5, 6, 7 * 86400.0)
    told = [str(notice) for notice in parsed.notices]
    assert "c.yaml:2:1: queue: this key is called max_queued now (rename it)" in told
    assert (
        "c.yaml:8:15: sites[0].breaker.share: this key is called failure_ratio now (rename it)"
        in told
    )
    assert len(told) == 8


def test_an_old_and_a_new_name_together_are_a_fault(told):
    (line,) = told("sites: [{names: a.test, backend: 'http://h:1', queue: 1, max_queued: 2}]")
    assert "sites[0].queue: this is the old name of max_queued, which stands here too" in line


def test_a_fault_names_a_key_as_it_was_written(told):
    (line,) = told("sites: [{names: a.test, backend: 'http://h:1', queue: x}]")
    assert 'sites[0].queue: "x" is not a whole number' in line


def health_host(resolved, names, more=""):
    config = resolved(
        f"sites: [{{names: {names}, backend: 'http://h:1', health: {{path: /up{more}}}}}]"
    )
    action = config.sites[0].routes[0].action
    assert isinstance(action, ProxyAction)
    assert action.health is not None
    return action.health.host


def test_a_check_says_the_sites_name_as_host_like_any_request(resolved):
    assert health_host(resolved, "[a.test, b.test]") == "a.test"
    assert health_host(resolved, "['*.a.test']") is None, "then the backend's own address"
    assert health_host(resolved, "a.test", ", host: app.internal") == "app.internal"
    assert health_host(resolved, "a.test", ", host: 'app.internal:81'") == "app.internal:81"
    assert health_host(resolved, "'::1'") == "[::1]", "an authority (RFC 3986 §3.2.2)"
    config = resolved(
        "sites: [{names: a.test, backend: 'http://h:1', health: {path: /up}, preserve_host: no}]"
    )
    assert config.sites[0].routes[0].action.health.host is None


def test_the_host_of_requests_is_inherited_and_said_by_the_check_too(resolved):
    config = resolved(
        "request_headers: {host: 'outer.test:81', set: {X-A: b}}\n"
        "health: {path: /up}\n"
        "sites:\n"
        "  - {names: a.test, backend: 'http://h:1', request_headers: {set: {X-C: d}}}\n"
        "  - {names: b.test, backend: 'http://h:1', request_headers: {host: INNER.test.}}\n"
    )
    for site, host in zip(config.sites, ("outer.test:81", "inner.test"), strict=True):
        action = site.routes[0].action
        assert action.request_headers.host == host
        assert dict(action.request_headers.set)["x-a"] == "b"
        assert action.health.host == host


@pytest.mark.parametrize(
    ("top", "site", "sent"),
    [("", "", False), ("via: true", "", True), ("", ", via: true", True),
     ("via: true", ", via: false", False)],
)  # fmt: skip
def test_via_is_sent_where_the_site_or_all_of_them_say_so(resolved, top, site, sent):
    config = resolved(f"{top}\nsites: [{{names: a.test, backend: 'http://h:1'{site}}}]")
    assert config.sites[0].routes[0].action.via is sent


@pytest.mark.parametrize(
    ("words", "name", "same_site"),
    [("lb", "lb", "lax"), ("{name: lb}", "lb", "lax"),
     ("{name: lb, same_site: none}", "lb", "none"),
     ("{name: lb, same_site: strict}", "lb", "strict")],
)  # fmt: skip
def test_a_sticky_cookie_is_a_name_or_a_name_with_same_site(resolved, words, name, same_site):
    config = resolved(f"sites: [{{names: a.test, backend: 'http://h:1', sticky_cookie: {words}}}]")
    action = config.sites[0].routes[0].action
    assert action.sticky_cookie == StickyCookie(name=name, same_site=same_site)


def test_a_redirect_has_its_status_and_a_name_alone_refuses(resolved):
    config = resolved("sites: [{names: a.test, redirect: /x, status: 302}, {names: b.test}]")
    assert [site.routes[0].action for site in config.sites] == [
        RedirectAction("/x", 302),
        RefuseAction(404),
    ]


@pytest.mark.parametrize(
    ("word", "url", "given"),
    [
        ("letsencrypt", "https://acme-v02.api.letsencrypt.org/directory", False),
        ("letsencrypt-staging", "https://acme-staging-v02.api.letsencrypt.org/directory", False),
        ("internal", "internal", True),
        ("'https://ca.test/dir'", "https://ca.test/dir", True),
    ],
)
def test_a_ca_by_name_becomes_its_url(resolved, word, url, given):
    acme = resolved(f"acme: {{directory: {word}}}\n{SITE}").acme
    assert (acme.directory, acme.directory_given) == (url, given)


def test_a_fallback_inherits_who_asks_and_how_but_not_the_account(resolved):
    acme = resolved(
        "acme: {email: a@a.test, key_type: rsa-2048, challenges: http-01, profile: p, "
        "eab: {kid: k, hmac_key_file: f}, fallback: [{directory: 'https://b.test/', profile: q}, "
        "{directory: letsencrypt-staging, email: c@c.test}]}\n" + SITE
    ).acme
    first, second = acme.fallback
    assert (first.email, first.key_types, first.challenges) == (
        "a@a.test",
        ("rsa-2048",),
        ("http-01",),
    )
    assert (first.directory, first.profile, first.eab) == ("https://b.test/", "q", None)
    assert (second.email, second.profile) == ("c@c.test", None)
    assert second.directory.startswith("https://acme-staging")


def test_sections_that_are_off_unless_given(resolved):
    config = resolved(
        "admin: {listen: '127.0.0.1:2020'}\ntls: {min_version: '1.3', hsts: {max_age: 1w}}\n" + SITE
    )
    assert config.admin is not None
    assert config.admin.listen == Address("127.0.0.1", 2020)
    assert (config.tls.min_version, config.tls.hsts) == ("1.3", Hsts(604800.0))


def test_a_configuration_can_be_compared_and_kept(resolved):
    assert resolved(SITE) == resolved("sites:\n- names: [A.test.]\n  root: ./www\n")
    assert len({resolved(SITE).sites[0], resolved(SITE).sites[0]}) == 1


@pytest.mark.parametrize(
    ("runway", "expected"),
    [("15%", Runway(share=0.15)), ("7d", Runway(seconds=604_800.0)), ("7 %", Runway(share=0.07))],
)
def test_runway_is_a_share_or_a_length(resolved, runway: str, expected: Runway) -> None:
    config = resolved(f"alerts: {{command: /bin/true, runway: '{runway}'}}\n" + SITE)
    assert config.alerts.runway == expected


@pytest.mark.parametrize(
    ("mail", "security"),
    [("'m.test:587'", "starttls"), ("'m.test:465'", "implicit"), ("'m.test:25', tls: off", "off")],
)
def test_mail_is_secured_as_its_port_says(resolved, mail: str, security: str) -> None:
    text = (
        f"alerts: {{email: {{to: a@b, sender: c@d, smtp: {mail}, user: x, password_file: pw}}}}\n"
    )
    if security == "off":
        text = text.replace(", user: x, password_file: pw", "")
    config = resolved(text + SITE)
    assert config.alerts.email.security == security
    assert config.alerts.email.to == ("a@b",)
    if security != "off":
        assert config.alerts.email.password_file == Path("/etc/th/pw")
