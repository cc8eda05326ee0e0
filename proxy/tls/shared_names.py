"""Which certificate a host gets, where several are for the same name.

The one that lasts longest is shown, whatever order they came in; when it goes, the next takes its
place. Nearly all names are in one certificate alone, and adding or taking away one of thousands
touches its own names and nothing else.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from ..name_table import NameTable


class _Named(Protocol):
    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def not_after(self) -> float: ...


Named = TypeVar("Named", bound=_Named)


class SharedNames(Generic[Named]):
    def __init__(self) -> None:
        self._shown: NameTable[Named] = NameTable()
        self._behind: dict[str, list[Named]] = {}  # by name, those that are not shown

    def add(self, one: Named) -> None:
        """Show it for each of its names, where none that lasts longer is shown. Of two that last
        equally long, it is the later one."""
        for host in one.names:
            present = self._shown.exact(host)
            if present is None:
                self._shown.put(host, one)
            elif present.not_after <= one.not_after:
                self._behind.setdefault(host, []).append(present)
                self._shown.put(host, one)
            else:
                self._behind.setdefault(host, []).append(one)

    def remove(self, one: Named) -> None:
        """Show it no more. It must have been added."""
        for host in one.names:
            behind = self._behind.get(host)
            if self._shown.exact(host) is not one:
                if behind is not None and one in behind:
                    behind.remove(one)
            elif behind:
                following = max(behind, key=lambda each: each.not_after)
                behind.remove(following)
                self._shown.put(host, following)
            else:
                self._shown.remove(host)
            if behind is not None and not behind:
                del self._behind[host]

    def find(self, host: str) -> Named | None:
        """What is shown for a host: by its exact name, else by the wildcard for it."""
        found = self._shown.find(host)
        return None if found is None else found[1]
