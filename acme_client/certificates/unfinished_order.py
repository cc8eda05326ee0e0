"""Notes an order that a CA has taken, until its certificate is on disk.

When a CA has been sent a CSR it issues, and counts the certificate against its limits (Let's
Encrypt: five a week for the same names), whether or not anybody fetches it. Only who has the key of
the CSR can use that certificate. So an attempt notes the URL of its order and the key as soon as it
knows the URL, before anything is proven, and takes the note away when the certificate is on disk.
The next attempt for the same certificate finds the note of one that was killed, or whose connection
broke, and goes on with that order (RFC 8555 §7.4) instead of placing another one.

There is one note for each certificate, beside its folder: ``orders/<folder>/order.json``, readable
by the owner alone, because it has a private key. A note that is lost costs one order and nothing
else, so whatever is doubtful about a note has it taken away. A damaged note is put aside, for a
person to see.

It is not noted that an order is about to be placed: a kill between the CA's answer and the note
leaves an order that nobody goes on with. Nothing is issued for it, and it ends by itself (at Let's
Encrypt after a week).
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence
from dataclasses import field
from typing import Any

from ..late_dataclass import dataclass
from ..storage import documents, newer_documents
from ..storage.store import Edit, Lock, Store, Unreadable
from .folder_names import folder_name

log = logging.getLogger("treehouse.certifier")

VERSION = 1
# So long a CA waits for the proofs of an order, at the most (Let's Encrypt: a week). Seconds.
LASTS = 7 * 86400.0
FOLDER, FILE = "orders", "order.json"
DAMAGED = "order.damaged.json"


@dataclass(frozen=True, slots=True)
class UnfinishedOrder:
    """``account`` is the URL of the account that has placed the order; ``profile`` None: the CA's
    own choice; ``replaces``: the certificate that the CA was told is replaced (RFC 9773 §5).
    ``failures``: how many attempts to go on with it the CA has answered to no end;
    ``counted_alone``: the machine that has placed it could not tell the others what it takes of the
    CA's limits."""

    url: str
    directory: str
    account: str | None
    names: tuple[str, ...]
    key_type: str
    profile: str | None
    replaces: str | None
    placed_at: float  # Unix seconds
    key_pem: bytes = field(repr=False)
    failures: int = 0
    counted_alone: bool = False


def may_be_taken_up(order: UnfinishedOrder | None, now: float) -> bool:
    """Whether an attempt may come, on whichever machine, that goes on with an order."""
    return order is not None and now < order.placed_at + LASTS


def folder_of(name: str) -> str:
    return f"{FOLDER}/{folder_name(name)}"


def load(store: Store, name: str) -> UnfinishedOrder | None:
    """Return the order that is noted for a certificate; None where there is none. A damaged note is
    put aside. Raises OSError, `Unreadable` for a note that cannot be understood."""
    folder = folder_of(name)
    data = store.load(folder).get(FILE)
    if data is None:
        return None
    found = from_json(data)
    if found is not None:
        return found
    if documents.newer(data, VERSION) is None:
        log.warning(
            "%s: the note about its order is damaged, and put aside as %s/%s; it is ordered anew",
            name, folder, DAMAGED,
        )  # fmt: skip
        store.store(folder, {DAMAGED: data})
        store.delete(folder, FILE)
    raise Unreadable(errno.EBADMSG, "the note about its order cannot be understood", folder)


def keep(
    store: Store,
    name: str,
    order: UnfinishedOrder,
    by: Lock | None = None,
    beside: Sequence[Edit] = (),
) -> None:
    """Note an order; ``by``: only while this lock holds, and in one step with what is ``beside``
    it. Raises OSError."""
    folder = folder_of(name)
    newer_documents.set_aside(store, folder, FILE, VERSION)
    if by is None:
        store.store(folder, {FILE: to_json(order)})
    else:
        store.change([Edit(folder, {FILE: to_json(order)}), *beside], by=by)


def erase(store: Store, name: str, by: Lock | None = None) -> None:
    """Take the note away, if there is one, and leave what was put aside. Raises OSError."""
    folder = folder_of(name)
    aside = dict(store.load(folder))
    if aside.pop(FILE, None) is None:
        return
    if by is not None:
        store.change([Edit(folder), *([Edit(folder, aside)] if aside else [])], by=by)
    elif aside:
        store.delete(folder, FILE)
    else:
        store.delete(folder)


def to_json(order: UnfinishedOrder) -> bytes:
    document = documents.fields(order)
    document["key_pem"] = order.key_pem.decode("ascii")
    return documents.write(document, VERSION)


def from_json(data: bytes) -> UnfinishedOrder | None:
    """Read a note; None for what is none, or is of a newer version."""
    said = documents.read(data, VERSION)
    try:
        placed_at, names = documents.number(said["placed_at"]), said["names"]
        if placed_at is None or not names or not isinstance(names, list):
            return None
        return UnfinishedOrder(
            url=_text(said["url"]),
            directory=_text(said["directory"]),
            account=_optional_text(said["account"]),
            names=tuple(map(_text, names)),
            key_type=_text(said["key_type"]),
            profile=_optional_text(said["profile"]),
            replaces=_optional_text(said["replaces"]),
            placed_at=placed_at,
            key_pem=_text(said["key_pem"]).encode("ascii"),
            failures=int(documents.number(said.get("failures")) or 0),
            counted_alone=said.get("counted_alone") is True,
        )
    except (KeyError, TypeError, ValueError):
        return None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError
    return value


def _optional_text(value: Any) -> str | None:
    return None if value is None else _text(value)
