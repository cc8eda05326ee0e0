"""Users and groups, by name or number, from the system's own tables."""

from __future__ import annotations

import grp
import pwd

from ..syntax.faults import Wrong, shown

NOBODY = (
    65534  # "nobody" and "nogroup" wherever there is a user namespace; sysctl kernel.overflowuid
)
_LARGEST = 2**32 - 2  # (uid_t) -1 means "leave it as it is" to setresuid

_NOT_ROOT = "root's privileges are what the program gets rid of"


def find_user(word: str) -> tuple[int, int | None]:
    """Return the uid, and the primary group where the system knows the user. Raises `Wrong`."""
    if word.isascii() and word.isdigit():
        uid = _number(word)
        try:
            gid = pwd.getpwuid(uid).pw_gid
        except KeyError:
            return uid, None
        return uid, gid
    if ":" in word:
        user, _, group = word.partition(":")
        raise Wrong(
            f"{shown(word)} is a user and a group", f"write user: {user} and group: {group}"
        )
    try:
        entry = pwd.getpwnam(word)
    except (KeyError, ValueError):
        raise Wrong(
            f"there is no user {shown(word)} here",
            "create it with useradd --system, or name another",
        ) from None
    if entry.pw_uid == 0:
        raise Wrong(f"{shown(word)} is root", f"name another user: {_NOT_ROOT}")
    return entry.pw_uid, entry.pw_gid


def find_group(word: str) -> int:
    """Return the gid. Raises `Wrong`."""
    if word.isascii() and word.isdigit():
        return _number(word)
    try:
        gid = grp.getgrnam(word).gr_gid
    except (KeyError, ValueError):
        raise Wrong(
            f"there is no group {shown(word)} here", "name another, or its number"
        ) from None
    if gid == 0:
        raise Wrong(f"{shown(word)} is root's group", f"name another group: {_NOT_ROOT}")
    return gid


def _number(word: str) -> int:
    number = int(word[:12])
    if number == 0:
        raise Wrong("0 is root", f"name another: {_NOT_ROOT}")
    if number > _LARGEST:
        raise Wrong(f"{shown(word)} is not a valid number of a user or group", "name another")
    return number
