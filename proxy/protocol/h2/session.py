"""HTTP/2 on one connection, without any I/O (RFC 9113): frames in, events out, and back.

Here is what follows from a client's frames: who may send what at this moment, and what becomes of
it where somebody does what he may not. It stands on `outgoing` (what we send) and `inbound` (DATA
and the windows for it); what is otherwise where we are the client, is in `client_session`.

A connection error (`ConnectionFailed`) ends everything, with GOAWAY; a stream error resets one
stream, which is told as `Reset` with ``by_us``. What costs work and brings none is paid for out of
`budget`, and requests are bounded by work that still runs, not by open streams: a client that
resets what it has asked for does not get more of it done.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..exchange import PartialHead
from . import frames, request
from .budget import EMPTY_FRAME, ERROR_PROVOKED, OTHER, REFUSED, RESET_BY_CLIENT, Budget
from .engine import Terms
from .events import Ended, Event, Pong, Prioritised, Reset, Trailers
from .frames import (
    ACK,
    COMPRESSION_ERROR,
    END_HEADERS,
    END_STREAM,
    LAST_STREAM,
    PADDED,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    ConnectionFailed,
)
from .hpack import Block, CompressionError, Decoder
from .inbound import Inbound
from .outgoing import StreamState
from .priority import Priority, parse
from .request import Malformed, Rules
from .templates import Templates
from .windows import FIRST_OF_CONNECTION, Pool

# A header block of more frames, or of more than twice what it may say, is no mistake.
_MOST_CONTINUATIONS = 8
# Trailers carry a checksum, a status, a few timings; as in HTTP/1.1.
_TRAILERS_SIZE = 8 * 1024
_TRAILERS_COUNT = 32
_MOST_GAPS = 16
_MOST_EARLY_PRIORITIES = 32
# Beside the flags of a frame: its stream is said to depend on itself.
_OWN_PARENT = 0x100


class Session(Inbound):
    """One connection, as a server; keeps the contract of `engine.Engine`. ``pool`` and ``window``:
    see `inbound.Inbound`."""

    _reset_price = RESET_BY_CLIENT

    def __init__(
        self,
        terms: Terms,
        now: float,
        *,
        pool: Pool | None = None,
        window: int = FIRST_OF_CONNECTION,
        budget: Budget | None = None,
    ) -> None:
        super().__init__(budget or Budget(now), now, pool, window)
        self.terms = terms
        self.highest = 0
        self.block_since: float | None = None
        self._rules = Rules(terms.scheme, terms.target_size, terms.extended_connect)
        self._most_size = terms.header_size + 32 * terms.header_count
        self._rest = b""
        self._preface = PREFACE
        self._settings_came = False
        self._decoder = Decoder(request.judge)
        self._templates = Templates(self._decoder, self._rules)
        self._gaps: list[range] = []  # numbers that were passed over, which closes them
        self._early: dict[int, Priority] = {}
        self._joining: tuple[int, int] | None = None  # stream and flags of an incomplete block
        self._pieces: list[bytes] = []
        self._joined = 0
        self._seen = 0  # the highest stream of the peer, taken or not
        self._accepting = LAST_STREAM  # streams above are not taken
        self._begin()

    def _begin(self) -> None:
        values = {
            frames.MAX_CONCURRENT_STREAMS: self.terms.streams,
            frames.NO_RFC7540_PRIORITIES: 1,
            frames.MAX_HEADER_LIST_SIZE: self._most_size,
        }
        if self.terms.extended_connect:
            values[frames.ENABLE_CONNECT_PROTOCOL] = 1
        self._introduce(values)

    def _introduce(self, values: dict[int, int]) -> None:
        self._send(frames.settings(values))
        self._send(frames.window_update(0, self._first - frames.FIRST_WINDOW))

    # In

    def receive(self, data: bytes, now: float) -> Iterator[Event]:
        if self.failed:
            return
        self._now = self.budget.now = now
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at, end = 0, len(data)
        try:
            if self._preface:
                count = min(end, len(self._preface))
                if data[:count] != self._preface[:count]:
                    raise ConnectionFailed(PROTOCOL_ERROR, "the connection begins otherwise")
                self._preface = self._preface[count:]
                at = count
            while end - at >= 9:
                high, low, kind, flags, stream = frames.unpack_header(data, at)
                stream &= LAST_STREAM
                length = high << 8 | low
                frames.check(kind, flags, stream, length)
                stop = at + 9 + length
                if self._joining is not None and kind != frames.CONTINUATION:
                    raise ConnectionFailed(PROTOCOL_ERROR, "a frame within a header block")
                if not self._settings_came:
                    if kind != frames.SETTINGS or flags & ACK:
                        raise ConnectionFailed(PROTOCOL_ERROR, "the first frame is no SETTINGS")
                    self._settings_came = stop <= end
                if stop > end:
                    break
                payload = data[at + 9 : stop]
                at = stop
                if kind == frames.HEADERS:
                    event = self._on_headers(stream, flags, payload)
                elif kind == frames.DATA:
                    event = self._on_data(stream, flags, payload)
                else:
                    event = self._on_other(kind, flags, stream, payload)
                if event is not None:
                    yield event
        except ConnectionFailed as failure:
            self._fail(failure)
            raise
        self._keep(data, at)

    def _keep(self, data: bytes, at: int) -> None:
        """The beginning of a frame, for the next read. Of a head it is to be known since when it
        has been incomplete."""
        rest = data[at:] if at else data
        self._rest = rest
        if self._joining is None:
            if not rest or (len(rest) > 3 and rest[3] != frames.HEADERS):
                self.block_since = None
            elif at or self.block_since is None:
                self.block_since = self._now

    def _fail(self, failure: ConnectionFailed) -> None:
        self.failed = True
        # What waits belongs to a connection that has ended; GOAWAY may still be read.
        self._send(frames.goaway(self.highest, failure.code))

    def _on_other(self, kind: int, flags: int, stream: int, payload: bytes) -> Event | None:
        match kind:
            case frames.WINDOW_UPDATE:
                return self._on_window_update(stream, payload)
            case frames.RST_STREAM:
                return self._on_rst_stream(stream, payload)
            case frames.SETTINGS:
                return self._on_settings(flags, payload)
            case frames.PING:
                return self._on_ping(flags, payload)
            case frames.CONTINUATION:
                return self._on_continuation(stream, flags, payload)
            case frames.PRIORITY:
                self.budget.spend(OTHER, "PRIORITY")
                if frames.unpack_long(payload) == stream:
                    return self._depends_on_itself(stream)
            case frames.PRIORITY_UPDATE:
                return self._on_priority_update(payload)
            case frames.GOAWAY:
                self.budget.spend(OTHER, "GOAWAY")
                last, code = frames.unpack_long(payload), frames.unpack_code(payload, 4)
                return Ended(last, code)
            case frames.PUSH_PROMISE:
                # A client never pushes, and we have told servers not to (RFC 9113 §8.4).
                raise ConnectionFailed(PROTOCOL_ERROR, "PUSH_PROMISE")
            case _:
                self.budget.spend(OTHER, f"frame type {kind}")
        return None

    # Header blocks

    def _on_headers(self, stream: int, flags: int, payload: bytes) -> Event | None:
        if flags & (PADDED | frames.HAS_PRIORITY):
            if flags & PADDED:
                payload = frames.unpadded(payload)
            if flags & frames.HAS_PRIORITY:
                if len(payload) < 5:
                    raise ConnectionFailed(frames.FRAME_SIZE_ERROR, "HEADERS without its priority")
                own = frames.unpack_long(payload) == stream
                payload = payload[5:]
                if own:
                    flags |= _OWN_PARENT
        if flags & END_HEADERS:
            return self._on_block(stream, flags, payload)
        self._joining = stream, flags
        self._pieces = [payload]
        self._joined = len(payload)
        self.block_since = self._now
        return None

    def _on_continuation(self, stream: int, flags: int, payload: bytes) -> Event | None:
        joining = self._joining
        if joining is None or joining[0] != stream:
            raise ConnectionFailed(PROTOCOL_ERROR, f"CONTINUATION on stream {stream}")
        self._pieces.append(payload)
        self._joined += len(payload)
        if len(self._pieces) > _MOST_CONTINUATIONS + 1 or self._joined > 2 * self._most_size:
            raise ConnectionFailed(frames.ENHANCE_YOUR_CALM, "a header block without end")
        if not flags & END_HEADERS:
            if not payload:
                self.budget.spend(EMPTY_FRAME, "an empty CONTINUATION")
            return None
        block = b"".join(self._pieces)
        self._pieces, self._joining, self.block_since = [], None, None
        return self._on_block(stream, joining[1], block)

    def _on_block(self, number: int, flags: int, data: bytes) -> Event | None:
        end = bool(flags & END_STREAM)
        stream = self._streams.get(number)
        if stream is None:
            return self._on_new_block(number, flags, data)
        if not stream.remote:
            self._decode(data, 0, 0)
            return self._stream_error(number, STREAM_CLOSED, "HEADERS behind the end")
        if not stream.begun:
            return self._on_answer(number, stream, end, data)
        block = self._decode(data, _TRAILERS_SIZE, _TRAILERS_COUNT)
        try:
            if not end:
                raise Malformed("HEADERS within a body")
            if flags & _OWN_PARENT:
                raise Malformed("a stream that depends on itself")
            fields = request.trailers(block)
        except Malformed as error:
            return self._stream_error(number, PROTOCOL_ERROR, str(error))
        if stream.expected:
            return self._stream_error(number, PROTOCOL_ERROR, "the body is too short")
        self._end_remote(number, stream)
        return Trailers(number, fields)

    def _on_new_block(self, number: int, flags: int, data: bytes) -> Event | None:
        """On a stream that is not there: not yet, or not any more."""
        if number <= self._seen:
            return self._on_late_block(number, data)
        if not number & 1:
            raise ConnectionFailed(PROTOCOL_ERROR, f"a client opens stream {number}")
        return self._open(number, bool(flags & END_STREAM), data, bool(flags & _OWN_PARENT))

    def _on_answer(self, number: int, stream: StreamState, end: bool, data: bytes) -> Event | None:
        raise NotImplementedError("a server gets no answers")

    def _decode(self, data: bytes, most_size: int, most_count: int) -> Block:
        try:
            return self._decoder.decode(data, most_size, most_count)
        except CompressionError as error:
            raise ConnectionFailed(COMPRESSION_ERROR, str(error)) from None

    def _on_late_block(self, number: int, data: bytes) -> Event | None:
        """For a stream that is not there any more, or never was."""
        self._decode(data, 0, 0)  # the table goes on
        by_us = self._reset.get(number)
        if by_us is not None:
            if not by_us:
                raise ConnectionFailed(STREAM_CLOSED, f"HEADERS behind RST_STREAM on {number}")
            return None  # it was on its way
        if self._never_was(number):
            raise ConnectionFailed(PROTOCOL_ERROR, f"HEADERS on stream {number}")
        raise ConnectionFailed(STREAM_CLOSED, f"HEADERS on stream {number}, which has ended")

    def _never_was(self, number: int) -> bool:
        """Whether a stream without state has none because it was never opened."""
        return not number & 1 or any(number in gap for gap in self._gaps)

    def _open(self, number: int, end: bool, data: bytes, own_parent: bool) -> Event | None:
        if number > self._seen + 2 and len(self._gaps) < _MOST_GAPS:
            self._gaps.append(range(self._seen + 1, number))
        self._seen = number
        if number > self._accepting:
            # Behind our GOAWAY: the client knows that it was not taken, and asks elsewhere.
            self._decode(data, 0, 0)
            self._remember_reset(number, True)
            return None
        most = self.terms.streams
        if self.active >= most or len(self._streams) >= most:
            self._decode(data, 0, 0)
            self._refuse(number, REFUSED_STREAM)
            self.budget.spend(REFUSED, "a refused stream")
            return Reset(number, REFUSED_STREAM, True, "too many streams")
        try:
            head = self._templates.find(number, end, data)
        except CompressionError as error:
            raise ConnectionFailed(COMPRESSION_ERROR, str(error)) from None
        if head is None:
            block = self._decode(data, self._most_size, self.terms.header_count)
            try:
                if own_parent:
                    raise Malformed("a stream that depends on itself")
                head = request.read(number, block, end, self._rules)
            except Malformed as error:
                return self._malformed(number, str(error), request.what_could_be_read(block))
            self._templates.learn(block, data, head)
        elif own_parent:
            partial = PartialHead(head.method, head.target, head.authority)
            return self._malformed(number, "a stream that depends on itself", partial)
        stream = self._streams[number] = StreamState(self._first_window, not end)
        stream.expected = head.length
        if self._early:
            head.priority = self._early.pop(number, head.priority)
        self.highest = number
        self.active += 1
        self.budget.carried(1)
        return head

    def _malformed(self, number: int, detail: str, partial: PartialHead | None = None) -> Event:
        self._refuse(number, PROTOCOL_ERROR)
        self.budget.spend(ERROR_PROVOKED, detail)
        return Reset(number, PROTOCOL_ERROR, True, detail, partial)

    # Other frames

    def _is_idle(self, number: int) -> bool:
        return not number & 1 or number > self._seen

    def _on_rst_stream(self, number: int, payload: bytes) -> Event | None:
        stream = self._streams.get(number)
        if stream is None:
            if self._is_idle(number):
                raise ConnectionFailed(PROTOCOL_ERROR, f"RST_STREAM on stream {number}")
            if number not in self._reset:
                self.budget.spend(OTHER, "RST_STREAM on a stream that has ended")
            return None
        del self._streams[number]
        self._remember_reset(number, False)
        self.budget.spend(self._reset_price, "RST_STREAM")
        return Reset(number, frames.unpack_code(payload))

    def _on_ping(self, flags: int, payload: bytes) -> Event | None:
        if flags & ACK:
            self.budget.spend_unless_free("PING with ACK")
            return Pong(payload)
        self.budget.spend_unless_free("PING")
        self._send(frames.ping(payload, ack=True))
        return None

    def _on_priority_update(self, payload: bytes) -> Event | None:
        number = frames.unpack_long(payload)
        if not number:
            raise ConnectionFailed(PROTOCOL_ERROR, "PRIORITY_UPDATE")
        self.budget.spend(OTHER, "PRIORITY_UPDATE")
        priority = parse(payload[4:])
        if number in self._streams:
            return Prioritised(number, priority)
        if number > self.highest and len(self._early) < _MOST_EARLY_PRIORITIES:
            self._early[number] = priority
        return None

    def _depends_on_itself(self, number: int) -> Event | None:
        """RFC 7540 §5.3.1; RFC 9113 has dropped priorities, and whoever writes this is broken."""
        if number in self._streams:
            return self._stream_error(number, PROTOCOL_ERROR, "a stream that depends on itself")
        raise ConnectionFailed(PROTOCOL_ERROR, "a stream that depends on itself")

    # The end

    def goaway(self, last: int, code: int) -> None:
        self._accepting = min(self._accepting, last)
        self._send(frames.goaway(self._accepting, code))
