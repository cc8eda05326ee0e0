"""Alerts as programs and people get them."""

from __future__ import annotations

import email
import email.policy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.alerts.incidents import Notice
from proxy.alerts.notices import MOST, document, mail
from proxy.config.model import Address, Mail

NOW = 1_795_500_000.0
SETTINGS = Mail(
    ("ops@example.org", "boss@example.org"), "th@example.org", Address("mail.test", 587)
)


def notice(
    event: Any = "alert", text: str = "a.test: it ends", name: str | None = "a.test"
) -> Notice:
    return Notice(event, "runway_short", name, NOW - 60, text, "renew it", {"state": "due"})


def test_the_document() -> None:
    assert document("web1", [notice()], NOW) == {
        "version": 1,
        "server": "web1",
        "at": "2026-11-24T06:00:00Z",
        "text": "treehouse-proxy on web1\nAlert: a.test: it ends. Next step: renew it.",
        "alerts": [
            {
                "event": "alert",
                "kind": "runway_short",
                "name": "a.test",
                "since": "2026-11-24T05:59:00Z",
                "text": "a.test: it ends",
                "next_step": "renew it",
                "certificate": {"state": "due"},
            }
        ],
        "left_out": 0,
    }


def test_a_thousand_are_one_message_that_somebody_can_read() -> None:
    made = document("web1", [notice(name=f"{n}.test") for n in range(1000)], NOW)
    assert len(made["alerts"]) == MOST
    assert made["left_out"] == 1000 - MOST
    assert made["text"].endswith("and 950 more: treehouse-proxy status")


def test_a_mail() -> None:
    message = mail(SETTINGS, "web1", [notice(), notice("over", "b.test: well again")], NOW)
    parsed = email.message_from_bytes(message.as_bytes(), policy=email.policy.default)
    assert parsed["Subject"] == "[web1] a.test: it ends (and 1 more)"
    assert (parsed["From"], parsed["To"]) == ("th@example.org", "ops@example.org, boss@example.org")
    assert parsed["Date"] == "Tue, 24 Nov 2026 06:00:00 +0000"
    assert parsed.get_content().splitlines()[1:] == [
        "Alert: a.test: it ends. Next step: renew it.",
        "Over: b.test: well again.",
    ]


def test_the_end_of_everything_shows_in_the_subject() -> None:
    assert mail(SETTINGS, "web1", [notice("over", "a.test: well again")], NOW)["Subject"] == (
        "[web1] over: a.test: well again"
    )


@given(st.text(), st.text())
def test_nothing_anybody_says_becomes_a_field_or_a_line(server: str, text: str) -> None:
    one = notice(text=text)
    message = mail(SETTINGS, server, [one], NOW)
    raw = message.as_bytes(policy=email.policy.SMTP)
    parsed = email.message_from_bytes(raw, policy=email.policy.default)
    assert sorted(parsed.keys()) == sorted(
        [
            "Subject",
            "From",
            "To",
            "Date",
            "Auto-Submitted",
            "Content-Type",
            "Content-Transfer-Encoding",
            "MIME-Version",
        ]
    )
    assert len(parsed.get_content().splitlines()) == 2
    json.dumps(document(server, [one], NOW)).encode()
