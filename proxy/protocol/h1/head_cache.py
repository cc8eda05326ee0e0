"""What a client says with each request: the lines that do not change from one to the next.

A browser sends a dozen field lines, and from one request of a connection to the next all but two or
three are the same bytes: those that vary (Cookie, Referer, Content-Length, conditions) stand in one
or two places. A *habit* is what stands before them, between the two, and behind. A head that begins
and ends like a habit of its connection needs two comparisons instead of a look at every line, and
what somebody has made of those lines once (the encodings that a file may be sent in, the lines that
a backend gets) can be kept by the habit.

Why that is safe: a habit is made only of lines that the lane has accepted and may remember, whole
ones, in their order; all else is looked at line by line as ever. So a head that matches is the same
list of lines as without, and no secret is part of a habit. A head that matches none, or has a name
in both parts (for then their order matters), is read line by line from its beginning.

A few per connection, and they are shared: two clients of the same kind have the same.
"""

from __future__ import annotations

from ..message import FieldBlock

Field = tuple[bytes, bytes]

# A connection's: browsers ask for pages, styles, scripts and pictures in different words.
MOST_OF_ONE = 4
# Bytes of all its lines: what a connection may add to the memory of a worker is bounded by it.
LONGEST = 2048


class Habit:
    """``before``, ``between`` and ``after`` are whole lines with their CRLF; ``after`` ends with
    the empty one, and ``between`` is empty where the lines that vary stand together. ``host`` is
    what the lane knows of the Host line, which is among them."""

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
        self.names = frozenset(name for name, _ in self.block.fields)
