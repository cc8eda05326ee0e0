"""Whether a name's DNS leads to this machine: all of its addresses, or a CA may look elsewhere.

Our own addresses are those that the configuration names, else the public ones of the machine's
interfaces. Behind a translation of addresses the interfaces have none, and then only the
configuration knows.

What dnspython would import at the first answer of a kind is imported with this module: by then the
interpreter's files may be out of reach.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import dns.exception
import dns.name
import dns.nameserver
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.resolver

from ..errors import plainly
from .ask_url import CannotTell

# For both questions together; a handshake waits for them.
WITHIN = 5.0

for _kind in ("A", "AAAA", "CNAME", "DNAME", "NS", "SOA", "OPT", "RRSIG", "HTTPS"):
    dns.rdata.get_rdata_class(  # type: ignore[no-untyped-call] # it is so upstream
        dns.rdataclass.IN, dns.rdatatype.from_text(_kind)
    )

Resolvers = tuple[tuple[str, int], ...]  # addresses and ports of name servers


def leads_here(
    name: str, ours: frozenset[str], resolvers: Resolvers, within: float = WITHIN
) -> str | None:
    """None when it does, else why not. ``resolvers``: none for those of the system."""
    if not ours:
        raise CannotTell(
            "no interface of this machine has a public address: name the addresses under on_demand"
        )
    found = _addresses(name, resolvers, within)
    if not found:
        return "its DNS has no address"
    elsewhere = sorted(found - ours)
    return f"its DNS leads to {', '.join(elsewhere)}" if elsewhere else None


def _addresses(name: str, resolvers: Resolvers, within: float) -> set[str]:
    found: set[str] = set()
    try:
        asked = dns.resolver.Resolver(configure=not resolvers)
        if resolvers:
            asked.nameservers = [dns.nameserver.Do53Nameserver(*one) for one in resolvers]
        for kind in ("A", "AAAA"):
            answer = asked.resolve(
                dns.name.from_text(name), kind, raise_on_no_answer=False, lifetime=within / 2
            )
            found |= {str(ip_address(record.address)) for record in answer.rrset or ()}
    except dns.resolver.NXDOMAIN:
        return set()
    except dns.exception.Timeout:
        raise CannotTell("its DNS does not answer in time") from None
    except (dns.exception.DNSException, OSError) as error:
        raise CannotTell(f"its DNS cannot be asked: {plainly(error)}") from None
    return found


# Our own addresses, from files that a process may read which may make no netlink socket

_FOLDER = Path("/proc/self/net")
_FIB_LOCAL = re.compile(r"\|-- ([0-9.]+)\n +/32 host LOCAL\n")


def public_addresses() -> frozenset[str]:
    """Of this machine's interfaces, those that the internet can have."""
    return frozenset(str(address) for address in interface_addresses() if address.is_global)


def interface_addresses() -> Iterator[IPv4Address | IPv6Address]:
    for text in _FIB_LOCAL.findall(_read("fib_trie")):
        yield ip_address(text)
    for line in _read("if_inet6").splitlines():
        yield ip_address(bytes.fromhex(line.split()[0]))


def _read(file: str) -> str:
    try:
        return (_FOLDER / file).read_text("ascii")
    except FileNotFoundError:  # a kernel without IPv6
        return ""
    except OSError as error:
        raise CannotTell(f"{_FOLDER / file} cannot be read: {error.strerror}") from None
