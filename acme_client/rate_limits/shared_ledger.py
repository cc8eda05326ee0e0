"""Counts the orders of several machines against the limits of all CAs, exactly.

A CA sees one account, and the domains' limits hold for everybody. So what is counted lies in the
store that the machines share, in a document for the account and one for each registered domain: an
order reads those that it touches, and what it takes is written in one step that is refused when
another machine was faster; then it is worked out anew.

Moments are those of the members' middle clock, never of one machine's. Without the shared store the
copy on this machine's disk counts on: few orders are made then (`certificates.ranks`), by machines
that have no lock. What was taken there alone is given back there alone. With a lock, an order that
cannot be counted for all is not placed.

What an order has taken under a certificate's lock is noted until the order is, in a document of its
own, which is written in one step with the counts, and goes in one step with the order's note. Both
steps are refused when the lock has been lost. So this document is the right to give back: whoever
has the certificate's lock next and finds it knows that the order of a machine that was killed has
proven nothing, and no CSR was sent. A machine that has lost the lock gives back nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from ..certificates.folder_names import folder_name
from ..certificates.peers import CLOCK_APART, Peers
from ..errors import IssuanceError
from ..late_dataclass import dataclass
from ..storage import documents
from ..storage.insistence import insist
from ..storage.store import ANYTHING, Conflict, Edit, Fenced, Store, Unreachable, Unreadable
from .buckets import VERSION, Buckets, domain_of, domains
from .ledger import FILE, NOBODYS, Claim, Ledger, folder_of
from .published import Cost, Limits, OrderKind, limits_of

log = logging.getLogger("treehouse.certifier")

T = TypeVar("T")
Change = Callable[[float, Limits, Buckets], T]

# Documents that are written in one step: engines bound it.
_TOGETHER = 50
_TRIES = 50


class Document(NamedTuple):
    """One document as it was read: its folder's mark, and its content."""

    mark: object
    content: dict[str, Any]


@dataclass(slots=True)
class _Read:
    """All that an order touches."""

    documents: dict[str, Document]  # by folder
    buckets: Buckets
    claim: Claim


