"""The sending half of HTTP/2 on one connection: frames out, and what the peer lets us send.

Windows and settings of the peer are here, because they bound what goes out; `session` adds what
comes in. Pure.
"""

from __future__ import annotations

from . import frames
from .budget import ERROR_PROVOKED, SETTINGS, Budget
from .engine import StreamGone, check_outgoing
from .events import Event, Reset, Room
from .frames import (
    ACK,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    LARGEST_FRAME,
    LARGEST_WINDOW,
    PROTOCOL_ERROR,
    ConnectionFailed,
)
from .hpack import NO_TABLE, TABLE_SIZE, Field, encode
from .windows import Window

_MOST_RESETS_KNOWN = 256


class StreamState:
    """``expected``: how many bytes of the body are still to come, None where nobody said.
    ``window``: what we may send. ``local`` and ``remote``: whether that side may send.
    ``begun``: whether the head before the body has come. A client's: ``interim``, how many heads
    came before that, and ``bodiless``, whether a length in it means nothing (an answer to HEAD)."""

    __slots__ = (
        "begun",
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
        self.bodiless = False
        self.begun = True
        self.interim = 0


class Outgoing:
    """``unsent``: bytes that wait for `take`; ``failed``: the connection has ended for what the
    peer did."""

    # The largest ENABLE_PUSH that the peer may send: only a client may accept pushes.
    _may_push = 1

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.unsent = 0
        self.failed = False
        self.peer_streams = 100  # RFC 9113 §6.5.2: what to assume before the peer has said it
        self._streams: dict[int, StreamState] = {}
        self._reset: dict[int, bool] = {}  # streams that were reset, and whether by us
        self._out: list[bytes] = []
        self._window = frames.FIRST_WINDOW  # what we may send on the connection
        self._first_window = frames.FIRST_WINDOW  # and on a new stream
        self._table_was_lowered = False
        self._peer_extended_connect = False

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

    def _sending(self, number: int) -> StreamState:
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

    def _send_block(self, number: int, stream: StreamState, block: bytes, end: bool) -> None:
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

    def ping(self, opaque: bytes) -> None:
        self._send(frames.ping(opaque))

    # Streams that end

    def _end_local(self, number: int, stream: StreamState) -> None:
        stream.local = False
        if not stream.remote:
            del self._streams[number]
        self.budget.answered()

    def _stream_error(self, number: int, code: int, detail: str) -> Event:
        del self._streams[number]
        self._refuse(number, code)
        self.budget.spend(ERROR_PROVOKED, detail)
        return Reset(number, code, True, detail)

    def _refuse(self, number: int, code: int) -> None:
        self._send(frames.rst_stream(number, code))
        self._remember_reset(number, True)

    def _remember_reset(self, number: int, by_us: bool) -> None:
        if len(self._reset) >= _MOST_RESETS_KNOWN:
            del self._reset[next(iter(self._reset))]
        self._reset[number] = by_us

    # What the peer lets us send

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
                if value > self._may_push:
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

    def _is_idle(self, number: int) -> bool:
        """Whether the stream has never been opened."""
        raise NotImplementedError
