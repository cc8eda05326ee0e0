"""What a client says with each request: the lines that do not change from one to the next.

A browser sends a dozen field lines, and from one request of a connection to the next all but two or
three are the same bytes: those that vary (Cookie, Referer, Content-Length, conditions) stand
together or nearly so. A *habit* is what stands before them and what stands behind. A head that
begins and ends like a habit of its connection needs two comparisons instead of a look at every
line, and what somebody has made of those lines once (the encodings that a file may be sent in, the
lines that a backend gets) can be kept by the habit.

Why that is safe: a habit is made only of lines that the lane has accepted and may remember, whole
ones, in their order; what stands between is looked at line by line as ever. So a head that matches
is the same list of lines as without, and no secret is part of a habit. A head that matches none is
read line by line from its beginning.

A few per connection, and they are shared: two clients of the same kind have the same.
"""

from __future__ import annotations

Field = tuple[bytes, bytes]

# A connection's: browsers ask for pages, styles, scripts and pictures in different words.
MOST_OF_ONE = 4
# Bytes of all its lines: what a connection may add to the memory of a worker is bounded by it.
LONGEST = 2048


class Habit:
    """``before`` and ``after`` are whole lines with their CRLF; ``after`` ends with the empty one.
    ``host`` is what the lane knows of the Host line, which is among them."""

    __slots__ = (
        "accept_encoding",
        "after",
        "after_fields",
        "after_size",
        "before",
        "before_fields",
        "before_size",
        "host",
    )

    def __init__(
        self,
        before: bytes,
        before_fields: list[Field],
        after: bytes,
        after_fields: list[Field],
        host: tuple[Field, bytes, bytes],
    ) -> None:
        self.before = before
        self.before_fields = before_fields
        self.before_size = len(before)
        self.after = after
        self.after_fields = after_fields
        self.after_size = len(after)
        self.host = host
        accepted = [value for name, value in self.fields if name == b"accept-encoding"]
        self.accept_encoding = accepted[-1] if accepted else None

    @property
    def fields(self) -> list[Field]:
        return [*self.before_fields, *self.after_fields]
