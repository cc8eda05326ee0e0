"""How proxies tell whom a connection or a request comes from, in all the spellings in use."""

from __future__ import annotations

import ipaddress
import struct

import pytest

from proxy.protocol.client_address import TrustedProxies, subscriber
from proxy.protocol.message import Connection, Request
from proxy.worker.proxy_protocol import Header, parse

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def second(source: str, destination: str = "::1") -> bytes:
    """A PROXY header of version 2 for TCP over IPv6."""
    packed = ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address(destination).packed
    content = packed + struct.pack("!HH", 4711, 443)
    return SIGNATURE + struct.pack("!BBH", 0x21, 0x21, len(content)) + content


@pytest.mark.parametrize(
    ("data", "client"),
    [
        # As HAProxy writes them for `bind :::443 v4v6`.
        (b"PROXY TCP6 ::ffff:203.0.113.9 ::ffff:198.51.100.1 4711 443\r\n", "203.0.113.9"),
        (b"PROXY TCP6 ::FFFF:203.0.113.9 ::ffff:198.51.100.1 4711 443\r\n", "203.0.113.9"),
        (b"PROXY TCP6 ::ffff:cb00:7109 ::ffff:c633:6401 4711 443\r\n", "203.0.113.9"),
        (b"PROXY TCP6 0:0:0:0:0:ffff:cb00:7109 ::1 4711 443\r\n", "203.0.113.9"),
        (b"PROXY TCP4 ::ffff:203.0.113.9 198.51.100.1 4711 443\r\n", "203.0.113.9"),
        # Mixed families: the client came over one of them, the socket is of the other.
        (b"PROXY TCP6 2001:db8::9 198.51.100.1 4711 443\r\n", "2001:db8::9"),
        (b"PROXY TCP6 203.0.113.9 2001:db8::1 4711 443\r\n", "203.0.113.9"),
        (b"PROXY TCP6 203.0.113.9 198.51.100.1 4711 443\r\n", "203.0.113.9"),
        (b"PROXY TCP6 2001:DB8:0:0::9 ::1 4711 443\r\n", "2001:db8::9"),
        (b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n", "203.0.113.9"),
        (second("::ffff:203.0.113.9"), "203.0.113.9"),
        (second("::ffff:203.0.113.9", "::ffff:198.51.100.1"), "203.0.113.9"),
        (second("2001:db8::9", "::ffff:198.51.100.1"), "2001:db8::9"),
    ],
)
def test_a_proxy_header_names_the_client(data: bytes, client: str) -> None:
    assert parse(data) == Header(len(data), client, 4711)


def test_clients_over_ipv4_are_not_one_network_of_ipv6() -> None:
    clients = {parse(second(f"::ffff:203.0.113.{n}")).peer for n in range(1, 10)}
    assert len({subscriber(one) for one in clients if one}) == 9


TRUSTED = ("10.0.0.0/8", "2001:db8:1::/48", "192.0.2.7/32")
PEER = "10.1.1.1"


def client_of(peer: str, *lists: bytes, trusted: tuple[str, ...] = TRUSTED) -> str:
    proxies = TrustedProxies(trusted)
    connection = Connection(peer, 1, "198.51.100.1", 443)
    if proxies.trusts(peer):
        connection.proxies = proxies
    fields = [(b"host", b"a.test"), *((b"x-forwarded-for", one) for one in lists)]
    return Request(b"GET", b"/", b"1.1", b"a.test", b"a.test", fields, connection).client


@pytest.mark.parametrize(
    ("lists", "client"),
    [
        ([b"203.0.113.9"], "203.0.113.9"),
        ([b" 203.0.113.9 "], "203.0.113.9"),
        ([b"2001:db8::9"], "2001:db8::9"),
        ([b"2001:DB8:0::9"], "2001:db8::9"),
        ([b"::ffff:203.0.113.9"], "203.0.113.9"),
        # With ports, as Azure and some CDNs write them.
        ([b"203.0.113.9:52144"], "203.0.113.9"),
        ([b"[2001:db8::9]:52144"], "2001:db8::9"),
        ([b"[2001:db8::9]"], "2001:db8::9"),
        ([b"[::ffff:203.0.113.9]:1"], "203.0.113.9"),
        # What stands left of the first address that nobody vouches for is the client's own word.
        ([b"1.2.3.4, 203.0.113.9"], "203.0.113.9"),
        ([b"1.2.3.4,203.0.113.9,10.2.2.2"], "203.0.113.9"),
        ([b"1.2.3.4, 203.0.113.9,\t192.0.2.7, 2001:db8:1::5"], "203.0.113.9"),
        ([b"203.0.113.9", b"10.2.2.2"], "203.0.113.9"),
        ([b"1.2.3.4", b"203.0.113.9"], "203.0.113.9"),
        ([b"203.0.113.9, , "], "203.0.113.9"),
        # All are proxies of ours: then the first of them asks for itself.
        ([b"10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        # What is no address ends the search.
        ([b"unknown"], PEER),
        ([b""], PEER),
        ([b"unknown, 10.2.2.2"], "10.2.2.2"),
        ([b"203.0.113.9, unknown, 10.2.2.2"], "10.2.2.2"),
        ([b"_hidden"], PEER),
        ([b"203.0.113.9:port"], PEER),
        ([b"[203.0.113.9"], "203.0.113.9"),
        ([b"203.0.113.999"], PEER),
        ([b"203.0.113.09"], PEER),
        ([b"\xff\xfe"], PEER),
        ([b'for="203.0.113.9"'], PEER),
        ([], PEER),
    ],
)
def test_a_trusted_proxy_names_the_client(lists: list[bytes], client: str) -> None:
    assert client_of(PEER, *lists) == client


@pytest.mark.parametrize(
    ("peer", "trusted", "client"),
    [
        ("203.0.113.7", TRUSTED, "203.0.113.7"),  # a stranger's word counts nothing
        ("unix", TRUSTED, "1.2.3.4"),
        ("unix", (), "unix"),
        ("2001:db8:1::5", TRUSTED, "1.2.3.4"),
        ("2001:db8:2::5", TRUSTED, "2001:db8:2::5"),
        ("fe80::1%eth0", ("fe80::/10",), "1.2.3.4"),
        ("10.1.1.1", ("::ffff:10.0.0.0/104",), "1.2.3.4"),  # the same network, written as IPv6
        ("10.1.1.1", ("0.0.0.0/0",), "1.2.3.4"),
        ("10.1.1.1", ("::/0",), "10.1.1.1"),
    ],
)
def test_only_trusted_proxies_are_believed(
    peer: str, trusted: tuple[str, ...], client: str
) -> None:
    assert client_of(peer, b"1.2.3.4", trusted=trusted) == client
