"""The record of a certificate: what is remembered between two starts, in ``meta.json``.

Reading is tolerant, because what stands here only saves work: an unknown key is left out, a value
of the wrong kind becomes the default, and a file that is no JSON at all becomes an empty record.
The certificate itself, not its record, says what it covers and how long it is valid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from ..errors import ProblemDocument
from ..late_dataclass import dataclass
from ..storage import documents
from ..x509.verify import CertificateAndKey, CertificateInfo
from .lifecycle import State
from .renewal import Window

# Raise the version when a key changes its meaning; a key may be added without.
VERSION = 1
# Attempts that ``why NAME`` shows: more than half a month of daily failures.
HISTORY = 20
# Certificates of which a record of several machines remembers when they were made.
MADE_LATELY = 3


@dataclass(frozen=True, slots=True)
class Attempt:
    at: float  # Unix seconds, when it ended
    outcome: str  # "obtained", or a key of errors.KINDS
    directory: str
    challenge: str | None = None  # "http-01", …; None where none was needed
    text: str = ""
    seconds: float | None = None  # how long it took
    said: ProblemDocument | None = None  # the CA's own problem document


@dataclass(frozen=True, slots=True)
class Proof:
    """Proves that a pair has been examined: the ``digest`` of its bytes, and the ``facts`` that its
    leaf states. While the bytes are the same, so are the facts; with thousands of certificates, to
    read each again at a start takes seconds."""

    digest: str
    facts: CertificateInfo

    @classmethod
    def of(cls, pair: CertificateAndKey, facts: CertificateInfo) -> Proof:
        return cls(_digest(pair), facts)

    def holds(self, pair: CertificateAndKey) -> bool:
        return self.digest == _digest(pair)


def _digest(pair: CertificateAndKey) -> str:
    return hashlib.sha256(b"\0".join((pair.chain_pem, pair.key_pem))).hexdigest()


@dataclass(frozen=True, slots=True)
class Made:
    """By which of several machines the certificate was made: the ``node``, a hash of its ``wishes``
    (`wishes.of`), and the CA's ``terms``; ``lately``: when certificates were made, the last of
    which is this one."""

    node: str
    wishes: str
    terms: tuple[str, ...] | None = None
    lately: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Revoked:
    """On which of several machines a person has had the certificate with this ``serial`` number
    revoked: the ``node`` that orders another one at once, whether or not it can tell the others."""

    node: str
    serial: str


@dataclass(frozen=True, slots=True)
class Record:
    """Moments are Unix seconds. ``serial`` to ``not_after`` are those of the certificate in use."""

    names: tuple[str, ...] = ()  # as configured when it was obtained or tried last
    key_type: str | None = None  # the same
    # CA, profile and external account of the last attempt (`ca_choice.terms`).
    terms: tuple[str, ...] | None = None
    source: str | None = None  # "acme" or "internal"
    directory: str | None = None  # of the CA that issued it
    account: str | None = None  # URL of the account that ordered it; None: not known
    serial: str | None = None
    not_before: float | None = None
    not_after: float | None = None
    renew_at: float | None = None  # drawn once
    state: State = State.MISSING
    # A new certificate is wanted though this one is good: a person asked, or other names are
    # wanted.
    wanted_anew: bool = False
    attempts: int = 0  # failures in a row
    last_error: str | None = None
    paused_at: float | None = None  # a pause is [paused_at, next_attempt]
    next_attempt: float | None = None
    interrupted: int = 0  # attempts begun since one came to an end
    tried_with: str | None = None  # what was configured then: `choices.fingerprint`
    window: Window | None = None  # ARI
    ask_at: float | None = None  # when to ask for the window next
    challenge: str | None = None  # the kind that worked last
    proof: Proof | None = None
    # Where several machines have the same certificates:
    made: Made | None = None
    tried_by: str | None = None  # the node that began the last attempt
    unshared: bool = False  # made while the others could not be told, and not told since
    revoked: Revoked | None = None
    history: tuple[Attempt, ...] = ()  # oldest first


def shared(record: Record) -> Record:
    """Return the record of a certificate that the other machines are told of."""
    return replace(record, unshared=False) if record.unshared else record


def with_revocation(record: Record, known: Record, node: str) -> Record:
    """Return the record of others with what this machine alone knows: that the certificate was
    revoked on it."""
    revoked = known.revoked
    if (
        revoked is None
        or record.revoked is not None
        or revoked != Revoked(node, record.serial or "")
    ):
        return record
    return replace(record, revoked=revoked)


T = TypeVar("T")
History = tuple[Attempt, ...]


def translated(
    history: History, translate: Callable[[Attempt], T], before: tuple[History, list[T]] | None
) -> tuple[History, list[T]]:
    """A history with each of its attempts in another form. ``before``: what this has led to last
    time, so that only a new attempt is translated: most of a record is its history, and a record is
    written and told far more often than an attempt is made."""
    if before is None:
        return history, [translate(one) for one in history]
    if before[0] is history:
        return before
    known = dict(zip(map(id, before[0]), before[1], strict=True))
    return history, [known[id(one)] if id(one) in known else translate(one) for one in history]


def to_json(record: Record, attempts: list[str] | None = None) -> bytes:
    """Encode a record. ``attempts``: the attempts of its history, if they are encoded already."""
    document: dict[str, Any] = {name: getattr(record, name) for name in _READERS}
    document["state"] = record.state.value
    del document["history"]
    if attempts is None:
        attempts = [documents.encode(one) for one in record.history]
    return documents.write(document, VERSION, {"history": documents.encoded_list(attempts)})


def from_json(data: bytes) -> Record:
    known: dict[str, Any] = {}
    for name, value in documents.read(data, VERSION).items():
        read = _READERS.get(name)
        if read is None or value is None:  # of which None is the default, or no value at all
            continue
        try:
            known[name] = read(value)
        except (KeyError, TypeError, ValueError):
            continue
    return Record(**known)


def _optional(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: Any) -> float:
    number = documents.number(value)
    if number is None:
        raise ValueError
    return number


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**6:
        raise ValueError
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(_text(one) for one in value)


def _window(value: Any) -> Window:
    return Window(
        _number(value["start"]), _number(value["end"]), _optional_text(value["explanation"])
    )


def _history(value: Any) -> tuple[Attempt, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(_attempt(one) for one in value[-HISTORY:])


def _attempt(one: Any) -> Attempt:
    return Attempt(
        at=_number(one["at"]),
        outcome=_text(one["outcome"]),
        directory=_text(one["directory"]),
        challenge=_optional_text(one["challenge"]),
        text=_text(one["text"]),
        seconds=_optional_number(one.get("seconds")),
        said=_optional_said(one.get("said")),
    )


def _said(value: Any) -> ProblemDocument:
    return ProblemDocument(
        typ=_text(value["typ"]),
        detail=_text(value["detail"]),
        name=_optional_text(value["name"]),
        parts=tuple(_said(one) for one in value["parts"]),
    )


def _proof(value: Any) -> Proof:
    facts = value["facts"]
    return Proof(
        _text(value["digest"]),
        CertificateInfo(
            names=_texts(facts["names"]),
            serial=_text(facts["serial"]),
            not_before=_number(facts["not_before"]),
            not_after=_number(facts["not_after"]),
            key_type=_text(facts["key_type"]),
        ),
    )


def _made(value: Any) -> Made:
    return Made(
        _text(value["node"]),
        _text(value["wishes"]),
        _optional(_texts)(value["terms"]),
        tuple(_number(one) for one in value["lately"][-MADE_LATELY:]),
    )


def _revoked(value: Any) -> Revoked:
    return Revoked(_text(value["node"]), _text(value["serial"]))


_optional_text, _optional_number = _optional(_text), _optional(_number)
_optional_said = _optional(_said)

_READERS: dict[str, Callable[[Any], Any]] = {
    "names": _texts,
    "terms": _optional(_texts),
    "key_type": _optional_text,
    "source": _optional_text,
    "directory": _optional_text,
    "account": _optional_text,
    "serial": _optional_text,
    "not_before": _optional_number,
    "not_after": _optional_number,
    "renew_at": _optional_number,
    "state": lambda value: State(_text(value)),
    "wanted_anew": lambda value: value is True,
    "attempts": _count,
    "last_error": _optional_text,
    "paused_at": _optional_number,
    "next_attempt": _optional_number,
    "interrupted": _count,
    "tried_with": _optional_text,
    "window": _optional(_window),
    "ask_at": _optional_number,
    "challenge": _optional_text,
    "proof": _optional(_proof),
    "made": _optional(_made),
    "tried_by": _optional_text,
    "unshared": lambda value: value is True,
    "revoked": _optional(_revoked),
    "history": _history,
}
