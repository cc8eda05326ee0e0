"""Names of hosts: their one spelling, wildcards, and what a person may type.

Everywhere in this package a name is compared in one spelling: lower-case A-labels (RFC 5890
§2.3.2.1) without a trailing dot, and addresses in their canonical text form. Nothing here asks the
DNS. Pure.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Collection

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_LENGTH = 253  # of a name in text form, RFC 1035 §2.3.4


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


# The same few names, each time a certificate is looked at.
@functools.lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """The one spelling of a name in ASCII, or of an address."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower()


def wildcard_of(name: str) -> str:
    """The wildcard that would cover ``name``: it stands for exactly one label, the leftmost (RFC
    9525 §6.3). "" for a name of one label."""
    _label, dot, parent = name.partition(".")
    return f"*.{parent}" if dot else ""


def covers(certified: Collection[str], name: str) -> bool:
    """Whether a certificate with these names is valid for ``name``. A wildcard never covers an
    address."""
    wanted = name if name in certified else canonical(name)
    if wanted in certified:
        return True
    wildcard = wildcard_of(wanted)
    return bool(wildcard) and wildcard in certified and not is_address(name)


def hostname(text: str) -> str | None:
    """The one spelling of a name that a CA may certify; None for what no CA certifies: an address,
    a single label, an underscore, something that only looks like an A-label (RFC 5890 §2.3.1: two
    hyphens in third and fourth place are reserved)."""
    if not text.isascii():
        return None
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > _LENGTH or len(labels) < 2 or not labels[-1][:1].isalpha():
        return None
    for label in labels:
        if not _LABEL.fullmatch(label) or (label[2:4] == "--" and not _is_a_label(label)):
            return None
    return name


def _is_a_label(label: str) -> bool:
    import idna  # its tables are for the few names that are not ASCII

    try:
        return idna.alabel(idna.ulabel(label)).decode("ascii") == label
    except UnicodeError:  # what idna raises is one
        return False


def typed(text: str) -> str:
    """The one spelling of a name as a person types or pastes it: in any script and case, with a dot
    at the end, an address in brackets, a URL, "name/rsa" for a site's second certificate. What is
    no name comes back as it is, for a message that shows it."""
    text = text.strip()
    host = re.sub(r"^https?://", "", text, flags=re.IGNORECASE)
    is_url = host != text
    host, slash, rest = host.partition("/")
    mark = f"/{rest}" if slash and not is_url and rest in ("rsa", "ecdsa") else ""
    if is_url:
        host = re.sub(r"^[^@]*@|:[0-9]*$", "", host)
    if (slash and not is_url and not mark) or not host:
        return text
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    bare = host.removesuffix(".")
    wildcard = "*." if bare.startswith("*.") else ""
    return wildcard + _ascii(canonical(bare.removeprefix("*."))) + mark


def _ascii(name: str) -> str:
    if name.isascii():
        return name
    import idna

    try:
        return idna.encode(name, uts46=True).decode("ascii")
    except UnicodeError:  # what idna raises is one
        return name
