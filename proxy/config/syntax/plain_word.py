"""A word as it stands in a YAML document."""

from __future__ import annotations


class PlainWord(str):
    """A word without quotation marks: one that YAML may take for a number, true or false."""

    __slots__ = ()
