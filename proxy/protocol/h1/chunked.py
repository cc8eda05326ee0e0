"""The chunked transfer coding, read strictly and with a bound on its cost (RFC 9112 §7.1).

One decoder for both directions: requests from clients and responses from backends. It admits the
RFC's grammar and nothing beside it (no bare LF, no sign, no ``0x``, no seventeenth digit), drops
chunk extensions, and refuses trailers that would change what the message means.

A backend is trusted more than a client, and what the client gets of its response is canonical in
any case. So a backend may pad chunk sizes with blanks, and its forbidden trailers are dropped.

Why it decodes and does not merely look: the dear part of chunked bodies is a Python loop per chunk.
h11's costs six microseconds, so that one megabyte sent in one-byte chunks takes it a second; a look
before it would add to that. This loop costs a tenth of it, and what leaves it is either used as it
is or handed to h11 in the canonical framing (`reframe`: one chunk per piece), where h11 remains the
judge of the message's end at a cost that no longer depends on the sender. The claim that makes it
right, held by the tests: what this decoder accepts h11 accepts, with the same data and trailers.

A client's flood of tiny chunks is cut rather than endured: each chunk costs one unit of an
allowance that data and time bring back. Time is a parameter, so that an event stream which sends a
byte now and then is never cut, however long it lasts (Go bounds the same, since CVE-2023-39326,
without time, which forbids less and allows less). A backend has no such bound: applications that
stream rows or single characters make a chunk of each.
"""

from __future__ import annotations

import enum

from ...errors import Fault
from ..claims import is_claim
from ..message import Fields
from .grammar import CHUNK_LINE, FIELD_LINE, OWS, PADDED_CHUNK_LINE

# A chunk line: sixteen digits, and what an extension in use has ever needed (a signature of 64).
_LONGEST_LINE = 256
# 2**60 bytes are more than a disk holds, and far from the edge of any later reader's integers.
_LARGEST_CHUNK = 1 << 60
# Trailers carry a checksum, a status, a few timings. nginx and Go bound them as heads.
_LONGEST_TRAILERS = 8 * 1024
_MOST_TRAILERS = 32

# The allowance, in chunks. A burst costs four milliseconds of CPU; the rate, a thousandth of it.
# One chunk per 32 bytes is free: lines of a log, rows of a table, tokens of a language model.
_BURST = 4096.0
_PER_SECOND = 1000.0
_PER_BYTE = 1 / 32

# RFC 9110 §6.5.1: a trailer must not change framing, routing, authentication, the request's meaning
# or how the content is read. Names of hop-by-hop fields are of no use behind the hop.
FORBIDDEN_TRAILERS = frozenset(
    {
        b"age",
        b"authorization",
        b"cache-control",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"date",
        b"expect",
        b"expires",
        b"forwarded",
        b"host",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"keep-alive",
        b"location",
        b"max-forwards",
        b"pragma",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"range",
        b"remote-user",
        b"retry-after",
        b"set-cookie",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"vary",
        b"via",
        b"warning",
        b"www-authenticate",
        b"cdn-loop",
    }
)
LAST_CHUNK = b"0\r\n\r\n"


class _Expects(enum.Enum):
    SIZE = enum.auto()
    DATA = enum.auto()
    DATA_END = enum.auto()  # the CRLF behind a chunk's data
    TRAILERS = enum.auto()
    NOTHING = enum.auto()


