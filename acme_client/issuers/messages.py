"""What a CA answers, parsed once into frozen values (RFC 8555 §7.1; RFC 9773 §4.2).

Strict where something is needed, and blind where it is not. What is missing from an order that has
no more use for it, a challenge of a kind that nobody here knows, a URL that is written relative to
the request's: all of that is seen in real CAs and stops nobody. An answer that lacks what the next
step needs is an `IssuanceError` of kind "nonsense", and nothing of it travels further.

The `acme` library's own classes are not used for these: they drop fields that are needed here
(explanationURL, challenges of unknown kinds) and stumble over what servers really send.

Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

from ..certificates.renewal import Window
from ..errors import IssuanceError, ProblemDocument
from ..late_dataclass import dataclass
from ..names import canonical
from .problem_documents import ACME, said, words

RATE_LIMITED = ACME + "rateLimited"
BAD_NONCE = ACME + "badNonce"
NO_ACCOUNT = ACME + "accountDoesNotExist"
UNAUTHORIZED = ACME + "unauthorized"
SERVER_INTERNAL = ACME + "serverInternal"
ACCOUNT_FROM_ELSEWHERE = ACME + "externalAccountRequired"
NOT_READY = ACME + "orderNotReady"
ALREADY_REVOKED = ACME + "alreadyRevoked"
# What CAs say of an order that replaces a certificate which they hold for replaced, do not know, or
# hold for somebody else's (the first by RFC 9773 §5, the others as Let's Encrypt does).
NOT_REPLACED = (ACME + "alreadyReplaced", ACME + "malformed", UNAUTHORIZED)
# A certificate or an account that does not go with the key a request was signed with.
NOT_OURS = (UNAUTHORIZED, NO_ACCOUNT)

# It becomes a file's name and a path, so nothing but base64url (RFC 8555 §8.1).
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,255}")
# Kinds that are answered with a token.
_WITH_TOKEN = ("http-01", "tls-alpn-01", "dns-01")


@dataclass(frozen=True, slots=True)
class Directory:
    """A CA's directory (RFC 8555 §7.1.1). URLs are None where it has no such resource; ``meta`` has
    all that the CA says about itself."""

    new_nonce: str
    new_account: str
    new_order: str
    revoke_certificate: str | None = None
    key_change: str | None = None
    renewal_info: str | None = None  # RFC 9773 §4.1
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def profiles(self) -> Mapping[str, Any]:
        """The CA's profiles, by name (draft-ietf-acme-profiles §3)."""
        found = self.meta.get("profiles")
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class OfferedChallenge:
    """A challenge of an authorization. ``token`` is empty for kinds that have none. ``whole``: with
    the fields of its own kind."""

    kind: str
    url: str
    token: str
    error: str | None
    said: ProblemDocument | None = None
    status: str = "pending"
    whole: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Authorization:
    """``name`` is empty, and there are no ``challenges``, where the CA leaves them out of one that
    needs no proof any more."""

    name: str
    status: str
    wildcard: bool
    challenges: tuple[OfferedChallenge, ...]


@dataclass(frozen=True, slots=True)
class OrderObject:
    """An order. ``error`` is the CA's text, if it carries one; ``finalize`` may be left out once
    the order is valid or invalid."""

    status: str
    authorizations: tuple[str, ...]
    finalize: str | None
    certificate: str | None
    error: str | None
    said: ProblemDocument | None = None


