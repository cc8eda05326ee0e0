"""The names of sites: domain names, wildcards, ``localhost``, IP addresses.

One spelling of each comes out, the one that certificates, SNI and the router compare: lower-case
A-labels (RFC 5890 §2.3.2.1) without a trailing dot, and IP addresses in their canonical text form
without brackets. Nothing here asks the DNS.

The idna package and its tables are loaded with this module and not when the first such name comes
up: after the privileges are dropped the interpreter's files may be out of reach, and a reload must
still be able to read them.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

import idna
import idna.uts46data  # idna loads its mapping table late; see above

from .faults import Wrong, shown

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_LENGTH = 253  # octets of a name in text form, RFC 1035 §2.3.4

# Endings that the public DNS does not have, so that no public CA can certify a name below them:
# RFC 6761 §6 (test, localhost, invalid, example), RFC 6762 (local), RFC 8375 (home.arpa), and
# internal, which ICANN's board reserved for private use in 2024.
_PRIVATE_ENDINGS = ("localhost", "internal", "test", "invalid", "example", "local", "home.arpa")

_NAME = "write it like example.org, *.example.org, localhost or 192.0.2.1"


def parse_name(text: str) -> str:
    """The name in the spelling that everything compares. Raises `Wrong`."""
    text = text.strip()
    address = _address(text)
    if address is not None:
        return str(address)
    if "://" in text:
        raise Wrong(f"{shown(text)} is a URL and not a name", "give the host alone: example.org")
    if "/" in text or "@" in text or ":" in text:
        raise Wrong(f"{shown(text)} holds more than a name", "give the host alone: example.org")
    bare, wildcard = text.removesuffix("."), False
    if bare.startswith("*."):
        bare, wildcard = bare[2:], True
    if "*" in bare:
        raise Wrong(
            f"{shown(text)} has its asterisk in the wrong place",
            "a wildcard stands for one whole label at the front: *.example.org",
        )
    name = _to_ascii(bare, text)
    if name.rpartition(".")[2].isdigit():
        raise Wrong(f"{shown(text)} is neither an IP address nor a domain name", _NAME)
    if wildcard:
        name = f"*.{name}"
    if len(name) > _LENGTH:
        raise Wrong(f"{shown(text)} is longer than {_LENGTH} characters", "shorten it")
    return name


def parse_name_pattern(text: str) -> str:
    """A domain name or ``*.`` before one. Raises `Wrong`."""
    name = parse_name(text)
    if _address(name) is not None or "." not in name:
        raise Wrong(f"{shown(text)} is not a domain name", "write it like *.example.org")
    return name


def _to_ascii(bare: str, text: str) -> str:
    if bare.isascii():
        name = bare.lower()
    else:
        try:
            name = idna.encode(bare, uts46=True, std3_rules=True).decode("ascii")
        except idna.IDNAError as error:
            reason = str(error).rstrip(".")
            raise Wrong(f"{shown(text)} is not a domain name: {reason}", _NAME) from None
    for label in name.split("."):
        if not _LABEL.fullmatch(label):
            raise Wrong(f"{shown(text)} is not a domain name: {_label_fault(label)}", _NAME)
    return name


def _label_fault(label: str) -> str:
    if not label:
        return "there is nothing between two dots, or nothing at all"
    if len(label) > 63:
        return f"{shown(label)} is longer than 63 characters"
    return f"{shown(label)} has other characters than letters, digits and inner hyphens"


def _address(text: str) -> IPv4Address | IPv6Address | None:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if "%" in bare:
        return None  # a zone has no meaning outside this machine (RFC 6874 §1)
    try:
        return ip_address(bare)
    except ValueError:
        return None


def is_wildcard(name: str) -> bool:
    return name.startswith("*.")


def publicly_certifiable(name: str) -> bool:
    """Whether a public CA could certify it; for the others there is the built-in CA."""
    address = _address(name)
    if address is not None:
        return address.is_global
    bare = name.removeprefix("*.")
    if "." not in bare:
        return False
    return not bare.endswith(tuple(f".{ending}" for ending in _PRIVATE_ENDINGS))
