"""The names of sites: domain names, wildcards, ``localhost``, IP addresses.

One spelling of each comes out, the one that certificates, SNI and the router compare: lower-case
A-labels (RFC 5890 §2.3.2.1) without a trailing dot, and IP addresses in their canonical text form
without brackets. Nothing here asks the DNS.

The idna package and its tables are loaded when the first name comes up that is not ASCII.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

from .faults import Wrong, shown

# Underscores are no part of a host's name (RFC 952), and still stand in names that people use.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
# A name in this form is spelt as it is compared, and is no address: its end begins with a letter.
_USUAL = re.compile(rf"(?:{_LABEL.pattern}\.)+[a-z](?:[a-z0-9_-]{{0,61}}[a-z0-9_])?", re.ASCII)
_LENGTH = 253  # octets of a name in text form, RFC 1035 §2.3.4

# Endings that the public DNS does not have, so that no public CA can certify a name below them:
# RFC 6761 §6 (test, localhost, invalid, example), RFC 6762 (local), RFC 8375 (home.arpa),
# internal, which ICANN's board reserved for private use in 2024, and what routers and offices use
# all the same and nobody can register (RFC 6762 appendix G; home and corp: ICANN, 4 February 2018).
_PRIVATE_ENDINGS = (
    *("localhost", "internal", "test", "invalid", "example", "local", "home.arpa"),
    *("lan", "home", "corp", "intranet", "private", "localdomain"),
)

_NAME = "write it like example.org, *.example.org, localhost or 192.0.2.1"


def parse_name(text: str) -> str:
    """The name in the spelling that everything compares. Raises `Wrong`."""
    if len(text) <= _LENGTH and _USUAL.fullmatch(text):
        return str(text)
    text = text.strip()
    address = _address(text)
    if address is not None:
        return str(address)
    if text in ("_", "*", "default", "_default_"):
        kind = "an asterisk" if text == "*" else "a word for every name"
        raise Wrong(
            f"{shown(text)} is {kind} and no name",
            "a site with default: true, beside names of its own, takes what no other has",
        )
    if text.startswith(("~", "^")):
        raise Wrong(f"{shown(text)} is not a domain name but a pattern", _NAME)
    if "," in text or ";" in text or re.search(r"\S[ \t]+\S", text):
        several = ", ".join(re.split(r"[\s,;]+", text.strip(" ,;")))
        raise Wrong(
            f"{shown(text)} is several names in one word", f"write a list: names: [{several}]"
        )
    if "://" in text:
        host = re.split(r"[/?#:]", text.partition("://")[2])[0] or "example.org"
        raise Wrong(f"{shown(text)} is a URL and not a name", f"give the host alone: {host}")
    if "/" in text or "@" in text or ":" in text:
        host = re.split(r"[/:]", text.rpartition("@")[2])[0] or "example.org"
        ports = "; ports stand under listen" if re.search(r":\d+/?$", text) else ""
        raise Wrong(f"{shown(text)} holds more than a name", f"give the host alone: {host}{ports}")
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
        import idna

        try:
            # The tables' own rule on letters would refuse underscores; `_LABEL` has the last word.
            name = idna.encode(bare, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            reason = str(error).rstrip(".")
            raise Wrong(f"{shown(text)} is not a domain name: {reason}", _NAME) from None
    for label in name.split("."):
        if not label and text.startswith(".") and len(name) > 1:
            bare = name[1:]
            raise Wrong(
                f"{shown(text)} is not a domain name: {_label_fault(label)}",
                f'for a domain and all below it, list both: [{bare}, "*.{bare}"]',
            )
        if not _LABEL.fullmatch(label):
            raise Wrong(f"{shown(text)} is not a domain name: {_label_fault(label)}", _NAME)
    return name


def _label_fault(label: str) -> str:
    if not label:
        return "there is nothing between two dots, or nothing at all"
    if len(label) > 63:
        return f"{shown(label)} is longer than 63 characters"
    return (
        f"{shown(label)} has other characters than letters, digits, underscores and inner hyphens"
    )


def _address(text: str) -> IPv4Address | IPv6Address | None:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if "%" in bare:
        return None  # a zone has no meaning outside this machine (RFC 6874 §1)
    if ":" not in bare and not bare[-1:].isdigit():
        return None  # and thousands of names are told apart without an exception each
    try:
        return ip_address(bare)
    except ValueError:
        return None


def is_wildcard(name: str) -> bool:
    return name.startswith("*.")


def has_underscore(name: str) -> bool:
    """Whether no public CA may certify the name (CA/Browser Forum, ballot SC12, 2019)."""
    return "_" in name


def publicly_certifiable(name: str) -> bool:
    """Whether a public CA could certify it; for the others there is the built-in CA."""
    address = _address(name)
    if address is not None:
        return address.is_global
    bare = name.removeprefix("*.")
    if "." not in bare:
        return False
    return not bare.endswith(tuple(f".{ending}" for ending in _PRIVATE_ENDINGS))
