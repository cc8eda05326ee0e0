"""Keys of sites and routes that say who gets in and which fields are written: what is refused."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli.main import program


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def faults(folder: Path, rule: str) -> str:
    path = folder / "config.yaml"
    path.write_text(
        f"state: {folder}/state\nsites:\n  - names: [a.test]\n    backend: http://127.0.0.1:3000\n"
        f"    {rule}\n"
    )
    done = CliRunner().invoke(program, ["check", "--config", str(path)])
    return done.stderr if done.exit_code else ""


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("allow: [10.0.0.0/8, private, loopback, cloudflare, 2001:db8::1]", ""),
        ("allow: privat", "private"),
        ("allow: [10.0.0.1/8]", "write 10.0.0.0/8"),
        ("allow: [office]", "no set of addresses"),
        ('deny: ["file:"]', "names no file"),
        ("deny: [file:missing.txt]", "does not exist"),
        ("deny: [file:bad.txt]", "line 2"),
        ("deny: [file:good.txt]", ""),
        ("headers: {set: {X-Frame-Options: DENY}, remove: Server}", ""),
        ('headers: {set: {X-Who: "{client} {id}"}}', ""),
        ('headers: {set: {X-Who: "{user}"}}', "nothing to fill in"),
        ("headers: {set: {Content-Length: 5}}", "written by the protocol"),
        ("headers: {set: {transfer-encoding: chunked}}", "written by the protocol"),
        ("headers: {set: {Connection: close}}", "written by the protocol"),
        ('headers: {set: {"X Y": z}}', "no name of a field"),
        ('headers: {set: {X: "a\\r\\nSet-Cookie: b"}}', "characters that a field's value"),
        ("headers: {set: [X]}", "mapping"),
        ("headers: {set: {X: [a, b]}}", "single value"),
        ("headers: {security: strong}", "strict"),
        ("request_headers: {set: {X-Api-Key: abc}, remove: [X-Forwarded-For, Cookie]}", ""),
        ("request_headers: {set: {X-Forwarded-For: 1.2.3.4}}", "written by the server"),
        ("request_headers: {add: {Forwarded: for=x}}", "written by the server"),
        ("request_headers: {set: {Host: other.test}}", "preserve_host"),
        ("request_headers: {set: {Host: other.test}}", "write request_headers: {host: NAME}"),
        ("request_headers: {host: other.test}", ""),
        ("request_headers: {host: 'other.test:8080'}", ""),
        ("request_headers: {host: '[::1]:8080'}", ""),
        ("request_headers: {host: 'other.test:0'}", "port that does not exist"),
        ("request_headers: {host: 'other.test:65536'}", "port that does not exist"),
        ("request_headers: {host: 'https://other.test'}", "give the host alone"),
        ("request_headers: {host: other.test/x}", "give the host alone"),
        ("request_headers: {host: '*.other.test'}", "a pattern"),
        ("request_headers: {host: '{host}'}", "Host is a fixed name"),
        ('request_headers: {host: "a.test\\r\\nX: y"}', "several names"),
        ("request_headers: {remove: [Content-Length]}", "written by the protocol"),
        ("request_headers: {set: {X-Request-Id: x}}", "written by the server"),
    ],
)
def test_a_rule_is_sound_or_refused_with_the_way_out(folder: Path, rule: str, said: str) -> None:
    (folder / "good.txt").write_text("# staff\n192.0.2.0/24\n\n2001:db8::/32 # home\n")
    (folder / "bad.txt").write_text("192.0.2.0/24\nnobody\n")
    found = faults(folder, rule)
    if said:
        assert said in found
        assert "config.yaml:5:" in found
    else:
        assert found == ""


def test_rules_add_up_or_replace_from_the_outside_in(folder: Path) -> None:
    from proxy.config.load import load
    from proxy.config.sources.flags import Options

    path = folder / "config.yaml"
    path.write_text(
        f"state: {folder}/state\nallow: [10.0.0.0/8]\n"
        "headers: {set: {A: top, B: top}, remove: [Server]}\n"
        "sites:\n  - names: [a.test]\n    headers: {set: {B: site}}\n    routes:\n"
        "      - {path: /x/*, backend: 'http://127.0.0.1:1', allow: [192.0.2.0/24],\n"
        "         headers: {add: {C: route}, remove: [A]}}\n"
        "      - {path: /*, backend: 'http://127.0.0.1:1'}\n"
    )
    inner, outer = load(Options(config=path), now_uid=0).sites[0].routes
    assert inner.rules.headers.set == (("b", "site"),)
    assert inner.rules.headers.add == (("c", "route"),)
    assert inner.rules.headers.remove == ("server", "a")
    assert outer.rules.headers.set == (("a", "top"), ("b", "site"))
    assert [one.name for one in inner.rules.allow or ()] == ["192.0.2.0/24"]
    assert [one.name for one in outer.rules.allow or ()] == ["10.0.0.0/8"]
