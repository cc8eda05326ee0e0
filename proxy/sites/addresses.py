"""Lets clients in by their address: `allow` and `deny`. A request filter.

A client is `Request.client`: the peer, or whom a trusted proxy names. A client over a unix socket
has no address; it gets in unless `allow` stands, because whoever may open the socket is local.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..bounded_cache import remember
from ..config.syntax.address_sets import AddressEntry, AddressFile, read_list
from ..errors import Fault
from ..protocol.client_address import from_text, network
from ..protocol.exchange import Exchange

_MOST_KNOWN = 4096


def networks(entries: Iterable[AddressEntry]) -> tuple[str, ...]:
    """The networks of all entries, those in files read now. Raises `OSError` and `Wrong`."""
    found: list[str] = []
    for entry in entries:
        if isinstance(entry, AddressFile):
            found += read_list(entry.list_file.read_text())
        else:
            found += entry.networks
    return tuple(found)


class AddressRule:
    """``allow`` None: everybody whom ``deny`` does not name. Both are networks in CIDR notation."""

    def __init__(self, allow: tuple[str, ...] | None, deny: tuple[str, ...]) -> None:
        self._allow = None if allow is None else tuple(map(network, allow))
        self._deny = tuple(map(network, deny))
        self._known: dict[str, bool] = {}

    def request(self, exchange: Exchange) -> None:
        """Raise `Fault` (forbidden) for a client that may not come in."""
        client = exchange.client
        allowed = self._known.get(client)
        if allowed is None:
            allowed = self._allows(client)
            remember(self._known, client, allowed, _MOST_KNOWN)
        if not allowed:
            raise Fault("forbidden")

    def _allows(self, client: str) -> bool:
        address = from_text(client)
        if address is None:
            return self._allow is None
        if any(address in one for one in self._deny):
            return False
        return self._allow is None or any(address in one for one in self._allow)