class SharedLedger(Ledger):
    """``store`` is this machine's own, ``shared`` all machines'."""

    def __init__(
        self,
        store: Store,
        shared: Store,
        peers: Peers,
        now: Callable[[], float],
        limits: Callable[[str], Limits] = limits_of,
    ) -> None:
        super().__init__(store, lambda: now() - peers.clock_offset, limits)
        self._shared = shared
        # When each waiting order may come back: this machine's line, by CA.
        self._lines: dict[str, dict[str, dict[str, float]]] = {}
        # The orders whose tokens were taken on this machine's disk alone: CA, names, certificate.
        self._here: set[tuple[str, tuple[str, ...], str]] = set()

    # For `LedgerReservation`

    def reserve(
        self,
        directory: str,
        names: tuple[str, ...],
        kind: OrderKind,
        before: tuple[Cost, ...],
        force: bool,
        claim: Claim,
        gives_back: bool,
    ) -> tuple[Cost, ...]:
        if claim.lock is None:
            if self.is_counted_alone(directory, names, claim):
                self._give_back_here(directory, names, before, claim)
                before = ()
            return super().reserve(directory, names, kind, before, force, claim, gives_back)
        # A note about taken tokens that is there now belongs to an earlier try of this order, or to
        # an order of a machine that was killed before it noted the order.
        take = self._taking(names, kind, (), force, claim.certificate, gives_back=True)
        try:
            return insist(lambda: self._counted_for_all(directory, names, take, claim))
        except Fenced:
            raise IssuanceError("busy", "the lock was lost during the attempt") from None
        except Unreachable as fault:
            why = f"the order cannot be counted for all machines: {fault.strerror}"
            raise IssuanceError("busy", why) from None

    def beside_note(self, directory: str, claim: Claim) -> tuple[Edit, ...]:
        return () if claim.lock is None else (Edit(_folder_of_taken(directory, claim)),)

    def is_counted_alone(self, directory: str, names: tuple[str, ...], claim: Claim) -> bool:
        return (directory, names, claim.certificate) in self._here

    def end(
        self, directory: str, names: tuple[str, ...], claim: Claim, several: tuple[Cost, ...]
    ) -> None:
        with contextlib.suppress(Fenced):  # whoever has the lock goes on with the order
            super().end(directory, names, claim, several)
        self._here.discard((directory, names, claim.certificate))

    def commit(
        self,
        directory: str,
        names: tuple[str, ...],
        give_back: tuple[Cost, ...],
        problem: IssuanceError | None,
        claim: Claim = NOBODYS,
    ) -> None:
        if self.is_counted_alone(directory, names, claim):
            self._give_back_here(directory, names, give_back, claim)
            give_back = ()
        try:
            super().commit(directory, names, give_back, problem, claim)
        except Fenced:
            # The machine that has the lock now, or had it meanwhile, gives back what the order has
            # taken. This machine tells only what the CA has said.
            super().commit(directory, names, (), problem)
        self._here.discard((directory, names, claim.certificate))

    def _give_back_here(
        self, directory: str, names: tuple[str, ...], several: tuple[Cost, ...], claim: Claim
    ) -> None:
        self._here.discard((directory, names, claim.certificate))
        super()._change(directory, names, lambda _now, _limits, here: here.give_back(several))

    # Together, or here

    def _change(
        self, directory: str, names: tuple[str, ...], change: Change[T], claim: Claim = NOBODYS
    ) -> T:
        try:
            return self._counted_for_all(directory, names, change, claim)
        except Unreachable as error:
            log.warning("orders at %s are counted here alone: %s", directory, error)
        self._here.add((directory, names, claim.certificate))
        return super()._change(directory, names, change)

    def _counted_for_all(
        self, directory: str, names: tuple[str, ...], change: Change[T], claim: Claim
    ) -> T:
        with self._lock:
            return self._change_together(directory, names, change, claim)

    def _open(self, directory: str) -> tuple[float, Limits, Buckets]:
        now, limits, here = super()._open(directory)
        here.keeps_taken = False  # the note of an order may be elsewhere
        return now, limits, here

    def _seen(self, directory: str, names: tuple[str, ...]) -> tuple[float, Limits, Buckets]:
        now, limits = self._now(), self._limits(directory)
        try:
            read = self._read(directory, names, NOBODYS)
        except OSError as error:
            log.warning("what is counted at %s cannot be read: %s", directory, error)
            return super()._seen(directory, names)
        read.buckets.bring_to(limits, now)
        return now, limits, read.buckets

    def _change_together(
        self, directory: str, names: tuple[str, ...], change: Change[T], claim: Claim
    ) -> T:
        limits = self._limits(directory)
        # Where an order touches so much that it takes several steps: what is written already.
        written: set[str] = set()
        for _try in range(_TRIES):
            now = self._now()
            read = self._read(directory, names, claim)
            read.buckets.bring_to(limits, now)
            refusal: IssuanceError | None = None
            result: T | None = None
            try:
                result = change(now, limits, read.buckets)
            except IssuanceError as problem:
                refusal = problem
            try:
                self._write(directory, read, written)
            except Conflict:
                continue
            if refusal is not None:
                raise refusal
            return result  # type: ignore[return-value] # None only where T is
        raise Unreachable("others change what is counted all the time")

    # Documents

    def _read(self, directory: str, names: tuple[str, ...], claim: Claim) -> _Read:
        found: dict[str, Document] = {}
        buckets = Buckets(line=self._lines.setdefault(directory, {}))
        buckets.keeps_taken = claim.lock is not None
        buckets.clocks_apart = CLOCK_APART
        several = {None, *domains(names)}
        if claim.lock is not None:
            folder = _folder_of_taken(directory, claim)
            found[folder] = self._document(folder)
            buckets.taken = Buckets.of_document(found[folder].content).taken
            # The order of a machine that was killed may have been for other names.
            several |= {domain_of(key) for one in buckets.taken.values() for key in one.keys}
        for folder in (_folder(directory, one) for one in several):
            found[folder] = self._document(folder)
            one = Buckets.of_document(found[folder].content)
            buckets.due |= one.due
            buckets.held |= one.held
            buckets.at = max(buckets.at or 0.0, one.at or 0.0) or None
        return _Read(found, buckets, claim)

    def _document(self, folder: str) -> Document:
        mark = self._shared.mark(folder)
        return Document(mark, documents.read(self._data(folder), VERSION))

    def _data(self, folder: str) -> bytes:
        try:
            return self._shared.load(folder).get(FILE, b"")
        except Unreadable as fault:  # what is written next takes its place
            log.error("%s: counted anew: %s", folder, fault.strerror)
            return b""

    def _write(self, directory: str, read: _Read, written: set[str]) -> None:
        """Write what has changed, but for the folders in ``written``, to which those are added that
        are. Raises `Conflict` where another machine was faster."""
        changed = read.buckets.take_changes()
        taken = changed.pop("taken", {})
        contents: dict[str, dict[str, Any]] = {}
        for section, values in changed.items():
            for key, value in values.items():
                folder = _folder(directory, domain_of(key))
                if folder in written or folder not in read.documents:
                    continue
                before = read.documents[folder].content
                content = contents.setdefault(
                    folder, {"due": _part(before, "due"), "held": _part(before, "held")}
                )
                if value is None:
                    content[section].pop(key, None)
                else:
                    content[section][key] = value
        edits = []
        for folder, content in sorted(contents.items()):
            data = documents.write({"at": read.buckets.at, **content}, VERSION)
            edits.append(Edit(folder, {FILE: data}, read.documents[folder].mark))
        steps = [edits[start : start + _TOGETHER] for start in range(0, len(edits), _TOGETHER)]
        for step in _with_taken(steps, directory, read, taken):
            self._shared.change(step, by=read.claim.lock)
            written.update(edit.folder for edit in step)
        if edits:
            self._copy(directory, changed)

    def _copy(self, directory: str, changed: dict[str, dict[str, object]]) -> None:
        """Count here too what was written, for when the shared store is away."""
        with self._locked(directory):
            _now, _limits, here = self._open(directory)
            for key, due in changed.get("due", {}).items():
                if isinstance(due, float):
                    here.due[key] = due
                else:
                    here.due.pop(key, None)
                here.changed.add(key)
            self._keep(directory, here)


