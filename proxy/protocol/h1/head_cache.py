"""Templates of request heads: the field lines that do not change from one request to the next.

A browser sends a dozen field lines, and from one request of a connection to the next all but two or
three are the same bytes. Those that vary (Cookie, Referer, Content-Length, conditions) stand in one
or two places. A template is what stands before them, between the two, and behind. A head that
begins and ends like a template of its connection needs two comparisons instead of a look at every
line. What others make of those lines once (the encodings that a file may be sent in, the lines that
a backend gets) can be kept by the template's `FieldBlock`.

Why that is safe: a template is made only of whole lines that the fast parser has accepted and may
remember, in their order; all other lines are parsed one by one. So a head that matches yields the
same list of fields as it would without, and no secret is part of a template. A head that matches no
template, or has a name in both parts (then their order matters), is parsed line by line.

A connection has a few templates. They are shared: two clients of the same kind have the same.
"""

from __future__ import annotations

from ..message import FieldBlock

Field = tuple[bytes, bytes]

# Browsers ask for pages, styles, scripts and pictures in different words.
MAX_PER_CONNECTION = 4
# Bytes of all lines of a template; it bounds what a connection may add to a worker's memory.
MAX_SIZE = 2048


class HeadTemplate:
    """``before``, ``between`` and ``after`` are whole lines with their CRLF; ``after`` ends with
    the empty one, and ``between`` is empty where the lines that vary stand together. ``host`` is
    what the fast parser knows of the Host line, which is among them. ``count`` is how many lines
    they are."""

    __slots__ = (
        "after",
        "after_fields",
        "after_size",
        "before",
        "before_fields",
        "before_size",
        "between",
        "between_fields",
        "block",
        "count",
        "host",
        "names",
    )

    def __init__(
        self,
        texts: tuple[bytes, bytes, bytes],
        fields: tuple[list[Field], list[Field], list[Field]],
        host: tuple[Field, bytes, bytes],
    ) -> None:
        self.before, self.between, self.after = texts
        self.before_fields, self.between_fields, self.after_fields = fields
        self.before_size, self.after_size = len(self.before), len(self.after)
        self.host = host
        self.block = FieldBlock([*self.before_fields, *self.between_fields, *self.after_fields])
        self.names = self.block.names
        self.count = len(self.block.fields)
