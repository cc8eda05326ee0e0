"""Counts the orders of several machines against the limits of all CAs, exactly.

A CA sees one account, and the domains' limits hold for everybody. So what is counted lies in the
store that the machines share, in a document for the account and one for each registered domain: an
order reads those that it touches, and what it takes is written in one step that is refused when
another machine was faster; then it is worked out anew.

Moments are those of the members' middle clock, never of one machine's. Without the shared store the
copy on this machine's disk counts on: few orders are made then (`certificates.ranks`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from ..certificates.peers import Peers
from ..errors import IssuanceError
from ..late_dataclass import dataclass
from ..storage import documents
from ..storage.store import Conflict, Edit, Store, Unreachable, Unreadable
from .buckets import VERSION, Buckets, domain_of, domains
from .ledger import FILE, Ledger, folder_of
from .published import Limits, limits_of

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
        # The counts lie in several documents, which several machines write. So tokens that a
        # machine has taken stay taken when that machine is killed.
        self._tells_what_is_taken = False
        # When each waiting order may come back: this machine's line, by CA.
        self._lines: dict[str, dict[str, dict[str, float]]] = {}

    def _change(self, directory: str, names: tuple[str, ...], change: Change[T]) -> T:
        with self._lock:
            try:
                return self._change_together(directory, names, change)
            except Unreachable as error:
                log.warning("orders at %s are counted here alone: %s", directory, error)
        return super()._change(directory, names, change)

    def _seen(self, directory: str, names: tuple[str, ...]) -> tuple[float, Limits, Buckets]:
        now, limits = self._now(), self._limits(directory)
        try:
            read = self._read(directory, names)
        except OSError as error:
            log.warning("what is counted at %s cannot be read: %s", directory, error)
            return super()._seen(directory, names)
        read.buckets.bring_to(limits, now)
        return now, limits, read.buckets

    def _change_together(self, directory: str, names: tuple[str, ...], change: Change[T]) -> T:
        limits = self._limits(directory)
        # Where an order touches so much that it takes several steps: what is written already.
        written: set[str] = set()
        for _try in range(_TRIES):
            now = self._now()
            read = self._read(directory, names)
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

    def _read(self, directory: str, names: tuple[str, ...]) -> _Read:
        found: dict[str, Document] = {}
        buckets = Buckets(line=self._lines.setdefault(directory, {}))
        for folder in _folders(directory, domains(names)):
            mark = self._shared.mark(folder)
            content = documents.read(self._data(folder), VERSION)
            found[folder] = Document(mark, content)
            one = Buckets.of_document(content)
            buckets.due |= one.due
            buckets.held |= one.held
            buckets.at = max(buckets.at or 0.0, one.at or 0.0) or None
        return _Read(found, buckets)

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
        for start in range(0, len(edits), _TOGETHER):
            some = edits[start : start + _TOGETHER]
            self._shared.change(some)
            written.update(edit.folder for edit in some)
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


def _folders(directory: str, several: Iterable[str]) -> list[str]:
    return [_folder(directory, None), *(_folder(directory, one) for one in several)]


def _folder(directory: str, domain: str | None) -> str:
    if domain is None:
        return f"{folder_of(directory)}/account"
    return f"{folder_of(directory)}/domain-{hashlib.sha256(domain.encode()).hexdigest()[:16]}"


def _part(content: dict[str, Any], section: str) -> dict[str, Any]:
    part = content.get(section)
    return dict(part) if isinstance(part, dict) else {}
