"""The documents by which each machine tells the others of itself, in the engine, and how they are
read.

    members/NODE     who it is, whether it orders, how far it is, its clock; with its session
    members/NODE/m   that the machine m is called so, too, and waits until the name is free
    wishes/NODE/n    what it wants each certificate to be (`certificates.wishes`), in parts

The first is a small document that is written whenever a challenge has been answered, or something
in it has changed. Where nothing happens it is written again and again for the clock in it
(`clocks`), and every machine hears of it: so the more machines there are, the more seldom each
writes. What a machine wants grows with the certificates; so it lies beside the first document, is
named there by a digest, and is read only by who wants something else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from ..certificates.peers import Member, differences
from ..late_dataclass import dataclass
from ..storage import documents
from ..storage.etcd.store import EtcdStore
from .settings import VERSION

MEMBERS = "members"
WISHES = "wishes"

# Wishes in one document: engines bound its size.
_PART = 2000
# A document is written anew after so many seconds, and where there are many machines after so many
# for each of them: then each hears of a document every three seconds, however many there are.
WRITTEN_EVERY = 30.0
_WRITTEN_EVERY_EACH = 3.0
# The revision that a machine with a newer program counts as having seen. We cannot read which one
# it has seen, and do not wait for it.
_UNKNOWN = 1 << 62

Wishes = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Said:
    """A machine's document, read. ``session``: of the engine's, with which it vanishes; ``clock``:
    Unix seconds when it was written; ``thumbprint``: of the account's key, which is public;
    ``wishes``: the digest of its wishes; ``every``: it is written anew after so many seconds at
    the latest; ``asks``: how often the machine has asked for the clocks of the others;
    ``machine``: which one it is, whatever it is called (`identity`)."""

    node: str
    program: str = ""
    since: str | None = None
    orders: bool = False
    seen: int = 0
    behind: int = 0
    session: str = ""
    thumbprint: str = ""
    clock: float | None = None
    wishes: str = ""
    every: float = WRITTEN_EVERY
    asks: int = 0
    machine: str = ""

    def document(self) -> bytes:
        fields = documents.fields(self)
        if self.every > WRITTEN_EVERY:
            # Programs that do not know ``every`` would take the age of the document for a clock
            # that is late.
            fields["written"] = fields.pop("clock")
        return documents.write(fields, VERSION)


def read(node: str, data: bytes) -> Said:
    """Read what a machine has said. One with a newer program, whose words are not known here, may
    order."""
    if documents.newer(data, VERSION) is not None:
        return Said(node, orders=True, seen=_UNKNOWN)
    said = documents.read(data, VERSION)
    return Said(
        node=node,
        program=str(said.get("program", "")),
        since=str(said["since"]) if said.get("since") else None,
        orders=said.get("orders") is True,
        seen=_whole(said.get("seen")),
        behind=_whole(said.get("behind")),
        session=str(said.get("session", "")),
        clock=documents.number(said.get("clock", said.get("written"))),
        thumbprint=str(said.get("thumbprint", "")),
        wishes=str(said.get("wishes", "")),
        every=max(documents.number(said.get("every")) or 0.0, WRITTEN_EVERY),
        asks=_whole(said.get("asks")),
        machine=str(said.get("machine", "")),
    )


def written_every(members: int) -> float:
    """Return after how many seconds each of so many machines writes anew."""
    return max(WRITTEN_EVERY, _WRITTEN_EVERY_EACH * members)


def present(shared: EtcdStore) -> dict[str, Said]:
    """Return what the machines say that are there. Raises OSError."""
    found, _revision = shared.load_alone(MEMBERS)
    return {node: read(node, data) for node, data in found.items() if not isinstance(data, OSError)}


def waiting(shared: EtcdStore, node: str) -> dict[str, Said]:
    """Return what the machines say that wait for a name to be free, by what they are. Raises
    OSError."""
    found, _revision = shared.load_alone(waits_at(node))
    return {one: read(node, data) for one, data in found.items() if not isinstance(data, OSError)}


def waits_at(node: str) -> str:
    """Return the folder of the machines that wait for a name to be free."""
    return f"{MEMBERS}/{node}"


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def digest(wishes: Wishes) -> str:
    said = "\n".join(f"{name} {wishes[name]}" for name in sorted(wishes))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


class WishBook:
    """The wishes of this machine (``ours``) and of the others. Used by one thread."""

    def __init__(self, shared: EtcdStore, node: str, ours: Wishes) -> None:
        self._shared = shared
        self._node = node
        self.ours = ours
        self.digest = digest(ours)
        self._by_digest: dict[str, Wishes] = {self.digest: ours}
        self._told_in = ""

    def tell(self, session: str) -> None:
        """Write ours, once in a session. Raises OSError."""
        if session == self._told_in:
            return
        for number, part in enumerate(_parts(self.ours)):
            data = documents.write({"wishes": part}, VERSION)
            self._shared.put_while_here(f"{WISHES}/{self._node}", str(number), data)
        self._told_in = session

    def of(self, said: Said) -> Wishes:
        """Return a machine's wishes; none while they cannot be read. Raises OSError."""
        known = self._by_digest.get(said.wishes)
        if known is not None:
            return known
        found: dict[str, str] = {}
        documents_there, _revision = self._shared.load_alone(f"{WISHES}/{said.node}")
        for data in documents_there.values():
            if not isinstance(data, OSError):
                found.update(_wishes(documents.read(data, VERSION).get("wishes")))
        if digest(found) != said.wishes:
            return {}  # it is being written
        self._by_digest[said.wishes] = found
        return found

    def keep_only(self, digests: set[str]) -> None:
        """Forget the wishes that no machine has any more."""
        for one in self._by_digest.keys() - digests - {self.digest}:
            del self._by_digest[one]


def _parts(wishes: Wishes) -> Iterator[Wishes]:
    names = sorted(wishes)
    for start in range(0, len(names), _PART):
        yield {name: wishes[name] for name in names[start : start + _PART]}


def _wishes(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {name: wish for name, wish in value.items() if isinstance(wish, str)}


def remembered(members: Mapping[str, Member], ours: Wishes) -> dict[str, Any]:
    """Encode members for this machine's disk: of what they want, only what is different."""
    return {
        node: {"orders": one.orders, "differs": differences(ours, one.wishes)}
        for node, one in members.items()
    }


def recalled(document: Any, ours: Wishes) -> dict[str, Member]:
    """Read what `remembered` has encoded."""
    found: dict[str, Member] = {}
    if not isinstance(document, dict):
        return found
    for node, said in document.items():
        if not isinstance(said, dict):
            continue
        wishes = dict(ours)
        differs = said.get("differs")
        for name, wish in differs.items() if isinstance(differs, dict) else ():
            if isinstance(wish, str):
                wishes[name] = wish
            else:
                wishes.pop(name, None)
        found[node] = Member(said.get("orders") is True, wishes)
    return found
