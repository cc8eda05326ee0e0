"""Text that others have written, made fit for a line of ours. Pure."""

from __future__ import annotations


def printable(text: str) -> str:
    """A CA's words, a script's output, other programs' files, anybody's names: they end no line,
    begin no header field and command no terminal."""
    return "".join(one if one.isprintable() else " " for one in text)
