"""Bodies that a peer sends over HTTP/2, and how much of them it may (RFC 9113 §5.2).

Windows are memory that we promise. Credit is given for what was taken, and at once for what nobody
can take any more: padding, and what belongs to streams that are gone; else the connection's window
would leak away, and every upload would come to a stop. Pure.
"""

from __future__ import annotations

from . import frames
from .budget import EMPTY_FRAME, Budget
from .events import Data, Event
from .frames import (
    END_STREAM,
    FLOW_CONTROL_ERROR,
    PADDED,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
    ConnectionFailed,
)
from .outgoing import Outgoing, StreamState
from .windows import LARGEST_OF_CONNECTION, Pool, Window


class Inbound(Outgoing):
    """``pool``: what the connection's window may grow out of; ``window``: where it begins.
    ``active``: streams for which `release` is still to be called."""

    def __init__(self, budget: Budget, now: float, pool: Pool | None, window: int) -> None:
        super().__init__(budget)
        self.active = 0
        self._now = now
        self._pool = pool
        self._first = window
        self._inbound = Window(window, max(window, LARGEST_OF_CONNECTION), now)
        self._held: dict[int, int] = {}  # bytes of bodies that were not consumed

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
        if not stream.begun:
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

    def close(self) -> None:
        if self._pool is not None:
            self._pool.give_back(self._inbound.size - self._first)
            self._pool = None
        self._streams.clear()

    def _end_remote(self, number: int, stream: StreamState) -> None:
        stream.remote = False
        if not stream.local:
            del self._streams[number]
