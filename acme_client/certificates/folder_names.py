"""The folders in which certificates are kept, by the names of the certificates.

Nothing here looks into a folder.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from ..storage.store import Store

FOLDER = "certificates"
_WILDCARD = "_wildcard"
# The name of a site's second certificate, "example.org/rsa". No character's code reads like that: a
# code ends after two digits, and a code that begins with "ec" is never the last of a character.
_SECOND = re.compile(r"(.*)([/_])(ecdsa|rsa)", re.DOTALL)
# Names that are folder names as they are.
_PLAIN = re.compile(r"[a-z0-9-][a-z0-9.-]*")


def folder_name(name: str) -> str:
    """Turn a name into a folder name, which leads nowhere else, is not hidden and needs no quoting.
    "*.example.org" is "_wildcard.example.org"; other characters than those of host names become
    "_" and their code in hex, as in "2001_3adb8_3a_3a1"; "example.org/rsa" is "example.org_rsa".
    `name_of` leads back.
    """
    return name if _PLAIN.fullmatch(name) else _folder_name(name)


@functools.lru_cache(maxsize=4096)
def _folder_name(name: str) -> str:
    second = _SECOND.fullmatch(name)
    if second and second[2] == "/":
        return f"{folder_name(second[1])}_{second[3]}"
    if name.startswith("*."):
        return _WILDCARD + folder_name("x" + name[1:])[1:]
    escaped = re.sub(r"[^a-z0-9.-]", lambda match: _escape(match[0]), name)
    return re.sub(r"^\.", _escape("."), escaped)


def name_of(folder: str) -> str:
    """Return the name that `folder_name` made this folder name of. Raises ValueError for
    another."""
    second = _SECOND.fullmatch(folder)
    if second and second[2] == "_":
        return f"{name_of(second[1])}/{second[3]}"
    if folder.startswith(_WILDCARD + "."):
        name = "*" + name_of("x" + folder.removeprefix(_WILDCARD))[1:]
    else:
        raw = re.sub(
            rb"_([0-9a-f]{2})", lambda match: bytes.fromhex(match[1].decode()), folder.encode()
        )
        name = raw.decode()
    if folder_name(name) != folder:
        raise ValueError(f"{folder} is not the folder of a name")
    return name


def known_name(folder: str) -> str | None:
    """Return what `name_of` does; None for a folder that is no certificate's."""
    try:
        return name_of(folder)
    except ValueError:
        return None


def names_of(folders: Iterable[str]) -> set[str]:
    """Return the names of these folders, without those that are no certificate's."""
    return {name for name in map(known_name, folders) if name is not None}


def _escape(character: str) -> str:
    return "".join(f"_{byte:02x}" for byte in character.encode())


def kept_names(store: Store) -> list[str]:
    """List the names of all certificates that a store keeps, wanted or not. Raises `OSError`."""
    found = map(known_name, store.list(FOLDER))
    return [one for one in found if one is not None]  # others are somebody else's folders
