"""What a CA answers, parsed once into frozen values (RFC 8555 §7.1, §6.7; RFC 9773 §4.2).

Pure. An answer that is not what the RFC promises is a `Problem` of kind "nonsense"; nothing of it
travels further. The `acme` library's own classes are not used for these: they drop fields that are
needed here (explanationURL, challenges of unknown kinds) and stumble over what servers really send.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..certificates.renewal import Window
from ..errors import Problem, Said
from ..printable import printable

_ACME = "urn:ietf:params:acme:error:"
RATE_LIMITED = _ACME + "rateLimited"
NO_ACCOUNT = _ACME + "accountDoesNotExist"
ACCOUNT_FROM_ELSEWHERE = _ACME + "externalAccountRequired"
NOT_READY = _ACME + "orderNotReady"
ALREADY_REVOKED = _ACME + "alreadyRevoked"
# What CAs say of an order that replaces a certificate which they hold for replaced, do not know, or
# hold for somebody else's (the first by RFC 9773 §5, the others as Let's Encrypt does).
NOT_REPLACED = (_ACME + "alreadyReplaced", _ACME + "malformed", _ACME + "unauthorized")
# A certificate or an account that does not go with the key a request was signed with.
NOT_OURS = (_ACME + "unauthorized", NO_ACCOUNT)

# It becomes a file's name and a path, so nothing but base64url (RFC 8555 §8.1).
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,255}")
# A CA's words go into the log and the status; they are cut where nobody reads on.
_LONGEST_TEXT = 2000
# Of a problem document: an order for a hundred names may have as many subproblems, and subproblems
# have none of their own (RFC 8555 §6.7.1).
_MOST_PARTS = 100


@dataclass(frozen=True, slots=True)
class Offered:
    """A challenge of an authorization. ``whole``: with the fields of its own kind."""

    kind: str
    url: str
    token: str
    error: str | None
    said: Said | None = None
    whole: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Authorization:
    name: str
    status: str
    wildcard: bool
    challenges: tuple[Offered, ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """An order. ``error`` is the CA's text, if it carries one."""

    status: str
    authorizations: tuple[str, ...]
    finalize: str
    certificate: str | None
    error: str | None
    said: Said | None = None


def document(body: bytes) -> dict[str, Any]:
    """A JSON object."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):  # the latter by ten thousand brackets
        raise Problem("nonsense", "the CA's answer is not JSON") from None
    if not isinstance(value, dict):
        raise Problem("nonsense", "the CA's answer is not a JSON object")
    return value


def order(body: bytes) -> Placed:
    value = document(body)
    try:
        certificate = value.get("certificate")
        return Placed(
            status=_text(value["status"]),
            authorizations=tuple(_text(url) for url in value["authorizations"]),
            finalize=_text(value["finalize"]),
            certificate=None if certificate is None else _text(certificate),
            error=words(value["error"]) if value.get("error") else None,
            said=said(value.get("error")),
        )
    except (KeyError, TypeError) as error:
        raise Problem("nonsense", f"the CA's order is not one: {error}") from None


def authorization(body: bytes) -> Authorization:
    value = document(body)
    try:
        return Authorization(
            name=_text(value["identifier"]["value"]),
            status=_text(value["status"]),
            wildcard=value.get("wildcard") is True,
            challenges=tuple(
                Offered(
                    kind=_text(one["type"]),
                    url=_text(one["url"]),
                    token=_token(one.get("token", "")),
                    error=words(one["error"]) if one.get("error") else None,
                    said=said(one.get("error")),
                    whole=one,
                )
                for one in value["challenges"]
            ),
        )
    except (KeyError, TypeError) as error:
        raise Problem("nonsense", f"the CA's authorization is not one: {error}") from None


def window(body: bytes) -> Window:
    value = document(body)
    try:
        suggested = value["suggestedWindow"]
        start, end = _moment(suggested["start"]), _moment(suggested["end"])
        explanation = value.get("explanationURL")
    except (KeyError, TypeError, ValueError) as error:
        raise Problem("nonsense", f"the CA's renewal information is not one: {error}") from None
    if end < start:
        raise Problem("nonsense", "the CA's renewal window ends before it starts")
    return Window(start, end, explanation if isinstance(explanation, str) else None)


def words(problem: Any) -> str:
    """A problem document in words (RFC 9457, RFC 8555 §6.7.1): the CA's own, subproblems with the
    names that they are about, and the type where it says more than they do."""
    if not isinstance(problem, dict):
        return "no reason given"
    typ = str(problem.get("type") or "").removeprefix(_ACME)
    text = str(problem.get("detail") or problem.get("title") or "no reason given")
    if typ and typ != "about:blank":
        text = f"{text} ({typ})"
    parts = [text]
    for sub in problem.get("subproblems") or ():
        if isinstance(sub, dict):
            identifier = sub.get("identifier")
            name = identifier.get("value") if isinstance(identifier, dict) else None
            parts.append(f"{name}: {words(sub)}" if name else words(sub))
    return printable("; ".join(parts))[:_LONGEST_TEXT]


def said(problem: Any, name: str | None = None, *, whole: bool = True) -> Said | None:
    """A problem document in its parts, for the record; None for what is none. ``name``: what it
    is about where it does not say so itself."""
    if not isinstance(problem, dict):
        return None
    identifier = problem.get("identifier")
    if isinstance(identifier, dict) and isinstance(identifier.get("value"), str):
        name = identifier["value"]
    listed = problem.get("subproblems") if whole else None
    parts = [said(one, whole=False) for one in listed] if isinstance(listed, list) else []
    return Said(
        typ=_cut(str(problem.get("type") or "").removeprefix(_ACME)),
        detail=_cut(str(problem.get("detail") or problem.get("title") or "")),
        name=None if name is None else _cut(name),
        parts=tuple(one for one in parts if one is not None)[:_MOST_PARTS],
    )


def _cut(text: str) -> str:
    return printable(text)[:_LONGEST_TEXT]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a string was expected")
    return value


def _token(value: Any) -> str:
    text = _text(value)
    if text and not _TOKEN.fullmatch(text):
        raise TypeError("a token that is not base64url")
    return text


def _moment(value: Any) -> float:
    moment = datetime.fromisoformat(_text(value))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
