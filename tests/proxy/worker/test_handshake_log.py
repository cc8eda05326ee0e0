"""What an operator reads about handshakes that failed, and how often."""

from __future__ import annotations

import pytest

from proxy.worker.handshake_log import HandshakeLog, plainly


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level("INFO", "treehouse.worker")
    return caplog


def test_a_name_is_told_once_a_minute(told: pytest.LogCaptureFixture) -> None:
    log = HandshakeLog()
    for now in range(59):
        log.unknown_name("typo.test", "192.0.2.1", 1000.0 + now)
    assert [one.getMessage() for one in told.records] == [
        "a TLS handshake of 192.0.2.1 was refused: no site is called typo.test, or it has no certificate yet"
    ]
    assert told.records[0].levelname == "WARNING"
    assert vars(told.records[0]).items() >= {"peer": "192.0.2.1", "site": "typo.test"}.items()
    log.unknown_name("typo.test", "192.0.2.1", 1061.0)
    assert len(told.records) == 2


def test_a_flood_of_names_is_a_few_lines(told: pytest.LogCaptureFixture) -> None:
    log = HandshakeLog()
    for number in range(5000):
        log.unknown_name(f"{number}.test", "192.0.2.1", 1000.0 + number / 100)
    assert len(told.records) == 20
    log.unknown_name("late.test", "192.0.2.1", 1061.0)
    assert "4980 more names" in told.records[-2].getMessage()
    assert "late.test" in told.records[-1].getMessage()
    assert len(log._names) <= 1024


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "a b", "ü.test", "\x00"])
def test_a_name_cannot_drive_a_terminal(told: pytest.LogCaptureFixture, name: str) -> None:
    HandshakeLog().unknown_name(name, "192.0.2.1", 0.0)
    words = told.records[0].getMessage().removeprefix("a TLS handshake of 192.0.2.1 was refused: ")
    assert words.isprintable()
    assert words.isascii()
    assert name not in words


def test_reasons_are_counted(told: pytest.LogCaptureFixture) -> None:
    log = HandshakeLog()
    for now in range(3):
        log.failed("no shared cipher", "192.0.2.1", float(now))
        log.unknown_name("", "192.0.2.2", float(now))
    log.failed("no shared cipher", "192.0.2.3", 61.0)
    assert [one.getMessage() for one in told.records] == [
        "a TLS handshake of 192.0.2.1 failed: the client offers no cipher suite that is used here",
        "a TLS handshake of 192.0.2.2 failed: the client names no site, and no default site has a certificate",
        "a TLS handshake of 192.0.2.3 failed: the client offers no cipher suite that is used here (and 2 more since)",
    ]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("tlsv1 alert unknown ca", "the client refused it: unknown ca"),
        ("sslv3 alert certificate unknown", "the client refused it: certificate unknown"),
        ("ssl/tls alert bad certificate", "the client refused it: bad certificate"),
        (
            "certificate verify failed: certificate has expired",
            "the client's certificate is not accepted: certificate has expired",
        ),
        ("something else", "something else"),
    ],
)
def test_openssl_in_plain_words(reason: str, words: str) -> None:
    assert plainly(reason) == words
