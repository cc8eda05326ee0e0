"""Variables of the environment in values: ``${NAME}`` and ``${NAME:-default}``, as in a shell.

``$$`` is a dollar. A dollar before anything else is itself, so that the hash of a password, which
is full of them, needs no care; but the name of a variable that is set was hardly meant to stand
there without braces, and is a fault. A variable that is not set and has no default is a fault,
because an empty word in its place would be found out later and elsewhere. Pure: the environment is
handed in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .faults import Wrong, shown

_PIECE = re.compile(r"\$\$|\$\{([^{}]*)\}|\$\{")
# A variable without braces. Hashes of passwords have short words behind their dollars: $v=19$m=64.
_BARE = re.compile(r"(?<!\$)\$([A-Za-z_][A-Za-z0-9_]{2,})(?![A-Za-z0-9_])", re.ASCII)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SAY = "write it like ${NAME} or ${NAME:-default}; a dollar itself is $$"


class FromVariable(str):
    """A value into which a variable was filled in. Where a secret may stand, that is another thing
    than one written into the file."""

    __slots__ = ()


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Return the text with its variables filled in. Raises `Wrong`."""
    for found in _BARE.finditer(text) if "$" in text else ():
        if found[1] in environment:
            raise Wrong(
                f"${found[1]} is not filled in",
                f"write ${{{found[1]}}}; $${found[1]} is these very characters",
            )
    return _PIECE.sub(lambda found: _piece(found, environment), text)


def _piece(found: re.Match[str], environment: Mapping[str, str]) -> str:
    inside = found[1]
    if inside is None:
        if found[0] == "$$":
            return "$"
        raise Wrong("a variable's ${ has no } behind it", _SAY)
    name, has_default, default = inside.partition(":-")
    if not _NAME.fullmatch(name):
        raise Wrong(f"{shown(found[0])} is not a variable", _SAY)
    value = environment.get(name)
    if has_default:
        return value or default
    if value is None:
        raise Wrong(
            f"the variable {name} is not set",
            f"set it where the server is started (Environment= in a unit), or write "
            f"${{{name}:-default}}",
        )
    return value
