"""Requests that are those of a moment ago but for the path.

Browsers and API clients send the same header block again and again: references to the table, and
the path as a literal that is not put into it. A template is what stands before the path and behind
it, and the request that this means. A block that begins and ends like one needs two comparisons and
one string, instead of a look at each field.

Why that is sound: such a block changes no table, so that the same bytes mean the same fields as
long as the table stays; where the path stands was told by the decoder that read it, and its length
has to fill the gap exactly; any change of the table makes all templates void. The path is judged
each time."""

from __future__ import annotations

from dataclasses import replace

from . import request
from .events import Head
from .hpack import Block, Decoder
from .request import Malformed, Rules

MOST = 4  # browsers ask for pages, styles, scripts and pictures in different words
# A template and its fields are kept for as long as the connection is.
_LONGEST = 2048


class _Template:
    __slots__ = ("after", "before", "head", "least", "start")

    def __init__(self, before: bytes, after: bytes, head: Head) -> None:
        self.before, self.after, self.head = before, after, head
        self.start = len(before)
        self.least = len(before) + len(after)


class Templates:
    """Those of a connection, whose ``decoder`` it is."""

    __slots__ = ("_decoder", "_generation", "_known", "_rules")

    def __init__(self, decoder: Decoder, rules: Rules) -> None:
        self._decoder = decoder
        self._rules = rules
        self._known: list[_Template] = []
        self._generation = 0

    def __len__(self) -> int:
        return len(self._known)

    def find(self, number: int, end: bool, data: bytes) -> Head | None:
        """The request of a block on stream ``number``, if a template fits and nothing speaks
        against it; else the block has to be decoded. Raises `CompressionError`."""
        if self._generation != self._decoder.generation:
            self._known.clear()
            self._generation = self._decoder.generation
            return None
        size = len(data)
        for template in self._known:
            start = template.start
            if size <= template.least or not data.startswith(template.before):
                continue
            if not data.endswith(template.after):
                continue
            length = data[start] & 0x7F
            if length == 0x7F or template.least + 1 + length != size:
                continue
            known = template.head
            target = self._decoder.value(data[start : start + 1 + length])
            try:
                request.check_target(target, known.method)
            except Malformed:
                return None  # read in full, it is refused with its reason
            if len(target) > self._rules.target_size or (end and known.length):
                return None
            return Head(
                number,
                end,
                known.method,
                known.scheme,
                known.authority,
                known.host,
                target,
                known.fields,
                known.length,
                None,
                known.expects_continue,
                known.priority,
                known.protocol,
                known.never_indexed,
            )
        return None

    def learn(self, block: Block, data: bytes, head: Head) -> None:
        """Make a template of a block that was decoded, if it can be one."""
        if not block.value_at or block.changed or head.fault is not None:
            return
        if len(data) > _LONGEST or data[block.value_at] & 0x7F == 0x7F:
            return
        if sum(len(name) + len(value) for name, value in head.fields) > 2 * _LONGEST:
            return
        before, after = data[: block.value_at], data[block.value_end :]
        self._known.append(_Template(before, after, replace(head)))
        while len(self._known) > MOST:
            self._known.pop(0)
