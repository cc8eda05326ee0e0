"""HPACK, the header compression of HTTP/2 (RFC 7541), in both directions.

Both ends of a connection keep a table of fields that were sent before, and refer to them by number.
Two things make that dangerous. A table out of step turns one field into another, so every rule that
keeps it in step (the size of entries, the order of evictions, when the size may change) is followed
to the letter and whatever breaks one of them ends the connection. And a few bytes may refer to
many: a block of 16 KiB can name 16,000 fields of 4 KiB each. So fields are shared objects, never
copies, and once the list is larger than is allowed, decoding goes on for the table's sake alone.

A field is judged when it enters the table, once, and not each time that a request refers to it.

The encoder never uses a table: an answer's fields are literals with names from the static table, so
that their bytes can be made once and sent to every connection.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from . import huffman

Field = tuple[bytes, bytes]
# Says what is wrong with a field, None if nothing is.
Judge = Callable[[bytes, bytes], str | None]

# RFC 7541 Appendix A; "name: value", from index 1.
_STATIC_TEXT = (
    ":authority|:method: GET|:method: POST|:path: /|:path: /index.html|:scheme: http|"
    ":scheme: https|:status: 200|:status: 204|:status: 206|:status: 304|:status: 400|:status: 404|"
    ":status: 500|accept-charset|accept-encoding: gzip, deflate|accept-language|accept-ranges|"
    "accept|access-control-allow-origin|age|allow|authorization|cache-control|content-disposition|"
    "content-encoding|content-language|content-length|content-location|content-range|content-type|"
    "cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|"
    "if-unmodified-since|last-modified|link|location|max-forwards|proxy-authenticate|"
    "proxy-authorization|range|referer|refresh|retry-after|server|set-cookie|"
    "strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate"
)


def _static(text: str) -> Field:
    name, _, value = text.rpartition(": ") if ": " in text else (text, "", "")
    return name.encode(), value.encode()


STATIC: tuple[Field, ...] = tuple(_static(text) for text in _STATIC_TEXT.split("|"))
_NAME_INDEX: dict[bytes, int] = {}
_FIELD_INDEX: dict[Field, int] = {}
for _index, _field in enumerate(STATIC, 1):
    _NAME_INDEX.setdefault(_field[0], _index)
    if _field[1]:
        _FIELD_INDEX[_field] = _index

# RFC 7541 §4.1: what an entry counts beside its name and value.
OVERHEAD = 32
TABLE_SIZE = 4096  # SETTINGS_HEADER_TABLE_SIZE unless somebody says otherwise
# Five bytes after the prefix would be 35 bits; nothing of ours is longer than 2**28.
_LONGEST_INTEGER = 28
_PATH_INDEXES = (4, 5)


class CompressionError(Exception):
    """The peer's table and ours can no longer be the same (RFC 9113 §4.3)."""


# An entry: the field, and what is wrong with it.
_Entry = tuple[Field, str | None]

# Of a block that is too large, the first fields stay: the pseudo-fields stand in front.
_KEPT_FOR_THE_LOG = 8


class Block:
    """What a header block says.

    ``fields`` are in their order, the first few where ``too_large``. ``fault``: the first thing
    that is wrong with one of them. ``changed``: the block changed the table. ``value_at`` and
    ``value_end``: where in the block the literal of `:path` begins (with its length) and ends; 0
    where the path is no literal that leaves the table alone. ``never_indexed`` are the names of
    fields that no intermediary may put in a table (RFC 7541 §6.2.3).
    """

    __slots__ = (
        "changed",
        "fault",
        "fields",
        "never_indexed",
        "too_large",
        "value_at",
        "value_end",
    )

    def __init__(self) -> None:
        self.fields: list[Field] = []
        self.fault: str | None = None
        self.too_large = self.changed = False
        self.value_at = self.value_end = 0
        self.never_indexed: list[bytes] | None = None


