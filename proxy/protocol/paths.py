"""What a request's path says, and which readings of it there are. Pure.

A path is percent-encoded (RFC 3986 §2.1), and programs disagree about what it means: whether
``%2F`` separates segments, whether ``\\`` does, whether ``//`` is one slash, when ``..`` is taken
out. Two readers that disagree are how a rule for a path is dodged: one checks ``/a``, the other
serves ``/b``. So there are two functions.

`understood` is the one reading that this server uses itself, for files and for routes. It refuses a
path that a careful reader could take for two.

`readings` are all that a program behind this server might make of it. Where every one of them is
treated alike, nothing can be dodged, and the path may be passed on as it came.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from ..errors import Fault

_ODD = re.compile(rb"//|/\.|[%\\;]")
_MANY_SLASHES = re.compile(rb"//+")
_BROKEN_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_AMBIGUOUS = re.compile(rb"%(?:2[fF]|5[cC]|00)|\\")
# RFC 3629 §3: C0 and C1 never appear, E0 and F0 never before these. Lenient decoders make "." and
# "/" of what strict ones refuse.
_OVERLONG = re.compile(rb"[\xc0\xc1][\x80-\xbf]|\xe0[\x80-\x9f]|\xf0[\x80-\x8f]")
_NO_SEGMENT = frozenset({b"", b".", b"%2e", b"%2E"})
_UP = re.compile(rb"(?:^|/)\.\.(?:/|$)")
_HERE = re.compile(rb"(?<=/)\.(?:/|\Z)")
_ENCODED_SLASH = re.compile(rb"%2[fF]")
_PARAMETERS = re.compile(rb";[^/]*")
# The same for those who decode first; an encoded slash ends a segment for them as well.
_DECODED_PARAMETERS = re.compile(rb"(?:;|%3[bB])(?:(?!%2[fF])[^/])*")
_ENCODED_BACKSLASH = re.compile(rb"%5[cC]")
# What may stand in a path as it is (RFC 3986 §3.3); a percent sign only before two hex digits.
_NOT_IN_A_PATH = re.compile(rb"[^A-Za-z0-9\-._~!$&'()*+,;=:@/%]|%(?![0-9A-Fa-f]{2})")


def understood(path: bytes) -> bytes:
    """A percent-encoded path as this server reads it: decoded, slashes merged, ``/./`` taken out
    (RFC 3986 §5.2.4).

    ``path`` is printable ASCII, as the grammar of a request's target has it (h1/grammar.py).
    Raises `Fault` ("bad_path") for one with ``..`` or one that can be understood in two ways.
    """
    if b"%" not in path and b"//" not in path and b"/." not in path and b"\\" not in path:
        return path  # nearly all of them
    if _AMBIGUOUS.search(path):
        raise Fault("bad_path", f"{path[:64]!r} has an encoded slash, a backslash or a NUL")
    if _BROKEN_PERCENT.search(path):
        raise Fault("bad_path", f"{path[:64]!r} has a percent sign that encodes nothing")
    decoded = _MANY_SLASHES.sub(b"/", unquote_to_bytes(path))
    if _OVERLONG.search(decoded):
        raise Fault("bad_path", f"{path[:64]!r} has overlong UTF-8")
    if _UP.search(decoded):
        raise Fault("bad_path", f"{path[:64]!r} leads upwards (/../)")
    return _HERE.sub(b"", decoded)


def readings(path: bytes) -> set[bytes] | None:
    """What programs might make of ``path``: each combination of ``%2F`` decoded or not, of a
    backslash that separates or not, of dot segments taken out before decoding, after it, both or
    not, of an end at a NUL or not; slashes are merged. None where nobody can say: a percent sign
    that encodes nothing, or overlong UTF-8."""
    if _BROKEN_PERCENT.search(path) or _OVERLONG.search(unquote_to_bytes(path)):
        return None
    # One choice after the other: paths that a choice leaves alike are one from there on.
    found = {path, _resolved(_MANY_SLASHES.sub(b"/", path))}
    found |= {_ENCODED_SLASH.sub(b"%252F", one) for one in found}
    apart = {unquote_to_bytes(_ENCODED_BACKSLASH.sub(b"%255C", one)) for one in found}
    found = apart | {unquote_to_bytes(one).replace(b"\\", b"/") for one in found}
    found |= {one.partition(b"\0")[0] for one in found}
    found = {_MANY_SLASHES.sub(b"/", one) for one in found}
    return found | {_resolved(one) for one in found}


def without_parameters(path: bytes) -> set[bytes]:
    """The path as servlet containers have it, still percent-encoded: without path parameters, from
    a semicolon to the end of the segment, so that ``/a/..;/b`` is ``/a/../b``. Empty for a path
    that has none."""
    return {_PARAMETERS.sub(b"", path), _DECODED_PARAMETERS.sub(b"", path)} - {path}


def in_order(path: bytes) -> bytes:
    """The path in its own spelling, but without empty segments and ``.``: what may be taken apart
    at its slashes, and put together to another path.

    An encoded slash stays what it is. Raises `Fault` ("bad_path") for a path that some program,
    decoding it in whatever order and with path parameters or without, reads as leading upwards, or
    cuts off.
    """
    if _ODD.search(path) is None:
        return path  # nearly all of them
    if _is_ambiguous(path):
        for spelling in (path, *without_parameters(path)):
            several = readings(spelling)
            if several is None or any(b"\0" in one or _UP.search(one) for one in several):
                raise Fault("bad_path", f"{path[:64]!r} cannot be rewritten: it may lead upwards")
    segments = path.split(b"/")[1:]
    kept = [one for one in segments if one not in _NO_SEGMENT]
    if kept and segments[-1] in _NO_SEGMENT:
        kept.append(b"")  # a folder is a folder
    return b"/" + b"/".join(kept)


def _is_ambiguous(path: bytes) -> bool:
    """Whether programs may disagree about a path, or leave parameters out of it."""
    if _DECODED_PARAMETERS.search(path):
        return True
    try:
        understood(path)
    except Fault:
        return True
    return False


def below(path: bytes, prefix: bytes) -> bytes | None:
    """What follows ``prefix`` (decoded, with slashes around it) in a path as it came, however its
    beginning is spelt; None where the prefix ends within something ambiguous."""
    left = prefix.count(b"/") - 1  # segments
    at = path.find(b"/") + 1
    while left:
        end = path.find(b"/", at)
        if end < 0:
            return None
        left -= path[at:end] not in _NO_SEGMENT
        at = end + 1
    try:
        return path[at:] if understood(path[:at]) == prefix else None
    except Fault:
        return None


def sendable(path: bytes) -> bytes:
    """The path as it came, for a Location field: what no URL may hold is percent-encoded."""
    return _NOT_IN_A_PATH.sub(lambda found: b"%%%02X" % found[0][0], path)


def one_slash(location: bytes) -> bytes:
    """A Location whose path begins with one slash: two would name another host (RFC 3986 §4.2)."""
    return b"/" + location.lstrip(b"/") if location.startswith(b"//") else location


def _resolved(path: bytes) -> bytes:
    """Without dot segments, as RFC 3986 §5.2.4 takes them out."""
    if b"/." not in path and not path.startswith(b"."):
        return path or b"/"
    kept: list[bytes] = []
    segments = path.split(b"/")
    for segment in segments:
        if segment == b"..":
            if len(kept) > 1:
                kept.pop()
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in (b".", b"..") and kept[-1:] != [b""]:
        kept.append(b"")
    return b"/".join(kept) or b"/"
