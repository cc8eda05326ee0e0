"""Sets of addresses by name, for `allow`, `deny` and `trusted_proxies`. Pure.

`cloudflare` is the list that Cloudflare publishes for the proxies from which it asks origins. It
changes seldom, and is shipped with its date; whoever needs a newer one keeps a file of their own.
"""

from __future__ import annotations

from pathlib import Path

from acme_client.late_dataclass import dataclass

from .addresses import parse_network
from .faults import Wrong, nearest, shown

NAMED: dict[str, tuple[str, ...]] = {
    # RFC 1918, RFC 4193, RFC 3927, RFC 4291 §2.5.6; loopback is private as well.
    "private": (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8",
        "fc00::/7", "fe80::/10", "::1/128",
    ),
    "loopback": ("127.0.0.0/8", "::1/128"),
    # As published on https://www.cloudflare.com/ips/ in 2025-09.
    "cloudflare": (
        "173.245.48.0/20", "103.21.244.0/22", "103.22.200.0/22", "103.31.4.0/22",
        "141.101.64.0/18", "108.162.192.0/18", "190.93.240.0/20", "188.114.96.0/20",
        "197.234.240.0/22", "198.41.128.0/17", "162.158.0.0/15", "104.16.0.0/13",
        "104.24.0.0/14", "172.64.0.0/13", "131.0.72.0/22",
        "2400:cb00::/32", "2606:4700::/32", "2803:f800::/32", "2405:b500::/32",
        "2405:8100::/32", "2a06:98c0::/29", "2c0f:f248::/32",
    ),
}  # fmt: skip
_FILE = "file:"


@dataclass(frozen=True, slots=True)
class AddressFile:
    """A file with an address or network a line, which is read at each start and reload."""

    list_file: Path


@dataclass(frozen=True, slots=True)
class AddressSet:
    """Networks in CIDR notation; ``name`` as it was written."""

    name: str
    networks: tuple[str, ...]


AddressEntry = AddressSet | AddressFile


def parse_entry(text: str, base: Path) -> AddressEntry:
    """An address, a network, the name of a set, or ``file:PATH``. Raises `Wrong`."""
    if text.startswith(_FILE):
        path = text.removeprefix(_FILE)
        if not path:
            raise Wrong("file: names no file", "write it like file:/etc/treehouse-proxy/office.txt")
        return AddressFile(base / path)
    if text in NAMED:
        return AddressSet(text, NAMED[text])
    try:
        return AddressSet(text, (parse_network(text),))
    except Wrong as wrong:
        if text.isalpha():
            raise Wrong(
                f"{shown(text)} is no set of addresses", nearest(text, [*NAMED, "file:PATH"])
            ) from None
        raise Wrong(wrong.what, f"{wrong.remedy}, or {', '.join(NAMED)}, or file:PATH") from None


def with_sets(given: object) -> object:
    """A list of networks with the names of sets in it replaced by their networks."""
    words = given if isinstance(given, list) else [given]
    if not any(isinstance(word, str) and word in NAMED for word in words):
        return given
    return [one for word in words for one in NAMED.get(str(word), (word,))]


def read_list(text: str) -> tuple[str, ...]:
    """The networks of an `AddressFile`; "#" begins a comment. Raises `Wrong`, which names the
    line."""
    networks = []
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.partition("#")[0].strip()
        if entry:
            try:
                networks.append(parse_network(entry))
            except Wrong as wrong:
                raise Wrong(f"line {number}: {wrong.what}", wrong.remedy) from None
    return tuple(networks)
