"""Alerts as others get them: the document for programs, the mail for people. Pure.

The document is an interface (docs/alerts.md): keys are added to it and never change their meaning.
"""

from __future__ import annotations

import email.contentmanager
import email.policy
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Any

from acme_client.text import printable, timestamp

from ..config.model import Mail
from .incidents import Notice

VERSION = 1
# `EmailMessage` imports these when the first one is made, which may be too late.
LOADED = (email.contentmanager, email.policy)
# More in one message nobody reads; how many there are is said.
MOST = 50
_SUBJECT = 120  # characters


def document(server: str, notices: Sequence[Notice], now: float) -> dict[str, Any]:
    """What a webhook and a command get."""
    return {
        "version": VERSION,
        "server": server,
        "at": timestamp(now),
        "text": text(server, notices),
        "alerts": [_entry(one) for one in notices[:MOST]],
        "left_out": max(len(notices) - MOST, 0),
    }


def _entry(notice: Notice) -> Mapping[str, Any]:
    return {
        "event": notice.event,
        "kind": notice.kind,
        "name": notice.name,
        "since": timestamp(notice.since),
        "text": notice.text,
        "next_step": notice.step,
        "certificate": notice.certificate,
    }


def text(server: str, notices: Sequence[Notice]) -> str:
    """The same in plain words, a line for each."""
    lines = [f"treehouse-proxy on {server}", *(_line(one) for one in notices[:MOST])]
    if len(notices) > MOST:
        lines.append(f"and {len(notices) - MOST} more: treehouse-proxy status")
    return "\n".join(map(printable, lines))


def _line(notice: Notice) -> str:
    match notice.event:
        case "over":
            return f"Over: {notice.text}."
        case "reminder":
            begin = "Still"
        case _:
            begin = "Alert"
    return f"{begin}: {notice.text}. Next step: {notice.step}."


def mail(settings: Mail, server: str, notices: Sequence[Notice], now: float) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = _subject(server, notices)
    message["From"] = _address(settings.sender)
    message["To"] = [_address(one) for one in settings.to]
    message["Date"] = datetime.fromtimestamp(now, UTC)
    # RFC 3834 §5: nobody's holiday is to answer.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text(server, notices) + "\n")
    return message


def _address(word: str) -> Address:
    user, _, domain = word.rpartition("@")
    return Address(username=user, domain=domain)


def _subject(server: str, notices: Sequence[Notice]) -> str:
    first, more = notices[0], len(notices) - 1
    mark = "over: " if all(one.event == "over" for one in notices) else ""
    subject = printable(f"[{server}] {mark}{first.text}")
    if len(subject) > _SUBJECT:
        subject = subject[: _SUBJECT - 1] + "…"
    return subject + (f" (and {more} more)" if more else "")
