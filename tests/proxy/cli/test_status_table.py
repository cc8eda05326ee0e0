"""The tables of ``status``, as scripts, mails and terminals get them."""

from __future__ import annotations

import pytest

from proxy.cli.status_table import show_certificates

LONG = "a-rather-long-name-of-a-site.example.org"
DOCUMENT = {
    "certificates": [
        {
            "names": [LONG, "www." + LONG],
            "source": "acme",
            "key_type": "ecdsa-p256",
            "state": "failed",
            "not_after": None,
            "served": False,
            "renew_at": None,
            "last_error": "[url] the CA could not reach port 80 of 192.0.2.1: connection refused",
        }
    ]
}


def test_nothing_is_cut_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    show_certificates(DOCUMENT)
    said = capsys.readouterr().out
    for text in (*DOCUMENT["certificates"][0]["names"], DOCUMENT["certificates"][0]["last_error"]):
        assert text in said


def test_a_width_that_was_asked_for_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    show_certificates(DOCUMENT)
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert max(map(len, lines)) <= 60
