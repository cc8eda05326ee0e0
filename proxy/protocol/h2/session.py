"""HTTP/2 on one connection, without any I/O (RFC 9113): frames in, events out, and back.

Here is the state of a connection and of its streams: who may send what at this moment, and what
follows where somebody does what he may not. Both roles are here, because they differ in little: who
begins, which numbers streams have, and what a header block must say.

A connection error (`ConnectionFailed`) ends everything, with GOAWAY; a stream error resets one
stream, which is told as `Reset` with ``by_us``. What costs work and brings none is paid for out of
`budget`, and requests are bounded by work that still runs, not by open streams: a client that
resets what it has asked for does not get more of it done.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import frames, request
from .budget import (
    BACKEND,
    EMPTY_FRAME,
    ERROR_PROVOKED,
    OTHER,
    REFUSED,
    RESET_BY_CLIENT,
    SETTINGS,
    Budget,
)
from .engine import StreamGone, Terms, check_outgoing
from .events import Data, Ended, Event, Pong, Prioritised, Reset, Room, Trailers
from .frames import (
    ACK,
    COMPRESSION_ERROR,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    LARGEST_FRAME,
    LARGEST_WINDOW,
    LAST_STREAM,
    PADDED,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    ConnectionFailed,
)
from .hpack import NO_TABLE, SECRET, TABLE_SIZE, Block, CompressionError, Decoder, Field, encode
from .priority import Priority, parse
from .request import Malformed, Rules
from .templates import Templates
from .windows import FIRST_OF_CONNECTION, LARGEST_OF_CONNECTION, Pool, Window

# A header block of more frames, or of more than twice what it may say, is no mistake.
_MOST_CONTINUATIONS = 8
# Trailers carry a checksum, a status, a few timings; as in HTTP/1.1.
_TRAILERS_SIZE = 8 * 1024
_TRAILERS_COUNT = 32
_MOST_RESETS_KNOWN = 256
_MOST_GAPS = 16
_MOST_EARLY_PRIORITIES = 32
_MOST_INTERIM = 8


class _Stream:
    """``expected``: how many bytes of the body are still to come, None where nobody said.
    ``window``: what we may send. ``local`` and ``remote``: whether that side may send. A client's:
    ``answered``, whether the final head has come, ``interim``, how many before it, and
    ``bodiless``, whether a length in it means nothing (an answer to HEAD)."""

    __slots__ = (
        "answered",
        "bodiless",
        "expected",
        "inbound",
        "interim",
        "local",
        "remote",
        "window",
    )

    def __init__(self, window: int, remote: bool) -> None:
        self.window = window
        self.local = True
        self.remote = remote
        self.expected: int | None = None
        self.inbound: Window | None = None  # made when the first DATA comes
        self.bodiless = self.answered = False
        self.interim = 0


class Session:
    """One connection; keeps the contract of `engine.Engine`.

    ``client``: we are one, and `request` opens streams; else we are a server. ``pool``: what the
    connection's window may grow out of; ``window``: where it begins.
    """

    def __init__(
        self,
        terms: Terms,
        now: float,
        *,
        client: bool = False,
        pool: Pool | None = None,
        window: int = FIRST_OF_CONNECTION,
    ) -> None:
        self.terms = terms
        self.client = client
        self.budget = Budget(now, BACKEND if client else 1.0)
        self.unsent = 0
        self.active = 0
        self.highest = 0
        self.block_since: float | None = None
        self.failed = False
        self.peer_streams = 100  # RFC 9113 §6.5.2: what to assume before the peer has said it
        self._now = now
        self._rules = Rules(terms.scheme, terms.target_size, terms.extended_connect)
        self._most_size = terms.header_size + 32 * terms.header_count
        self._pool = pool
        self._out: list[bytes] = []
        self._rest = b""
        self._preface = b"" if client else PREFACE
        self._settings_came = False
        self._decoder = Decoder(request.judge)
        self._templates = Templates(self._decoder, self._rules)
        self._streams: dict[int, _Stream] = {}
        self._held: dict[int, int] = {}  # bytes of bodies that were not consumed
        self._reset: dict[int, bool] = {}  # streams that were reset, and whether by us
        self._gaps: list[range] = []  # numbers that were passed over, which closes them
        self._early: dict[int, Priority] = {}
        self._joining: tuple[int, int] | None = None  # stream and flags of an incomplete block
        self._pieces: list[bytes] = []
        self._joined = 0
        self._window = frames.FIRST_WINDOW  # what we may send on the connection
        self._first_window = frames.FIRST_WINDOW  # and on a new stream
        self._first = window
        self._inbound = Window(window, max(window, LARGEST_OF_CONNECTION), now)
        self._largest_frame = LARGEST_FRAME
        self._table_was_lowered = False
        self._peer_extended_connect = False
        self._seen = 0  # the highest stream of the peer, taken or not
        self._accepting = LAST_STREAM  # streams above are not taken
        self._next_own = 1
        self._begin()

    def _begin(self) -> None:
        values: dict[int, int] = {}
        if self.client:
            self._send(PREFACE)
            values[frames.ENABLE_PUSH] = 0
        else:
            values[frames.MAX_CONCURRENT_STREAMS] = self.terms.streams
            values[frames.NO_RFC7540_PRIORITIES] = 1
            if self.terms.extended_connect:
                values[frames.ENABLE_CONNECT_PROTOCOL] = 1
        values[frames.MAX_HEADER_LIST_SIZE] = self._most_size
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
            if self.client or number <= self._seen:
                return self._on_late_block(number, data)
            if not number & 1:
                raise ConnectionFailed(PROTOCOL_ERROR, f"a client opens stream {number}")
            return self._open(number, end, data, bool(flags & _OWN_PARENT))
        if not stream.remote:
            self._decode(data, 0, 0)
            return self._stream_error(number, STREAM_CLOSED, "HEADERS behind the end")
        if self.client and not stream.answered:
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
        if self.client or not number & 1 or any(number in gap for gap in self._gaps):
            raise ConnectionFailed(PROTOCOL_ERROR, f"HEADERS on stream {number}")
        raise ConnectionFailed(STREAM_CLOSED, f"HEADERS on stream {number}, which has ended")

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
                return self._malformed(number, str(error))
            self._templates.learn(block, data, head)
        elif own_parent:
            return self._malformed(number, "a stream that depends on itself")
        stream = self._streams[number] = _Stream(self._first_window, not end)
        stream.expected = head.length
        if self._early:
            head.priority = self._early.pop(number, head.priority)
        self.highest = number
        self.active += 1
        self.budget.carried(1)
        return head

    def _malformed(self, number: int, detail: str) -> Event:
        self._refuse(number, PROTOCOL_ERROR)
        self.budget.spend(ERROR_PROVOKED, detail)
        return Reset(number, PROTOCOL_ERROR, True, detail)

    def _refuse(self, number: int, code: int) -> None:
        self._send(frames.rst_stream(number, code))
        self._remember_reset(number, True)

    # Bodies

    def _on_data(self, number: int, flags: int, payload: bytes) -> Event | None:
        length = len(payload)
        inbound = self._inbound
        inbound.left -= length
        if inbound.left < 0:
            raise ConnectionFailed(FLOW_CONTROL_ERROR, "DATA beyond the connection's window")
        data = frames.unpadded(payload) if flags & PADDED else payload
        stream = self._streams.get(number)
        if stream is None:
            return self._on_late_data(number, length)
        if not stream.remote:
            self._credit(length)
            return self._stream_error(number, STREAM_CLOSED, "DATA behind the end")
        if self.client and not stream.answered:
            self._credit(length)
            return self._stream_error(number, PROTOCOL_ERROR, "DATA before the head")
        window = stream.inbound
        if window is None:
            window = stream.inbound = Window(frames.FIRST_WINDOW, LARGEST_OF_CONNECTION, self._now)
        window.left -= length
        if window.left < 0:
            self._credit(length)
            return self._stream_error(number, FLOW_CONTROL_ERROR, "DATA beyond its window")
        count = len(data)
        end = bool(flags & END_STREAM)
        if stream.expected is not None:
            stream.expected -= count
            if stream.expected < 0 or (end and stream.expected):
                self._credit(length)
                return self._stream_error(number, PROTOCOL_ERROR, "a body of another length")
        if count != length:
            self._credit(length - count)
            self._send_window_update(number, window.consumed(length - count, self._now, None))
        if end:
            self._end_remote(number, stream)
        elif not count:
            self.budget.spend(EMPTY_FRAME, "an empty DATA")
            return None
        if count:
            self._held[number] = self._held.get(number, 0) + count
        return Data(number, data, end)

    def _on_late_data(self, number: int, length: int) -> Event | None:
        self._credit(length)
        if number in self._reset:
            if self._reset[number]:
                return None  # it was on its way
            raise ConnectionFailed(STREAM_CLOSED, f"DATA behind RST_STREAM on stream {number}")
        if self._is_idle(number):
            raise ConnectionFailed(PROTOCOL_ERROR, f"DATA on stream {number}, which is idle")
        raise ConnectionFailed(STREAM_CLOSED, f"DATA on stream {number}, which has ended")

    def _is_idle(self, number: int) -> bool:
        if self.client:
            return not number & 1 or number >= self._next_own
        return not number & 1 or number > self._seen

    def _credit(self, count: int) -> None:
        """On the connection alone."""
        self._send_window_update(0, self._inbound.consumed(count, self._now, self._pool))

    def _send_window_update(self, number: int, update: int) -> None:
        if update:
            self._send(frames.window_update(number, update))

    def consumed(self, stream: int, count: int) -> None:
        held = self._held.get(stream, 0)
        count = min(count, held)
        if not count:
            return
        if held == count:
            del self._held[stream]
        else:
            self._held[stream] = held - count
        self._credit(count)
        state = self._streams.get(stream)
        if state is not None and state.remote and state.inbound is not None:
            update = state.inbound.consumed(count, self._now, None)
            self._send_window_update(stream, update)

    def release(self, stream: int) -> None:
        self.active -= 1
        held = self._held.pop(stream, 0)
        if held:
            self._credit(held)

    # Other frames

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
        if not self.client:
            self.budget.spend(RESET_BY_CLIENT, "RST_STREAM")
        return Reset(number, frames.unpack_code(payload))

    def _on_window_update(self, number: int, payload: bytes) -> Event | None:
        more = frames.unpack_long(payload)
        if not number:
            self.budget.spend_unless_free("WINDOW_UPDATE")
            if not more:
                raise ConnectionFailed(PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            self._window += more
            if self._window > LARGEST_WINDOW:
                raise ConnectionFailed(FLOW_CONTROL_ERROR, "the connection's window is too large")
            return Room(0)
        stream = self._streams.get(number)
        if stream is None:
            if self._is_idle(number):
                raise ConnectionFailed(PROTOCOL_ERROR, f"WINDOW_UPDATE on stream {number}")
            self.budget.spend_unless_free("WINDOW_UPDATE")
            return None  # it was on its way
        self.budget.spend_unless_free("WINDOW_UPDATE")
        if not more:
            return self._stream_error(number, PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        stream.window += more
        if stream.window > LARGEST_WINDOW:
            return self._stream_error(number, FLOW_CONTROL_ERROR, "its window is too large")
        return Room(number)

    def _on_settings(self, flags: int, payload: bytes) -> Event | None:
        if flags & ACK:
            self.budget.spend_unless_free("SETTINGS with ACK")
            return None
        self.budget.spend(SETTINGS + len(payload) // 96, "SETTINGS")
        event: Event | None = None
        for key, value in frames.unpack_settings(payload):
            if key == frames.INITIAL_WINDOW_SIZE:
                self._change_first_window(value)
                event = Room(0)
            else:
                self._on_setting(key, value)
        self._send(frames.SETTINGS_ACK)
        return event

    def _on_setting(self, key: int, value: int) -> None:
        match key:
            case frames.HEADER_TABLE_SIZE:
                if value < TABLE_SIZE:
                    self._table_was_lowered = True
            case frames.ENABLE_PUSH:
                if value > 1 or (self.client and value):
                    raise ConnectionFailed(PROTOCOL_ERROR, f"ENABLE_PUSH {value}")
            case frames.MAX_CONCURRENT_STREAMS:
                self.peer_streams = value
            case frames.MAX_FRAME_SIZE:
                if not LARGEST_FRAME <= value < 1 << 24:
                    raise ConnectionFailed(PROTOCOL_ERROR, f"MAX_FRAME_SIZE {value}")
            case frames.ENABLE_CONNECT_PROTOCOL:
                if value > 1 or (self._peer_extended_connect and not value):
                    raise ConnectionFailed(PROTOCOL_ERROR, f"ENABLE_CONNECT_PROTOCOL {value}")
                self._peer_extended_connect = bool(value)
            case frames.NO_RFC7540_PRIORITIES:
                if value > 1:
                    raise ConnectionFailed(PROTOCOL_ERROR, f"NO_RFC7540_PRIORITIES {value}")

    def _change_first_window(self, value: int) -> None:
        """RFC 9113 §6.9.2: it changes the windows of all streams, which may become negative."""
        if value > LARGEST_WINDOW:
            raise ConnectionFailed(FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE {value}")
        more = value - self._first_window
        self._first_window = value
        for stream in self._streams.values():
            stream.window += more
            if stream.window > LARGEST_WINDOW:
                raise ConnectionFailed(FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is too large")

    def _on_ping(self, flags: int, payload: bytes) -> Event | None:
        if flags & ACK:
            self.budget.spend_unless_free("PING with ACK")
            return Pong(payload)
        self.budget.spend_unless_free("PING")
        self._send(frames.ping(payload, ack=True))
        return None

    def _on_priority_update(self, payload: bytes) -> Event | None:
        number = frames.unpack_long(payload)
        if not number or self.client:
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

    # The end of streams

    def _stream_error(self, number: int, code: int, detail: str) -> Event:
        del self._streams[number]
        self._refuse(number, code)
        self.budget.spend(ERROR_PROVOKED, detail)
        return Reset(number, code, True, detail)

    def _remember_reset(self, number: int, by_us: bool) -> None:
        if len(self._reset) >= _MOST_RESETS_KNOWN:
            del self._reset[next(iter(self._reset))]
        self._reset[number] = by_us

    def _end_remote(self, number: int, stream: _Stream) -> None:
        stream.remote = False
        if not stream.local:
            del self._streams[number]

    def _end_local(self, number: int, stream: _Stream) -> None:
        stream.local = False
        if not stream.remote:
            del self._streams[number]
        if not self.client:
            self.budget.answered()

    # Out

    def _send(self, data: bytes) -> None:
        self._out.append(data)
        self.unsent += len(data)

    def take(self) -> bytes:
        out = self._out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self.unsent = 0
        return data

    def _sending(self, number: int) -> _Stream:
        stream = self._streams.get(number)
        if stream is None or not stream.local or self.failed:
            raise StreamGone(number)
        return stream

    def head(
        self,
        stream: int,
        status: int,
        fields: list[Field],
        end: bool,
        block: bytes | None = None,
    ) -> None:
        state = self._sending(stream)
        if block is None:
            check_outgoing(fields)
            block = encode([(b":status", b"%d" % status), *fields])
        self._send_block(stream, state, block, end)

    def whole(self, stream: int, block: bytes, body: bytes) -> None:
        """`head` with a block and `data`, in one step: the common case."""
        state = self._streams.get(stream)
        size = len(body)
        if (
            state is None
            or not state.local
            or self.failed
            or self._table_was_lowered
            or len(block) > LARGEST_FRAME
            or not 0 < size <= LARGEST_FRAME
            or size > state.window
            or size > self._window
        ):
            self.head(stream, 0, [], not body, block)
            if body:
                self.data(stream, body, True)
            return
        self._window -= size
        data = frames.whole_answer(stream, block, body)
        self._out.append(data)
        self.unsent += len(data)
        state.local = False
        if not state.remote:
            del self._streams[stream]
        self.budget.answered_with_data()

    def trailers(self, stream: int, fields: list[Field]) -> None:
        state = self._sending(stream)
        check_outgoing(fields)
        self._send_block(stream, state, encode(fields), True)

    def _send_block(self, number: int, stream: _Stream, block: bytes, end: bool) -> None:
        if self._table_was_lowered:
            self._table_was_lowered = False
            block = NO_TABLE + block
        self._send(frames.header_block(number, block, end))
        if end:
            self._end_local(number, stream)

    def data(self, stream: int, piece: bytes | memoryview, end: bool) -> None:
        state = self._sending(stream)
        left = len(piece)
        if left > state.window or left > self._window:
            raise ValueError("DATA beyond a window")
        state.window -= left
        self._window -= left
        self.budget.carried(1 + left // LARGEST_FRAME)
        at = 0
        while left > LARGEST_FRAME:
            self._send(frames.data_header(LARGEST_FRAME, 0, stream))
            self._send(bytes(piece[at : at + LARGEST_FRAME]))
            at += LARGEST_FRAME
            left -= LARGEST_FRAME
        self._send(frames.data_header(left, END_STREAM if end else 0, stream))
        self._send(bytes(piece[at:]))
        if end:
            self._end_local(stream, state)

    def window(self, stream: int) -> int:
        state = self._streams.get(stream)
        if state is None:
            return 0
        return max(0, min(state.window, self._window))

    def is_open(self, stream: int) -> bool:
        state = self._streams.get(stream)
        return state is not None and state.local and not self.failed

    def reset(self, stream: int, code: int) -> None:
        if self._streams.pop(stream, None) is not None and not self.failed:
            self._refuse(stream, code)

    def goaway(self, last: int, code: int) -> None:
        self._accepting = min(self._accepting, last)
        self._send(frames.goaway(self._accepting, code))

    def ping(self, opaque: bytes) -> None:
        self._send(frames.ping(opaque))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.give_back(self._inbound.size - self._first)
            self._pool = None
        self._streams.clear()

    # The client's role

    def request(
        self,
        fields: list[Field],
        end: bool,
        *,
        bodiless: bool = False,
        never_indexed: frozenset[bytes] = frozenset(),
    ) -> int:
        """Open a stream with a request's head, pseudo-fields first; gives its number.

        ``bodiless``: the answer has no body whatever its length says (HEAD). ``never_indexed``:
        names that no intermediary may put into a table, beside those that never are. Raises
        `StreamGone` when no stream can be opened on this connection any more, `ValueError` for a
        field that must not be sent.
        """
        number = self._next_own
        if self.failed or number > LAST_STREAM:
            raise StreamGone(number)
        check_outgoing(fields)
        self._next_own += 2
        stream = self._streams[number] = _Stream(self._first_window, True)
        stream.bodiless = bodiless
        self.active += 1
        secret = SECRET | never_indexed if never_indexed else SECRET
        self._send_block(number, stream, encode(fields, secret=secret), end)
        return number

    def _on_answer(self, number: int, stream: _Stream, end: bool, data: bytes) -> Event | None:
        block = self._decode(data, self._most_size, self.terms.header_count)
        try:
            answer = request.read_answer(number, block, end)
            if answer.status < 200:
                stream.interim += 1
                if stream.interim > _MOST_INTERIM:
                    raise Malformed("too many interim answers")
                return answer
            if stream.bodiless or answer.status in _BARE:
                stream.expected = 0
            elif end and answer.length:
                raise Malformed("the body is too short")
            else:
                stream.expected = answer.length
        except Malformed as error:
            return self._stream_error(number, PROTOCOL_ERROR, str(error))
        stream.answered = True
        if end:
            self._end_remote(number, stream)
        return answer


# Beside the flags of a frame: its stream is said to depend on itself.
_OWN_PARENT = 0x100
# RFC 9110 §6.4.1: these never have content.
_BARE = frozenset({204, 304})
