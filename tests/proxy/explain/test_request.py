"""``explain`` tells of each part of a request's way what it is, and where the configuration says so."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli.main import program

TEXT = """\
tls: {{hsts: {{max_age: 60d}}}}
trusted_proxies: [10.0.0.0/8]
balance: hash
state: {folder}/state
sites:
  - names: [a.test, "*.a.test"]
    rate_limit: [{{rate: 2/s, burst: 3}}]
    routes:
      - {{path: /api/*, backend: [http://127.0.0.1:8000, http://127.0.0.1:8001], balance: least_conn}}
      - {{path: /one/*, backend: "http://127.0.0.1:9000/app", preserve_host: false}}
      - path: /inside/*
        backend: http://127.0.0.1:8000
        body_size: unlimited
        cors: off
        forward_auth: {{url: "http://127.0.0.1:9091/auth?token=secret", copy: [Remote-User]}}
      - path: /shared/*
        backend: http://127.0.0.1:8000
        forward_auth: {{url: "http://127.0.0.1:9091/auth"}}
        cors: {{origins: ["https://app.test"]}}
      - {{path: /old/*, redirect: "https://b.test/{{rest}}"}}
      - path: /*
        root: {folder}/www
      - {{path: /api/inner/*, backend: [http://127.0.0.1:8000, http://127.0.0.1:8001], balance: least_conn, deny: [192.0.2.1]}}
"""

# What `page` gives for the words of a command.
Page = Callable[..., list[tuple[str, str, str]]]


@pytest.fixture
def config(open_folder: Path) -> Path:
    root = open_folder / "www"
    root.mkdir()
    (root / "index.html").write_text("hello")
    path = open_folder / "config.yaml"
    path.write_text(TEXT.format(folder=open_folder))
    return path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["https://a.test/api/x?y=1"], [
            ("certificate", "for a.test, from the built-in CA", "6:5"),
            ("site", "a.test", "6:5"),
            ("route", "/api/*", "9:10"),
            ("filter", "rate limit: 2 a second, 3 at once, by address", "7:5"),
            ("filter", "Strict-Transport-Security for 8w4d", "1:7"),
            ("rule", "balance: least_conn", "9:81"),
            ("backend", "one of http://127.0.0.1:8000, http://127.0.0.1:8001 by least_conn", "9:24"),
            ("sent on", "GET /api/x?y=1 HTTP/1.1", ""),
            ("sent on", "host: a.test", ""),
        ]),
        (["PUT", "https://a.test/one/x"], [
            ("rule", "balance: hash", "3:1"),
            ("rule", "preserve_host: false", "10:62"),
            ("backend", "http://127.0.0.1:9000/app", "10:24"),
            ("sent on", "PUT /app/one/x HTTP/1.1", ""),
            ("sent on", "host: 127.0.0.1:9000", ""),
        ]),
        (["PUT", "https://a.test/inside/x?y", "-H", "Remote-User: root"], [
            ("rule", "body_size: unlimited", "13:9"),
            ("rule", "cors: off", "14:9"),
            ("login service", "http://127.0.0.1:9091/auth: 2xx lets in, all else is the answer",
             "15:9"),
            ("asked", "GET /auth HTTP/1.1", ""),
            ("asked", "x-forwarded-method: PUT", ""),
            ("asked", "x-original-url: https://a.test/inside/x?y", ""),
            ("sent on", "PUT /inside/x?y HTTP/1.1", ""),
        ]),
        (["OPTIONS", "https://a.test/shared/x", "-H", "Origin: https://app.test",
          "-H", "Access-Control-Request-Method: GET"], [
            ("answer", "204, to a preflight, before any login", "19:9"),
            ("answer", "access-control-allow-origin: https://app.test", ""),
            ("answer", "access-control-allow-methods: GET, HEAD, POST", ""),
        ]),
        (["https://x.a.test/old/a%20b"], [
            ("certificate", "for *.a.test, from the built-in CA", "6:5"),
            ("answer", "308, Location: https://b.test/a%20b", "20:24"),
        ]),
        (["https://a.test/"], [
            ("answer", "200, content-type: text/html; charset=utf-8, content-length: 5", ""),
        ]),
        (["https://a.test/nothing"], [("answer", "404 There is nothing here. (not_found)", "")]),
        (["http://a.test/x?y"], [("answer", "308, Location: https://a.test/x?y", "")]),
        (["http://a.test/.well-known/acme-challenge/x"], [
            ("answer", "the challenge's key authorization if the token is known, else 404", ""),
        ]),
        (["https://c.test/"], [
            ("certificate", ("none: no site has this name, and the TLS handshake ends with "
             "unrecognized_name"), ""),
        ]),
        (["a.test:8443/"], [
            ("listener", "nothing listens on port 8443 for https; there is: :443", ""),
        ]),
        (["https://a.test/", "--from", "10.1.2.3", "-H", "X-Forwarded-For: 203.0.113.9"], [
            ("client", "203.0.113.9, as the trusted proxy 10.1.2.3 says", "2:1"),
        ]),
        (["https://a.test/", "--from", "203.0.113.1", "-H", "X-Forwarded-For: 203.0.113.9"], [
            ("client", "203.0.113.1", ""),
        ]),
    ],
    ids=lambda one: one[-1] if isinstance(one, list) and isinstance(one[0], str) else "",
)  # fmt: skip
def test_a_request_meets(
    page: Page, words: list[str], expected: list[tuple[str, str, str]]
) -> None:
    found = page(*words)
    for row in expected:
        assert row in found, found
    assert not [row for row in found if "secret" in row[1] or "root" in row[1]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["get", "https://a.test/"], "400"),
        (["https://a.test/api/..%2fx"], "bad_path"),
        (["https://a.test/api/x/..;/inner/x"], "bad_path"),  # other filters for Tomcat
        (["https://a.test/api/x/..%2finner/x"], "bad_path"),
        (["https://a.test/", "-H", "Transfer-Encoding: gzip, chunked"], "501"),
        (["https://a.test/", "-H", "Content-Length: 1", "-H", "Content-Length: 2"], "400"),
    ],
)
def test_a_request_that_would_be_refused_says_why(page: Page, words: list[str], said: str) -> None:
    (title, text, _place) = page(*words)[-1]
    assert title == "answer"
    assert said in text


def test_the_page_for_people(config: Path) -> None:
    done = CliRunner().invoke(program, ["explain", "https://a.test/", "--config", str(config)])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "request      GET https://a.test/"
    assert f"site         a.test  [{config}:6:5]" in lines
    assert f"             Strict-Transport-Security for 8w4d  [{config}:1:7]" in lines


def test_keys_are_told_as_they_stand_in_the_file(open_folder: Path) -> None:
    keys = (
        "workers: 3", "via: true", "limits: {connections: 5000, header_timeout: 9s}",
        "body_size: 1MiB", "compress: false", "response_timeout: 7s", "idle_timeout: 8s",
        "wait_for_backend: 3s", "queue: 5",
    )  # fmt: skip
    path = open_folder / "ordered.yaml"
    path.write_text(
        "\n".join(keys) + "\nsites: [{names: [a.test], backend: 'http://127.0.0.1:3'}]\n"
    )
    done = CliRunner().invoke(program, ["explain", "https://a.test/", "--config", str(path)])
    assert done.exit_code == 0, done.output
    for title in ("setting", "rule"):
        rows = re.findall(rf"(?m)^{title}(.*(?:\n .*)*)", done.stdout)
        places = [int(line) for line in re.findall(r"ordered.yaml:(\d+):\d+\]", "".join(rows))]
        assert len(places) > 2
        assert places == sorted(places)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ftp://a.test/"], "write it like https://example.org/"),
        (["https:///x"], "write it like https://example.org/"),
        (["https://a.test:99999/"], "a number from 0 to 65535"),
        (["GET", "https://a.test/", "https://b.test/"], "one request at a time"),
        (["https://a.test/", "--from", "nobody"], "nobody is no address of a client"),
    ],
)
def test_what_is_no_request(config: Path, words: list[str], said: str) -> None:
    done = CliRunner().invoke(program, ["explain", *words, "--config", str(config)])
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_faulty_configuration_is_told_as_check_tells_it(config: Path) -> None:
    config.write_text(config.read_text() + "nonsense: 1\n")
    done = CliRunner().invoke(program, ["explain", "https://a.test/", "--config", str(config)])
    assert done.exit_code == 2
    assert "nonsense" in done.stderr


def test_what_is_said_of_a_trace(config: Path) -> None:
    text = config.read_text()
    config.write_text('tracing: {otlp: "http://127.0.0.1:4318", sample: 5%}\n' + text)
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    field = f"traceparent: 00-{trace}-00f067aa0ba902b7-01"
    words = ["explain", "https://a.test/one/x", "-H", field, "--config", str(config)]
    page = CliRunner().invoke(program, words).output
    assert field not in page  # it is not passed on as it came
    assert f"traceparent: of trace {trace}" in page
    assert "5% of the requests" in page
    config.write_text(text)
    assert field in CliRunner().invoke(program, words).output
