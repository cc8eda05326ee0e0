"""Lines of password hashes, as `hash-password`, htpasswd and /etc/shadow write them. Pure.

argon2id, bcrypt, yescrypt and crypt(3)'s SHA-2 are taken. Hashes that a laptop breaks within
minutes (MD5, SHA-1, DES) and plain text are not.
"""

from __future__ import annotations

import re

_KINDS = re.compile(r"\$(argon2id|2[aby]|y|6|5)\$")
_ARGON2 = re.compile(
    r"\$argon2id\$v=19\$m=\d{1,8},t=\d{1,4},p=\d{1,3}\$[A-Za-z0-9+/]{8,}\$[A-Za-z0-9+/]{16,}"
)
_WEAK = re.compile(r"\$apr1\$|\$1\$|\{SHA\}")
_USER = re.compile(r"[^\x00-\x1f\x7f:]{1,255}")


class NotAHash(ValueError):
    """A line is no hash that is taken here; the text says why, and what to do."""


def check_hash(line: str) -> str:
    """The line, if it is a hash that can be verified. Raises `NotAHash`."""
    if _WEAK.match(line):
        raise NotAHash(
            "this kind of hash is broken within minutes; make another one with hash-password"
        )
    if not _KINDS.match(line):
        raise NotAHash("this is no hash of a password; make one with hash-password")
    if line.startswith("$argon2id$"):
        if not _ARGON2.fullmatch(line):
            raise NotAHash("this argon2id hash is not whole")
    elif line.startswith("$2") and not re.fullmatch(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}", line):
        raise NotAHash("this bcrypt hash is not whole")
    return line


def check_user(name: str) -> str:
    """The name, if a client can send it (RFC 7617 §2). Raises `NotAHash`."""
    if not _USER.fullmatch(name):
        raise NotAHash(f"{name!r} is no name that a client can send: it has a colon or a control")
    return name


def read_users(text: str) -> dict[str, str]:
    """Users and hashes of a file in htpasswd's form, NAME:HASH a line. Raises `NotAHash`, which
    names the line."""
    users: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        name, colon, kept = entry.partition(":")
        try:
            if not colon:
                raise NotAHash("there is no colon between name and hash")
            users[check_user(name)] = check_hash(kept)
        except NotAHash as wrong:
            raise NotAHash(f"line {number}: {wrong}") from None
    return users
