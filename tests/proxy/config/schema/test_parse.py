"""From words to sections: what is sound is kept, and what is not is told with its place."""

from __future__ import annotations

import re

import pytest

from proxy.config.model import HashKey
from proxy.config.schema.parse import validate
from proxy.config.syntax.yaml_reader import parse

SITE = "sites: [{names: [a.test], backend: 'http://x:1'%s}]"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("wokers: 4", "c.yaml:1:1: wokers: this key is not known (did you mean workers?)"),
        ("zzz: 4", "c.yaml:1:1: zzz: this key is not known (known here: listen, user,"),
        ("min_version: '1.2'", "this key is not known (it belongs under tls)"),
        ("acme: {email: x, hsts: 1}", "c.yaml:1:18: acme.hsts: this key is not known (it belongs under tls)"),
        ("tls: 1.3", "c.yaml:1:6: tls: a mapping of keys belongs here (write {min_version: 1.3})"),
        ("tls: [1.3]", "a mapping of keys belongs here"),
        ("sites: {names: a.test}", "c.yaml:1:8: sites: a list belongs here"),
        ("sites: a.test", "c.yaml:1:8: sites: a list belongs here"),
        ("sites: [a.test]", "c.yaml:1:9: sites[0]: a mapping of keys belongs here"),
        ("sites:\n- root: x", "c.yaml:2:3: sites[0].names: this key is missing (add it: Domain names"),
        ("sites:\n-", "sites[0].names: this key is missing"),
        ("sites: [{names: []}]", "sites[0].names: the list of names is empty"),
        (SITE % ", health: {interval: 1s}", "health.path: this key is missing (add it: Asked with GET"),
        (SITE % ", health: {pth: /}", "health.pth: this key is not known (did you mean path?)"),
        (SITE % ", backend_tls: {insecure: maybe}", "neither true nor false"),
        (SITE % ", status: 200", "did you mean|known here: 301, 302, 303, 307, 308"),
        (SITE % ", balance: roundrobin", "did you mean round_robin?"),
        (SITE % ", connections: 0", "out of bounds (choose between 1 and 100000)"),
        (SITE % ", connections: 1.5", "is not a whole number"),
        (SITE % ", connections: [1]", "a list stands where one value belongs"),
        (SITE % ", connections: {a: 1}", "a mapping stands where one value belongs"),
        (SITE % ", connections: ''", "there is no value"),
        (SITE % ", connect_timeout: 1d", "1d is out of bounds (choose between 10ms and 5m)"),
        (SITE % ", sticky_cookie: 'a b'", "is not the name of a cookie"),
        (SITE % ", hash_by: ip", "is nothing to hash by"),
        ("limits: {header_size: 1GB}", "out of bounds (choose between 1KiB and 1MiB)"),
        ("limits: {body_size: lots}", "is not a size"),
        ("workers: 0", "is not a number of workers"),
        ("workers: many", "is not a number of workers"),
        ("acme: {directory: letsencrpt}", "did you mean letsencrypt?"),
        ("acme: {challenges: dns-1}", '"dns-1" is not a challenge (did you mean dns-01?)'),
        ("acme: {challenges: [http-01, tls-alpn-02]}", "did you mean tls-alpn-01?"),
        ("acme: {challenges: http}", "did you mean http-01?"),
        ("acme: {email: ops}", "is not an e-mail address"),
        ("log: {access: '~/log'}", "starts with a tilde"),
        ("log: {access: \"a\\nb\"}", "characters that a path should not have"),
        ("state: %s" % ("x" * 5000), "longer than 4096 bytes"),
        ("sandbox: on", "is not known here"),
        ("trusted_proxies: 10.0.0.1/8", "c.yaml:1:18: trusted_proxies: "),
    ],
)  # fmt: skip
def test_a_slip_is_told_where_it_is(told, text, line):
    lines = told(text)
    pattern = "|".join(re.escape(part) for part in line.split("|"))
    assert any(re.search(pattern, each) for each in lines), lines


def test_all_slips_are_told_together_and_the_sound_rest_is_still_checked(told):
    lines = told(
        "limits: {header_timeout: soon, body_size: big}\n"
        "tls: {hsts: {max_age: never}}\n"
        "sites:\n"
        "  - {names: [a..b], root: x, conections: 1}\n"
        "  - {names: [b.test], routes: [{path: x, root: x}, {path: /y, rot: x}]}\n"
        "  - {names: [c.test], root: x}\n"
        "  - {names: [c.test], root: x}\n"
    )
    assert [line.split(": ")[1] for line in lines] == [
        "limits.header_timeout",
        "limits.body_size",
        "tls.hsts.max_age",
        "sites[0].names[0]",
        "sites[0].conections",
        "sites[1].routes[0].path",
        "sites[1].routes[1].rot",
        "sites[3].names[0]",
    ]


def test_a_broken_section_falls_back_to_its_defaults_and_is_named():
    document = parse("limits: {header_timeout: soon}\nworkers: 3", "c.yaml")
    parsed, faults = validate(document.value, document.origins)
    assert len(faults) == 1
    assert parsed.broken == {"limits"}
    assert parsed.document.workers == 3
    assert parsed.document.limits.header_timeout == 10.0


@pytest.mark.parametrize("empty", ["", "~", "null"])
def test_null_is_the_same_as_leaving_the_key_out(sections, empty):
    document = sections(
        f"listen: {empty}\nacme: {{email: {empty}, directory: {empty}}}\nworkers: {empty}\n"
        f"sites: [{{names: [a.test], root: x, backend: {empty}, default: {empty}}}]"
    )
    plain = sections("sites: [{names: [a.test], root: x}]")
    assert document.document == plain.document
    assert document.sites == plain.sites


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("names: a.test", "names: [a.test]"),
        ("names: a.test, backend: 'http://x:1'", "names: [a.test], backend: ['http://x:1']"),
        (
            "names: a.test, backend: 'http://x:1'",
            "names: [a.test], backend: {url: 'http://x:1', weight: 1}",
        ),
        (
            "names: a.test, routes: {path: /*, root: x}",
            "names: [a.test], routes: [{path: /*, root: x}]",
        ),
    ],
)
def test_a_list_of_one_may_be_written_without_its_brackets(sections, one, many):
    assert sections(f"sites: [{{{one}}}]").sites == sections(f"sites: [{{{many}}}]").sites


def test_words_of_every_kind_are_read(sections):
    parsed = sections(
        "workers: '4'\nfast_lane: off\nuvloop: No\ntls: {min_version: 1.3, hsts: {max_age: 60d}}\n"
        "limits: {body_size: unlimited, header_timeout: 1500ms}\nuser: 0777\n"
        + SITE
        % ", balance: hash, hash_by: 'header:X-User', preserve_host: false, pool_idle: 0"
    )
    document, site = parsed.document, parsed.sites[0][1]
    assert (document.workers, document.fast_lane, document.uvloop) == (4, False, False)
    assert document.tls.min_version == "1.3"
    assert document.tls.hsts.max_age == 60 * 86400
    assert (document.limits.body_size, document.limits.header_timeout) == (None, 1.5)
    assert document.user == "0777"  # a number in base ten, whatever YAML 1.1 would make of it
    assert site.hash_by == HashKey("header", "x-user")
    assert (site.preserve_host, site.idle_connection_timeout) == (False, 0.0)