def _folder(directory: str, domain: str | None) -> str:
    if domain is None:
        return f"{folder_of(directory)}/account"
    return f"{folder_of(directory)}/domain-{hashlib.sha256(domain.encode()).hexdigest()[:16]}"


def _folder_of_taken(directory: str, claim: Claim) -> str:
    return f"{folder_of(directory)}/taken-{folder_name(claim.certificate)}"


def _with_taken(
    steps: list[list[Edit]], directory: str, read: _Read, taken: dict[str, object]
) -> list[list[Edit]]:
    """Add what is noted of the tokens that an order has taken. Where it takes several steps, a
    machine may be killed between two: so what is given back is noted no more after the first of
    them, and what is taken is noted with the last."""
    claim = read.claim
    if claim.lock is None or claim.certificate not in taken:
        return steps
    folder, now = _folder_of_taken(directory, claim), taken[claim.certificate]
    mark = read.documents[folder].mark
    steps = steps or [[]]
    if now is None or len(steps) > 1:
        steps = [[Edit(folder, None, mark), *steps[0]], *steps[1:]]
    if now is not None:
        data = documents.write({"taken": {claim.certificate: now}}, VERSION)
        replaces = mark if len(steps) == 1 else ANYTHING
        steps = [*steps[:-1], [*steps[-1], Edit(folder, {FILE: data}, replaces)]]
    return steps


def _part(content: dict[str, Any], section: str) -> dict[str, Any]:
    part = content.get(section)
    return dict(part) if isinstance(part, dict) else {}
