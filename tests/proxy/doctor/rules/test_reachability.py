"""Who was met at a name's addresses, and what that means."""

from __future__ import annotations

import dataclasses

import pytest

from proxy.doctor.rules.reachability import Expected, HttpVisit, TlsVisit, http, tls

RUNNING = Expected(running=True, serial="ab", needs_http=True)
NOT_YET = Expected(running=False, serial=None, needs_http=True)
HIDDEN = Expected(running=True, serial=None, needs_http=True, told=False)
OURS = HttpVisit("192.0.2.1", "answer", True, 200)


@pytest.mark.parametrize(
    ("visit", "expected", "sign", "text"),
    [
        (OURS, RUNNING, "ok", "this server answers"),
        (HttpVisit("192.0.2.1", "answer", True, 200, hops=2), RUNNING, "ok", "after 2 redirects"),
        (
            HttpVisit("192.0.2.1", "answer", False, 404, "nginx"),
            RUNNING,
            "wrong",
            "somebody else answers (nginx)",
        ),
        (
            HttpVisit("192.0.2.1", "answer", False, 404),
            RUNNING,
            "wrong",
            "somebody else answers, with status 404",
        ),
        (
            HttpVisit("192.0.2.1", "answer", False, 403, "cloudflare"),
            RUNNING,
            "wrong",
            "Cloudflare answers",
        ),
        (
            HttpVisit("192.0.2.1", "answer", False, 404, "AkamaiGHost"),
            RUNNING,
            "wrong",
            "Akamai answers",
        ),
        (
            HttpVisit("192.0.2.1", "answer", False, 301, None, "https://x/"),
            RUNNING,
            "wrong",
            "go to https://x/",
        ),
        (HttpVisit("192.0.2.1", "refused"), RUNNING, "wrong", "nobody listens there, though"),
        (HttpVisit("192.0.2.1", "silent"), RUNNING, "wrong", "a firewall drops"),
        (
            HttpVisit("2001:db8::1", "unreachable", error="no route"),
            RUNNING,
            "attention",
            "no way there",
        ),
        (HttpVisit("192.0.2.1", "unreachable", error="no route"), RUNNING, "wrong", "no way there"),
        (HttpVisit("192.0.2.1", "refused"), NOT_YET, "ok", "as before a first start"),
        (HttpVisit("192.0.2.1", "silent"), NOT_YET, "attention", "a firewall may drop"),
        (
            HttpVisit("192.0.2.1", "answer", False, 200, "nginx"),
            NOT_YET,
            "attention",
            "somebody answers already (nginx)",
        ),
        (
            HttpVisit("2001:db8::1", "unreachable", error="no route"),
            NOT_YET,
            "unknown",
            "no way there",
        ),
    ],
)
def test_port_80(visit: HttpVisit, expected: Expected, sign: str, text: str) -> None:
    (finding,) = http("a.test", (visit,), expected)
    assert finding.sign == sign
    assert text in finding.text
    assert (finding.step is None) == (sign == "ok")


def test_port_80_is_not_needed_for_tls_alpn() -> None:
    (finding,) = http(
        "a.test",
        (HttpVisit("192.0.2.1", "refused"),),
        dataclasses.replace(RUNNING, needs_http=False),
    )
    assert finding.sign == "attention"


@pytest.mark.parametrize(
    ("visit", "expected", "sign", "text"),
    [
        (
            TlsVisit("192.0.2.1", "answer", "ab", ("a.test",)),
            RUNNING,
            "ok",
            "this server's certificate",
        ),
        (
            TlsVisit("192.0.2.1", "answer", "ab", ("a.test",), expired=True),
            RUNNING,
            "wrong",
            "has expired",
        ),
        (
            TlsVisit("192.0.2.1", "answer", "cd", ("b.test",), "Other CA"),
            RUNNING,
            "wrong",
            "of Other CA for b.test",
        ),
        (TlsVisit("192.0.2.1", "refused"), RUNNING, "wrong", "nobody listens"),
        (TlsVisit("192.0.2.1", "broken", error="eof"), RUNNING, "wrong", "TLS fails: eof"),
        (
            TlsVisit("192.0.2.1", "broken", error="alert"),
            dataclasses.replace(RUNNING, serial=None),
            "attention",
            "no certificate yet",
        ),
        (
            TlsVisit("192.0.2.1", "answer", "cd", ("b.test",)),
            NOT_YET,
            "attention",
            "somebody shows",
        ),
        (TlsVisit("192.0.2.1", "refused"), NOT_YET, "ok", "reached"),
    ],
)
def test_port_443(visit: TlsVisit, expected: Expected, sign: str, text: str) -> None:
    (finding,) = tls("a.test", (visit,), expected)
    assert finding.sign == sign
    assert text in finding.text


def test_ipv6_that_is_broken_while_ipv4_works() -> None:
    six = HttpVisit("2001:db8::1", "silent")
    *_, last = http("a.test", (OURS, six), RUNNING)
    assert last.sign == "attention"
    assert "IPv4 leads here and IPv6 does not" in last.text
    both = list(http("a.test", (OURS, dataclasses.replace(OURS, address="2001:db8::1")), RUNNING))
    assert len(both) == 2


def test_a_server_that_may_not_be_asked_is_not_called_somebody_else() -> None:
    (web,) = http("a.test", (HttpVisit("192.0.2.1", "answer", False, 404),), HIDDEN)
    (shown,) = tls("a.test", (TlsVisit("192.0.2.1", "answer", "cd", ("a.test",)),), HIDDEN)
    (nobody,) = http("a.test", (HttpVisit("192.0.2.1", "refused"),), HIDDEN)
    assert (web.sign, shown.sign, nobody.sign) == ("unknown", "unknown", "wrong")
