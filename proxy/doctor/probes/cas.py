"""Asking the CAs, as far as they can be asked without an account: the directory, and the time; and
reading what the state directory has of accounts and limits, where we may."""

from __future__ import annotations

import json
import time
from email.utils import parsedate_to_datetime
from typing import Any

from acme_client.errors import IssuanceError
from acme_client.issuers import messages as answers
from acme_client.issuers.transport import Transport, trust
from acme_client.link import Authority
from acme_client.rate_limits.ledger import Ledger
from acme_client.storage.store import Store

from ..rules.cas import Directory


def directory(authority: Authority, user_agent: str) -> tuple[Directory, float | None]:
    """And how many seconds our clock is ahead of its."""
    url = authority.directory
    try:
        with Transport(user_agent, trust(authority.ca_pem), time.time) as transport:
            asked = time.time()
            response = transport.read(url)
            answered = time.time()
            document = answers.document(response.content)
            date = response.headers.get("Date")
    except IssuanceError as problem:
        return Directory(url, problem.text, untimely=problem.kind == "clock"), None
    if not isinstance(document.get("newOrder"), str):
        return Directory(url, "what answers there is no ACME directory: it has no newOrder"), None
    meta = document.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    profiles = meta.get("profiles")
    return (
        Directory(
            url,
            identities=_texts(meta.get("caaIdentities")),
            profiles=tuple(profiles) if isinstance(profiles, dict) else (),
            account_required=meta.get("externalAccountRequired") is True,
            renewal_info="renewalInfo" in document,
        ),
        _ahead(date, asked, answered),
    )


def _texts(value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else ()
    return tuple(one.lower().rstrip(".") for one in listed if isinstance(one, str))


def _ahead(date: str | None, asked: float, answered: float) -> float | None:
    """Date has whole seconds, cut off, and was written somewhere between the two moments."""
    if date is None:
        return None
    try:
        theirs = parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
    if asked - 1 <= theirs + 1 and theirs <= answered + 1:
        return 0.0
    return (asked + answered) / 2 - (theirs + 0.5)


def account(store: Store, authority: Authority) -> tuple[bool | None, str | None]:
    """Whether there is one, and its URL; None where that cannot be seen."""
    try:
        folders = [store.load(f"accounts/{name}") for name in store.list("accounts")]
    except OSError:
        return None, None
    for files in folders:
        try:
            document = json.loads(files.get("account.json", b""))
            if document["directory"] == authority.directory:
                return True, str(document["uri"])
        except (KeyError, ValueError, TypeError):
            continue
    return False, None


def costs(
    store: Store, authority: Authority, names: tuple[str, ...], renewal: bool
) -> tuple[str, ...]:
    try:
        return tuple(Ledger(store, time.time).costs(authority.directory, [names], renewal=renewal))
    except OSError:
        return ()