class ChunkedDecoder:
    """Give it what arrives through `feed`; it is done when ``ended`` is true.

    Then ``rest`` holds what came behind the body and ``trailers`` the trailer fields. ``now`` is
    the monotonic time in seconds. A breach of the grammar raises `Fault` "bad_chunk", a client's
    flood of tiny chunks "tiny_chunks"; a caller who reads a backend's answer turns either into a
    fault of the backend.
    """

    __slots__ = (
        "_allowance",
        "_expects",
        "_held",
        "_line",
        "_of_backend",
        "_remaining",
        "_settled",
        "_trailer_bytes",
        "ended",
        "rest",
        "trailers",
    )

    def __init__(self, now: float, of_backend: bool = False) -> None:
        self.ended = False
        self._of_backend = of_backend
        self._line = PADDED_CHUNK_LINE if of_backend else CHUNK_LINE
        self.rest = b""
        self.trailers: Fields = []
        self._expects = _Expects.SIZE
        self._held = b""  # a line, or the end of one, that is not complete yet
        self._remaining = 0  # bytes of the current chunk still to come
        self._trailer_bytes = 0
        self._allowance = _BURST
        self._settled = now

    def feed(self, data: bytes, now: float) -> bytes:
        """The decoded part of ``data``, which may be none."""
        if self._expects is _Expects.DATA and len(data) <= self._remaining:
            # The common case of a large chunk: nothing to look for, nothing to copy.
            self._remaining -= len(data)
            if not self._remaining:
                self._expects = _Expects.DATA_END
            return data
        self._allowance = min(_BURST, self._allowance + (now - self._settled) * _PER_SECOND)
        self._settled = now
        if self._held:
            data = self._held + data
            self._held = b""
        return self._decode(data)

    def _decode(self, data: bytes) -> bytes:
        pieces: list[bytes] = []
        at = 0
        expects = self._expects
        while True:
            if expects is _Expects.SIZE:
                end = data.find(b"\r\n", at, at + _LONGEST_LINE + 2)
                if end < 0:
                    self._hold(data, at, _LONGEST_LINE)
                    break
                size = self._size(data[at:end])
                at = end + 2
                self._remaining = size
                expects = _Expects.DATA if size else _Expects.TRAILERS
            if expects is _Expects.DATA:
                piece = data[at : at + self._remaining]
                if piece:
                    pieces.append(piece)
                at += len(piece)
                self._remaining -= len(piece)
                if self._remaining:
                    break
                expects = _Expects.DATA_END
            if expects is _Expects.DATA_END:
                ending = data[at : at + 2]
                if ending != b"\r\n":
                    if ending not in (b"", b"\r"):
                        raise Fault("bad_chunk", "a chunk longer than its size (RFC 9112 §7.1)")
                    self._held = ending
                    break
                at += 2
                expects = _Expects.SIZE
                continue
            self._trail(data, at)
            expects = self._expects
            break
        self._expects = expects
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _hold(self, data: bytes, at: int, longest: int) -> None:
        """Keep an incomplete line, unless it can no longer become a good one."""
        held = data[at:]
        if len(held) > longest or b"\n" in held or b"\r" in held[:-1]:
            raise Fault("bad_chunk", "a line that is too long or ends without CRLF (RFC 9112 §7.1)")
        self._held = held

    def _size(self, line: bytes) -> int:
        match = self._line.fullmatch(line)
        if match is None:
            raise Fault("bad_chunk", f"the chunk line {line[:32]!r} (RFC 9112 §7.1)")
        size = int(match[1], 16)
        if size > _LARGEST_CHUNK:
            raise Fault("bad_chunk", f"a chunk size of {size} bytes")
        if not self._of_backend:
            self._allowance = min(_BURST, self._allowance + (size - len(line)) * _PER_BYTE - 1)
            if self._allowance < 0:
                raise Fault("tiny_chunks")
        return size

    def _trail(self, data: bytes, at: int) -> None:
        self._expects = _Expects.TRAILERS
        while True:
            left = _LONGEST_TRAILERS - self._trailer_bytes
            end = data.find(b"\r\n", at, at + left + 2)
            if end < 0:
                self._hold(data, at, left)
                return
            line = data[at:end]
            at = end + 2
            if not line:
                self._expects = _Expects.NOTHING
                self.ended = True
                self.rest = data[at:]
                return
            self._trailer_bytes += len(line) + 2
            match = FIELD_LINE.fullmatch(line)
            if match is None:
                raise Fault("bad_chunk", f"the trailer line {line[:32]!r} (RFC 9112 §5)")
            name = match[1].lower()
            if not is_forbidden_trailer(name):
                self.trailers.append((name, match[2].strip(OWS)))
            elif not self._of_backend:
                raise Fault("bad_chunk", f"the trailer {name!r} (RFC 9110 §6.5.1)")
            if len(self.trailers) > _MOST_TRAILERS:
                raise Fault("bad_chunk", f"more than {_MOST_TRAILERS} trailers")


def is_forbidden_trailer(name: bytes) -> bool:
    """Whether a field of this name (lower-case) must not stand behind a body (RFC 9110 §6.5.1)."""
    # "_" for "-": whoever reads the two alike (CGI and its heirs) must not be misled. What is said
    # of the client is said by a proxy, and in the head.
    spelt = name.replace(b"_", b"-")
    return spelt in FORBIDDEN_TRAILERS or is_claim(spelt)


def reframe(data: bytes) -> bytes:
    """``data``, not empty, as one chunk in canonical form."""
    return b"%x\r\n%b\r\n" % (len(data), data)
