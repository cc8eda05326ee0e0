"""Which address a client has, and who may say so. Pure.

A connection has a peer: the address that the kernel tells, or the one in a PROXY header. Where that
peer is a trusted proxy, one connection carries requests of many clients, and each request names its
own in X-Forwarded-For. `Request.client` is the answer for both cases; limits, rates, hashing, logs
and fields use it and nothing else.

X-Forwarded-For grows to the right: every proxy appends the address that it saw. So the list is read
from its end, past the trusted proxies, to the first address that none of them vouches for
(nginx: real_ip_recursive, Caddy: trusted_proxies_strict). What stands further left is the client's
own word. An element that is no address ends the search: what stands behind it is the client then.

IPv4-mapped addresses (RFC 4291 §2.5.5.2) are IPv4 addresses, wherever they come from: a socket for
both families, a PROXY header, X-Forwarded-For. As IPv6 they would all lie in one /64.
"""

from __future__ import annotations

import ipaddress

from ..bounded_cache import remember

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

UNIX = "unix"  # the address of whoever comes over a unix socket
_MOST_KNOWN = 4096
_LONGEST_KNOWN = 256
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def unmapped(address: Address) -> Address:
    """The IPv4 address that an IPv4-mapped IPv6 address stands for; any other as it is."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def network(text: str) -> Network:
    """A network in CIDR notation; one of IPv4-mapped addresses is the IPv4 network. Raises
    ValueError."""
    found = ipaddress.ip_network(text)
    if isinstance(found, ipaddress.IPv6Network) and found.subnet_of(_MAPPED):
        address = unmapped(found.network_address)
        return ipaddress.IPv4Network((int(address), found.prefixlen - 96))
    return found


def from_text(text: str) -> Address | None:
    """The address that ``text`` is, a zone (RFC 4007 §11) left out; None if it is none."""
    try:
        return unmapped(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None


def element(text: str) -> Address | None:
    """The address in an element of X-Forwarded-For: alone, with a port behind it, or in brackets,
    as load balancers write it."""
    text = text.strip(" \t")
    if text.startswith("["):
        text, _, port = text[1:].partition("]")
        if port and not (port[0] == ":" and port[1:].isdigit()):
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not port.isdigit():
            return None
    return from_text(text)


def subscriber(client: str) -> str:
    """Return what a client counts for: its IPv4 address, or the /64 of an IPv6 subscriber."""
    if ":" not in client:
        return client
    return str(ipaddress.ip_network((client.partition("%")[0], 64), strict=False))


class TrustedProxies:
    """The networks of `trusted_proxies`, and what their proxies say. Falsy without any."""

    def __init__(self, networks: tuple[str, ...] = ()) -> None:
        self._networks = tuple(map(network, networks))
        self._trusted: dict[str, bool] = {}
        self._clients: dict[tuple[str, bytes], str] = {}

    def __bool__(self) -> bool:
        return bool(self._networks)

    def trusts(self, peer: str) -> bool:
        """Whether the peer (an address, or `UNIX`) is a trusted proxy. With any proxy trusted at
        all, who may open our unix socket is one."""
        if not self._networks:
            return False
        known = self._trusted.get(peer)
        if known is None:
            address = from_text(peer)
            known = peer == UNIX or (address is not None and self._includes(address))
            remember(self._trusted, peer, known, _MOST_KNOWN)
        return known

    def client(self, peer: str, fields: list[tuple[bytes, bytes]]) -> str:
        """The address of the client for whom ``peer``, a trusted proxy, sends a request with these
        ``fields``; the proxy's own where they name none."""
        lists = [value for name, value in fields if name == b"x-forwarded-for"]
        if not lists:
            return peer
        key = peer, b",".join(lists)
        found = self._clients.get(key)
        if found is None:
            found = self._client(peer, key[1].decode("latin-1").split(","))
            if len(key[1]) <= _LONGEST_KNOWN:
                remember(self._clients, key, found, _MOST_KNOWN)
        return found

    def _client(self, peer: str, elements: list[str]) -> str:
        client = peer
        for one in reversed(elements):
            if not one.strip(" \t"):
                continue  # RFC 9110 §5.6.1.2: empty elements are read over
            address = element(one)
            if address is None:
                break
            client = str(address)
            if not self._includes(address):
                break
        return client

    def _includes(self, address: Address) -> bool:
        return any(address in network for network in self._networks)
