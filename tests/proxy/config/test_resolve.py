"""From sound sections to what the program uses: absolute, numbered, in one form."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from proxy.config.model import (
    Address,
    Backend,
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
    RedirectAction,
    RefuseAction,
    Route,
    Runway,
    Tsig,
)
from proxy.config.resolve import Surroundings, resolve

AROUND = Surroundings(Path("/etc/th"), Path("/var/state"), 65534, 65533, Path("/etc/th/c.yaml"))
SITE = "sites: [{names: a.test, root: www}]\n"


@pytest.fixture
def resolved(sections):
    def read(text: str) -> Config:
        parsed = sections(text)
        return resolve(parsed.document, (site for _, site in parsed.sites), AROUND)

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
    assert config.sites[0].routes == (
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
                pool_idle=4.0,
                connections=5,
                preserve_host=False,
                hash_key=HashKey("cookie", "sid"),
                sticky_cookie="lb",
            ),
        ),
    )


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
    assert health_host(resolved, "['*.a.test']") == "", "then the backend's own address"
    assert health_host(resolved, "a.test", ", host: app.internal") == "app.internal"
    config = resolved(
        "sites: [{names: a.test, backend: 'http://h:1', health: {path: /up}, preserve_host: no}]"
    )
    assert config.sites[0].routes[0].action.health.host == ""


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
    assert (action.sticky_cookie, action.sticky_same_site) == (name, same_site)


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