def document(body: bytes, what: str = "answer") -> dict[str, Any]:
    """Return the JSON object of an answer. Raises `IssuanceError` ("nonsense") for anything else;
    ``what`` names it there."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):  # the latter by ten thousand brackets
        raise IssuanceError("nonsense", f"the CA's {what} is not JSON") from None
    if not isinstance(value, dict):
        raise IssuanceError("nonsense", f"the CA's {what} is not a JSON object")
    return value


def directory(body: bytes, base: str = "") -> Directory:
    value = document(body, "directory")
    meta = value.get("meta")

    def optional(name: str) -> str | None:
        try:
            return None if value.get(name) is None else _url(value[name], base)
        except TypeError:
            return None

    try:
        return Directory(
            new_nonce=_url(value["newNonce"], base),
            new_account=_url(value["newAccount"], base),
            new_order=_url(value["newOrder"], base),
            revoke_certificate=optional("revokeCert"),
            key_change=optional("keyChange"),
            renewal_info=optional("renewalInfo"),
            meta=meta if isinstance(meta, dict) else {},
        )
    except (KeyError, TypeError) as error:
        raise IssuanceError(
            "nonsense", f"the CA's directory makes no sense: {_missing(error)}"
        ) from None


def account_status(body: bytes) -> str:
    """Return the state of an account (RFC 8555 §7.1.2); "valid" where the CA does not say: it has
    answered to its key."""
    status = document(body, "account").get("status")
    return status if isinstance(status, str) else "valid"


def order(body: bytes, base: str = "") -> OrderObject:
    """Read an order. ``base``: the URL that was asked, to which the others may be relative (RFC
    3986 §5.1.3)."""
    value = document(body, "order")
    try:
        status = _text(value["status"])
        listed = value.get("authorizations")
        if not isinstance(listed, list):
            if status == "pending":  # somebody has to prove something, and it does not say who
                raise TypeError("it is pending and lists no authorizations")
            listed = []
        return OrderObject(
            status=status,
            authorizations=tuple(_url(one, base) for one in listed),
            finalize=_optional_url(value.get("finalize"), base),
            certificate=_optional_url(value.get("certificate"), base),
            error=words(value["error"]) if value.get("error") else None,
            said=said(value.get("error")),
        )
    except (KeyError, TypeError) as error:
        raise IssuanceError("nonsense", f"the CA's order is not one: {_missing(error)}") from None


def authorization(body: bytes, base: str = "") -> Authorization:
    value = document(body, "authorization")
    try:
        status = _text(value["status"])
        pending = status == "pending"
        name, wildcard = _identified(value, needed=pending)
        return Authorization(
            name=name,
            status=status,
            wildcard=wildcard,
            challenges=_challenges(value.get("challenges"), base, needed=pending),
        )
    except (KeyError, TypeError) as error:
        raise IssuanceError(
            "nonsense", f"the CA's authorization is not one: {_missing(error)}"
        ) from None


def challenge(body: bytes, base: str = "") -> OfferedChallenge | None:
    """A challenge by itself, as the answer to its announcement; None for what is none."""
    try:
        return _challenge(document(body), base)
    except (IssuanceError, KeyError, TypeError):
        return None


def window(body: bytes) -> Window:
    value = document(body, "renewal information")
    try:
        suggested = value["suggestedWindow"]
        start, end = _moment(suggested["start"]), _moment(suggested["end"])
        explanation = value.get("explanationURL")
    except (KeyError, TypeError, ValueError) as error:
        raise IssuanceError(
            "nonsense", f"the CA's renewal information is not one: {_missing(error)}"
        ) from None
    if end < start:
        raise IssuanceError("nonsense", "the CA's renewal window ends before it starts")
    return Window(start, end, explanation if isinstance(explanation, str) else None)


def location(value: str | None, base: str) -> str | None:
    """Return the URL of a Location field (RFC 9110 §10.2.2); None where there is none."""
    try:
        return None if value is None else _url(value, base)
    except TypeError:
        return None


def _identified(value: dict[str, Any], *, needed: bool) -> tuple[str, bool]:
    """Return the name of an authorization, and whether it is for its wildcard. The RFC leaves out
    the asterisk of a wildcard (§7.1.4); some CAs send it."""
    identifier = value.get("identifier")
    if not needed and not isinstance(identifier, dict):
        return "", value.get("wildcard") is True
    if not isinstance(identifier, dict):
        raise TypeError("it does not say for which name it is")
    name = canonical(_text(identifier["value"]).strip().rstrip("."))
    return name.removeprefix("*."), value.get("wildcard") is True or name.startswith("*.")


def _challenges(listed: object, base: str, *, needed: bool) -> tuple[OfferedChallenge, ...]:
    """Read the challenges that can be understood. What is wrong with others is told only if no
    challenge is left."""
    if not isinstance(listed, list):
        if needed:
            raise TypeError("it is pending and lists no challenges")
        return ()
    found: list[OfferedChallenge] = []
    wrong: KeyError | TypeError | None = None
    for one in listed:
        try:
            found.append(_challenge(one, base))
        except (KeyError, TypeError) as error:
            wrong = wrong or error
    if needed and not found and wrong is not None:
        raise wrong
    return tuple(found)


def _challenge(one: object, base: str) -> OfferedChallenge:
    if not isinstance(one, dict):
        raise TypeError("a challenge that is no object")
    kind = _text(one["type"])
    token = _token(one.get("token")) if kind in _WITH_TOKEN else ""
    status = one.get("status")
    return OfferedChallenge(
        kind=kind,
        url=_url(one["url"], base),
        token=token,
        error=words(one["error"]) if one.get("error") else None,
        said=said(one.get("error")),
        status=status if isinstance(status, str) else "pending",
        whole=one,
    )


def _missing(error: KeyError | TypeError | ValueError) -> str:
    return f"it has no {error.args[0]}" if isinstance(error, KeyError) else str(error)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a string was expected")
    return value


def _url(value: object, base: str) -> str:
    """Return a URL, resolved against ``base`` (RFC 3986 §5). Raises TypeError for what is none."""
    text = _text(value).strip()
    try:
        resolved = urljoin(base, text) if text else ""
        parts = urlsplit(resolved)
    except ValueError:
        resolved, parts = "", urlsplit("")
    if parts.scheme not in ("https", "http") or not parts.netloc:
        raise TypeError(f"{text[:100]!r} is no URL")
    return resolved


def _optional_url(value: object, base: str) -> str | None:
    """Return a URL; None where there is none yet, which some CAs write as an empty text."""
    return None if value is None or value == "" else _url(value, base)


def _token(value: object) -> str:
    text = _text("" if value is None else value)
    if text and not _TOKEN.fullmatch(text):
        raise TypeError("a token that is not base64url")
    return text


def _moment(value: object) -> float:
    moment = datetime.fromisoformat(_text(value).strip().upper())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
