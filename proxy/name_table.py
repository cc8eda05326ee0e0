"""Look-ups by host name, as certificates and sites are found: the exact name, else its wildcard.

A wildcard stands for exactly one label, the leftmost (RFC 9525 §6.3): ``*.example.org`` is for
``a.example.org`` and neither for ``example.org`` nor for ``a.b.example.org``. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Generic, TypeVar

_Entry = TypeVar("_Entry")


def wildcard_of(host: str) -> str:
    """The wildcard that would cover ``host``; "" for a host of one label."""
    _label, dot, parent = host.partition(".")
    return f"*.{parent}" if dot else ""


def covers(names: Collection[str], host: str) -> bool:
    """Whether one of ``names`` is ``host`` or the wildcard for it."""
    return host in names or wildcard_of(host) in names


class NameTable(Generic[_Entry]):
    """Entries by name; names are lower-case A-labels, wildcards or IP addresses."""

    def __init__(self, entries: Mapping[str, _Entry] | None = None) -> None:
        self._entries = dict(entries or {})

    def put(self, name: str, entry: _Entry) -> None:
        self._entries[name] = entry

    def remove(self, name: str) -> None:
        self._entries.pop(name, None)

    def exact(self, name: str) -> _Entry | None:
        """The entry of this very name (or wildcard)."""
        return self._entries.get(name)

    def find(self, host: str) -> tuple[str, _Entry] | None:
        """The entry that serves ``host``, and the name that it was found by."""
        for name in (host, wildcard_of(host)):
            entry = self._entries.get(name)
            if entry is not None:
                return name, entry
        return None