class Decoder:
    """One direction of a connection. ``generation`` counts the changes of the table: the same bytes
    mean the same fields as long as it stays."""

    __slots__ = ("_judge", "_limit", "_most", "_size", "_table", "generation")

    def __init__(self, judge: Judge, most: int = TABLE_SIZE) -> None:
        """``most``: the SETTINGS_HEADER_TABLE_SIZE that we have told the peer."""
        self._judge = judge
        self._most = self._limit = most
        self._size = 0
        self._table: list[_Entry] = []  # the newest is the last
        self.generation = 0

    def decode(self, data: bytes, most_size: int, most_count: int) -> Block:
        """Read a whole block. ``most_size``: bytes of all names and values, with `OVERHEAD` for
        each; ``most_count``: fields. Raises `CompressionError`; then the connection has to end."""
        block = Block()
        fields = block.fields
        table = self._table
        room, left = most_size, most_count
        at, end = 0, len(data)
        updates = 2  # RFC 7541 §4.2: the lowest and the last size that there was in between
        try:
            while at < end:
                byte = data[at]
                at += 1
                if byte & 0x80:
                    index = byte & 0x7F
                    if index == 0x7F:
                        index, at = _integer(data, at, 0x7F)
                    if index > 61:
                        field, fault = table[61 - index]
                        if fault is not None and block.fault is None:
                            block.fault = fault
                    elif index:
                        field = STATIC[index - 1]
                    else:
                        raise CompressionError("index 0")
                elif byte & 0xE0 == 0x20:
                    size = byte & 0x1F
                    if size == 0x1F:
                        size, at = _integer(data, at, 0x1F)
                    if left != most_count:
                        raise CompressionError("the table's size changes within a block")
                    if not updates:
                        raise CompressionError("the table's size changes a third time")
                    updates -= 1
                    self._resize(size)
                    block.changed = True
                    continue
                else:
                    start = at - 1
                    indexing = byte & 0x40
                    mask = 0x3F if indexing else 0x0F
                    index = byte & mask
                    if index == mask:
                        index, at = _integer(data, at, mask)
                    if index > 61:
                        name = table[61 - index][0][0]
                    elif index:
                        name = STATIC[index - 1][0]
                    else:
                        name, at = _string(data, at)
                    value_at = at
                    value, at = _string(data, at)
                    field = name, value
                    fault = self._judge(name, value)
                    if fault is not None and block.fault is None:
                        block.fault = fault
                    if indexing:
                        self._insert(field, fault)
                        block.changed = True
                    elif index in _PATH_INDEXES and value_at == start + 1:
                        block.value_at, block.value_end = value_at, at
                    if byte & 0xF0 == 0x10:
                        if block.never_indexed is None:
                            block.never_indexed = []
                        block.never_indexed.append(name)
                left -= 1
                room -= len(field[0]) + len(field[1]) + OVERHEAD
                if room < 0 or left < 0:
                    if not block.too_large:
                        block.too_large = True
                        del fields[_KEPT_FOR_THE_LOG:]
                else:
                    fields.append(field)
        except IndexError:
            raise CompressionError("an index or a string beyond the end") from None
        except huffman.HuffmanError as error:
            raise CompressionError(str(error)) from None
        if block.changed:
            self.generation += 1
        return block

    def value(self, data: bytes) -> bytes:
        """The string of a literal that was found by `Block.value_at`. Raises `CompressionError`."""
        try:
            found, at = _string(data, 0)
        except IndexError:
            raise CompressionError("a string beyond the end") from None
        except huffman.HuffmanError as error:
            raise CompressionError(str(error)) from None
        if at != len(data):
            raise CompressionError("a string of another length")
        return found

    def _insert(self, field: Field, fault: str | None) -> None:
        size = len(field[0]) + len(field[1]) + OVERHEAD
        self._evict(self._limit - size)
        if size <= self._limit:  # else the table is empty now, and that is no error (§4.4)
            self._table.append((field, fault))
            self._size += size

    def _resize(self, size: int) -> None:
        if size > self._most:
            raise CompressionError(f"a table of {size} bytes was not allowed")
        self._limit = size
        self._evict(size)

    def _evict(self, room: int) -> None:
        """Until what is in the table is at most ``room`` bytes."""
        table = self._table
        gone, size = 0, self._size
        while size > room and gone < len(table):
            name, value = table[gone][0]
            size -= len(name) + len(value) + OVERHEAD
            gone += 1
        if gone:
            del table[:gone]
            self._size = size


def _integer(data: bytes, at: int, mask: int) -> tuple[int, int]:
    """RFC 7541 §5.1, after a prefix that was all ones."""
    shift, number = 0, mask
    while True:
        byte = data[at]
        at += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
        if shift >= _LONGEST_INTEGER:
            raise CompressionError("an integer without end")


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    """RFC 7541 §5.2: the string at ``at``, and where it ends."""
    first = data[at]
    at += 1
    length = first & 0x7F
    if length == 0x7F:
        length, at = _integer(data, at, 0x7F)
    end = at + length
    if end > len(data):
        raise IndexError
    found = data[at:end]
    return (huffman.decode(found) if first & 0x80 else found), end


# Encoding


def _number(first: int, mask: int, number: int) -> bytes:
    if number < mask:
        return bytes((first | number,))
    made = bytearray((first | mask,))
    number -= mask
    while number >= 0x80:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def _literal(text: bytes, compact: bool) -> bytes:
    if compact:
        size = huffman.encoded_size(text)
        if size < len(text):
            return _number(0x80, 0x7F, size) + huffman.encode(text)
    return _number(0, 0x7F, len(text)) + text


# How a field with a name of the static table begins, with and without "never indexed".
_BY_NAME = {
    never: {name: _number(never, 0x0F, index) for name, index in _NAME_INDEX.items()}
    for never in (0, 0x10)
}
_INDEXED = {field: _number(0x80, 0x7F, index) for field, index in _FIELD_INDEX.items()}
# RFC 7541 §7.1.3: what an attacker could guess byte by byte, were it ever to share a table.
SECRET = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"})


def encode(
    fields: Iterable[Field], compact: bool = False, secret: Iterable[bytes] = SECRET
) -> bytes:
    """A block that needs no table and leaves none behind. ``compact``: Huffman-coded where that is
    shorter, for what is made once and sent often. ``secret``: names to be never indexed."""
    pieces = []
    for field in fields:
        piece = _INDEXED.get(field)
        if piece is None:
            name, value = field
            never = 0x10 if name in secret else 0
            begin = _BY_NAME[never].get(name)
            if begin is None:
                begin = bytes((never,)) + _literal(name, compact)
            length = len(value)
            if length < 0x7F and not compact:
                piece = b"%b%c%b" % (begin, length, value)
            else:
                piece = begin + _literal(value, compact)
        pieces.append(piece)
    return b"".join(pieces)


# What has to stand before the first block after a peer has lowered the size of our encoder's table
# (RFC 7541 §4.2): a table of nothing, which is all that this encoder will ever need.
NO_TABLE = b"\x20"
