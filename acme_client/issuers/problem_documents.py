"""Reads the problem documents of CAs (RFC 9457, RFC 8555 §6.7), whatever they made of them.

A refusal comes as the RFC wants it, as another program's JSON, as a web page of something in
between, or with a list where a null should be. None of that may hide what decides how to go on: the
type of the error, and when to come back. So nothing here fails: what cannot be read is left out.

Pure.
"""

from __future__ import annotations

import json
from typing import Any

from ..errors import ProblemDocument
from ..text import printable

ACME = "urn:ietf:params:acme:error:"
# Before the RFC (Let's Encrypt's first interface, and servers that copied it).
_OLD_PREFIXES = ("urn:acme:error:", "urn:ietf:params:acme:errors:", "urn:ietf:params:acme:")

# A CA's words go into the log and the status; they are cut where nobody reads on.
_LONGEST_TEXT = 2000
# An order for a hundred names may have as many subproblems, and subproblems have none of their own
# (RFC 8555 §6.7.1).
_MOST_PARTS = 100
# Where the words are, by RFC 9457 first; then as other programs' interfaces name it: smallstep's
# and Go's "message", OAuth's, Google's {"error": {"message": …}}, Vault's {"errors": […]}.
_WORDS = ("detail", "title", "message", "error_description", "error", "errors")


def read(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a refusal; an empty one for anything else."""
    for text in (body, body.decode("latin-1")):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            continue
        # A list of problems is no problem document, but its first one may say why.
        if isinstance(value, list) and value:
            value = value[0]
        return value if isinstance(value, dict) else {}
    return {}


def type_of(problem: object) -> str | None:
    """Return the type, with the prefix of RFC 8555 for those that have an older one; None where
    there is none."""
    typ = problem.get("type") if isinstance(problem, dict) else None
    if not isinstance(typ, str) or not typ.strip():
        return None
    typ = typ.strip()
    if typ.startswith(ACME):
        return typ
    for prefix in _OLD_PREFIXES:
        if typ.startswith(prefix):
            return ACME + typ.removeprefix(prefix)
    return typ


def said(problem: object, *, whole: bool = True) -> ProblemDocument | None:
    """Return a problem document in its parts; None for what is none. ``whole``: with its
    subproblems."""
    if not isinstance(problem, dict):
        return None
    parts = list(_subproblems(problem.get("subproblems"))) if whole else []
    return ProblemDocument(
        typ=_cut((type_of(problem) or "").removeprefix(ACME)),
        detail=_cut(_words(problem)),
        name=_name(problem.get("identifier")),
        parts=tuple(parts[:_MOST_PARTS]),
    )


def words(problem: object) -> str:
    """Put a problem document into words: the CA's own, subproblems with the names that they are
    about, and the type where it says more than they do."""
    document = said(problem)
    return in_words(document) if document is not None else "no reason given"


def in_words(document: ProblemDocument) -> str:
    text = document.detail or "no reason given"
    if document.typ and document.typ != "about:blank":
        text = f"{text} ({document.typ})"
    parts = [
        f"{one.name}: {in_words(one)}" if one.name else in_words(one) for one in document.parts
    ]
    return _cut("; ".join((text, *parts)))


def _subproblems(listed: object) -> list[ProblemDocument]:
    """Read a list of subproblems, or a single one; entries that are no documents are left out."""
    if isinstance(listed, dict):
        listed = [listed]
    if not isinstance(listed, list):
        return []
    found = (said(one, whole=False) for one in listed)
    return [one for one in found if one is not None]


def _name(identifier: object) -> str | None:
    value = identifier.get("value") if isinstance(identifier, dict) else identifier
    return _cut(value) if isinstance(value, str) and value else None


def _words(problem: dict[str, Any]) -> str:
    for key in _WORDS:
        value = problem.get(key)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, dict):
            value = value.get("message") or value.get("detail")
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
    return ""


def _cut(text: str) -> str:
    return printable(text)[:_LONGEST_TEXT]
