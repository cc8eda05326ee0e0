"""The contract of `engine` on python-hyper's h2: the reference, for whole connections.

It costs ten times as much as `session` and is what `session` is measured by. Whatever is judged
about frames, header blocks and streams is judged by h2 here. Some things h2 leaves to us, and they
are done in front of it or behind it: what a peer may waste (`budget`), which fields make a request
(`request`), that SETTINGS come first, a body's length where trailers end it, and GOAWAY, after
which h2 would take the connection for ended while streams go on.

Where h2 is stricter than it has to be (it ends the connection for what is an error of one stream)
that stays: a stream error may always be taken for a connection error (RFC 9113 §5.4.2).
"""

from __future__ import annotations

from collections.abc import Iterator

from h2 import events as h2_events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import H2Error, NoSuchStreamError, StreamClosedError
from h2.exceptions import ProtocolError as H2ProtocolError
from h2.settings import SettingCodes, Settings

from ..exchange import PartialHead
from . import frames, request
from .budget import EMPTY_FRAME, ERROR_PROVOKED, OTHER, REFUSED, RESET_BY_CLIENT, SETTINGS, Budget
from .engine import StreamGone, Terms, check_outgoing
from .events import Data, Ended, Event, Pong, Prioritised, Reset, Room, Trailers
from .frames import ACK, END_HEADERS, END_STREAM, LAST_STREAM, PREFACE, ConnectionFailed
from .hpack import OVERHEAD, Block, Field
from .priority import Priority, parse
from .request import Malformed, Rules

_MOST_CONTINUATIONS = 8
_MOST_EARLY_PRIORITIES = 32
_TRAILERS_SIZE = 8 * 1024
_TRAILERS_COUNT = 32
_WINDOW = 128 * 1024


class Authority:
    """One connection, as a server; keeps the contract of `engine.Engine`."""

    def __init__(self, terms: Terms, now: float) -> None:
        self.terms = terms
        self.budget = Budget(now)
        self.active = 0
        self.highest = 0
        self.block_since: float | None = None
        self.failed = False
        self._now = now
        self._rules = Rules(terms.scheme, terms.target_size, terms.extended_connect)
        self._most_size = terms.header_size + OVERHEAD * terms.header_count
        self._rest = b""
        self._preface = PREFACE
        self._settings_came = False
        self._continuations = self._joined = 0
        self._accepting = LAST_STREAM
        self._ignored: set[int] = set()
        self._told: set[int] = set()  # streams that are open, of which a `Head` was told
        self._answered: set[int] = set()  # of these, those whose answer is complete
        self._held: dict[int, int] = {}
        self._expected: dict[int, int] = {}  # bytes of bodies still to come
        self._early: dict[int, Priority] = {}
        self._out: list[bytes] = []
        self._connection = self._begin()

    def _begin(self) -> H2Connection:
        connection = H2Connection(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        # More streams than that are refused by us, one by one; h2 would end the connection.
        connection.local_settings = Settings(client=False, initial_values={})
        connection.initiate_connection()
        connection.data_to_send()  # our own say instead
        connection.decoder.max_header_list_size = 2 * self._most_size
        values: dict[int, int] = {
            frames.MAX_CONCURRENT_STREAMS: self.terms.streams,
            frames.NO_RFC7540_PRIORITIES: 1,
            frames.MAX_HEADER_LIST_SIZE: self._most_size,
        }
        if self.terms.extended_connect:
            values[frames.ENABLE_CONNECT_PROTOCOL] = 1
        self._out.append(frames.settings(values))
        connection.increment_flow_control_window(_WINDOW - frames.FIRST_WINDOW)
        return connection

    # In

    def receive(self, data: bytes, now: float) -> Iterator[Event]:
        if self.failed:
            return
        self._now = self.budget.now = now
        data = self._rest + data
        at, end = 0, len(data)
        try:
            if self._preface:
                count = min(end, len(self._preface))
                if data[:count] != self._preface[:count]:
                    raise ConnectionFailed(frames.PROTOCOL_ERROR, "the connection begins otherwise")
                self._preface = self._preface[count:]
                yield from self._feed(data[:count])
                at = count
            while end - at >= 9:
                high, low, kind, flags, stream = frames.unpack_header(data, at)
                length = high << 8 | low
                if length > frames.LARGEST_FRAME:
                    yield from self._feed(data[at:])  # h2 has something to say to that
                    raise ConnectionFailed(frames.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
                stop = at + 9 + length
                if stop > end:
                    break
                frame, at = data[at:stop], stop
                if not self._settings_came:
                    if kind != frames.SETTINGS or flags & ACK:
                        raise ConnectionFailed(frames.PROTOCOL_ERROR, "the first is no SETTINGS")
                    self._settings_came = True
                yield from self._on_frame(kind, flags, stream & LAST_STREAM, frame)
        except ConnectionFailed as failure:
            self._fail(failure)
            raise
        self._rest = data[at:]
        if not self._continuations:
            if not self._rest or (len(self._rest) > 3 and self._rest[3] != frames.HEADERS):
                self.block_since = None
            elif at or self.block_since is None:
                self.block_since = now

    def _fail(self, failure: ConnectionFailed) -> None:
        self.failed = True
        self._connection.data_to_send()
        self._out.append(frames.goaway(self.highest, failure.code))

    def _on_frame(self, kind: int, flags: int, stream: int, frame: bytes) -> Iterator[Event]:
        """Count it, and have it judged."""
        spend = self.budget.spend
        match kind:
            case frames.HEADERS | frames.CONTINUATION:
                self._count_block(kind, flags, len(frame) - 9)
            case frames.DATA:
                if len(frame) == 9 and not flags & END_STREAM and not self._is_late(stream):
                    spend(EMPTY_FRAME, "an empty DATA")
            case frames.SETTINGS if flags & ACK:
                self.budget.spend_unless_free("SETTINGS with ACK")
            case frames.SETTINGS:
                spend(SETTINGS + (len(frame) - 9) // 96, "SETTINGS")
            case frames.PING | frames.WINDOW_UPDATE:
                self.budget.spend_unless_free("PING or WINDOW_UPDATE")
            case frames.RST_STREAM:
                if stream in self._told:
                    spend(RESET_BY_CLIENT, "RST_STREAM")
            case frames.GOAWAY | frames.PRIORITY_UPDATE if not self._continuations:
                frames.check(kind, flags, stream, len(frame) - 9)
                spend(OTHER, "GOAWAY or PRIORITY_UPDATE")
                yield from self._on_own_frame(kind, frame[9:])
                return
            case _:
                spend(OTHER, f"frame type {kind}")
        yield from self._feed(frame)

    def _is_late(self, stream: int) -> bool:
        return stream not in self._told

    def _count_block(self, kind: int, flags: int, length: int) -> None:
        if kind == frames.HEADERS:
            self._joined = length
        else:
            self._joined += length
            if not length and not flags & END_HEADERS:
                self.budget.spend(EMPTY_FRAME, "an empty CONTINUATION")
        self._continuations = 0 if flags & END_HEADERS else self._continuations + 1
        if self._continuations > _MOST_CONTINUATIONS or self._joined > 2 * self._most_size:
            raise ConnectionFailed(frames.ENHANCE_YOUR_CALM, "a header block without end")
        if self._continuations == 1:
            self.block_since = self._now
        elif not self._continuations:
            self.block_since = None

    def _on_own_frame(self, kind: int, payload: bytes) -> Iterator[Event]:
        if kind == frames.GOAWAY:
            yield Ended(frames.unpack_long(payload), frames.unpack_code(payload, 4))
            return
        number = frames.unpack_long(payload)
        if not number:
            raise ConnectionFailed(frames.PROTOCOL_ERROR, "PRIORITY_UPDATE")
        priority = parse(payload[4:])
        if number in self._told:
            yield Prioritised(number, priority)
        elif number > self.highest and len(self._early) < _MOST_EARLY_PRIORITIES:
            self._early[number] = priority

    def _feed(self, data: bytes) -> Iterator[Event]:
        try:
            found = self._connection.receive_data(data)
        except H2ProtocolError as error:
            raise ConnectionFailed(int(error.error_code), f"h2: {error}") from None
        except (H2Error, ValueError, LookupError) as error:
            raise ConnectionFailed(frames.PROTOCOL_ERROR, f"h2: {error!r}") from None
        for event in found:
            ours = self._translated(event)
            if ours is not None:
                yield ours

    def _translated(self, event: h2_events.Event) -> Event | None:
        match event:
            case h2_events.RequestReceived():
                return self._on_request(event)
            case h2_events.DataReceived():
                return self._on_data(event)
            case h2_events.TrailersReceived():
                return self._on_trailers(event)
            case h2_events.StreamReset():
                return self._on_reset(event)
            case h2_events.WindowUpdated():
                return Room(event.stream_id or 0)
            case h2_events.RemoteSettingsChanged():
                if SettingCodes.INITIAL_WINDOW_SIZE in event.changed_settings:
                    return Room(0)
            case h2_events.PingAckReceived():
                return Pong(event.ping_data or b"")
        return None

    def _on_request(self, event: h2_events.RequestReceived) -> Event | None:
        number = event.stream_id
        if number > self._accepting:
            self._ignored.add(number)
            return None
        if self.active >= self.terms.streams or len(self._told) >= self.terms.streams:
            self._reset_stream(number, frames.REFUSED_STREAM)
            self.budget.spend(REFUSED, "a refused stream")
            return Reset(number, frames.REFUSED_STREAM, True, "too many streams")
        block = _block(event.headers, self._most_size, self.terms.header_count)
        try:
            head = request.read(number, block, event.stream_ended is not None, self._rules)
        except Malformed as error:
            return self._malformed(number, str(error), request.what_could_be_read(block))
        head.priority = self._early.pop(number, head.priority)
        self.highest = number
        self.active += 1
        self._told.add(number)
        if head.length is not None and not head.end:
            self._expected[number] = head.length
        self.budget.carried(1)
        return head

    def _malformed(self, number: int, detail: str, partial: PartialHead | None = None) -> Event:
        self._forget(number)
        self._reset_stream(number, frames.PROTOCOL_ERROR)
        self.budget.spend(ERROR_PROVOKED, detail)
        return Reset(number, frames.PROTOCOL_ERROR, True, detail, partial)

    def _on_data(self, event: h2_events.DataReceived) -> Event | None:
        number, data = event.stream_id, event.data or b""
        padding = event.flow_controlled_length - len(data)
        if padding:
            self._connection.acknowledge_received_data(padding, number)
        if number in self._ignored:
            if data:
                self._connection.acknowledge_received_data(len(data), number)
            return None
        if number in self._expected:
            self._expected[number] -= len(data)
        if data:
            self._held[number] = self._held.get(number, 0) + len(data)
        elif event.stream_ended is None:
            return None
        if event.stream_ended is not None:
            self._remote_ended(number)
        return Data(number, data, event.stream_ended is not None)

    def _on_trailers(self, event: h2_events.TrailersReceived) -> Event | None:
        number = event.stream_id
        if number in self._ignored:
            return None
        try:
            if self._expected.get(number):
                raise Malformed("the body is too short")
            fields = request.trailers(_block(event.headers, _TRAILERS_SIZE, _TRAILERS_COUNT))
        except Malformed as error:
            return self._malformed(number, str(error))
        self._remote_ended(number)
        return Trailers(number, fields)

    def _on_reset(self, event: h2_events.StreamReset) -> Event | None:
        number = event.stream_id
        if number not in self._told:
            return None
        self._forget(number)
        if not event.remote_reset:
            self.budget.spend(ERROR_PROVOKED, "a stream error")
        return Reset(number, int(event.error_code or 0), not event.remote_reset)

    # Out

    @property
    def unsent(self) -> int:
        data = self._connection.data_to_send()
        if data:
            self._out.append(data)
        return sum(map(len, self._out))

    def take(self) -> bytes:
        data = b"".join(self._out) + self._connection.data_to_send()
        self._out.clear()
        return data

    def head(
        self,
        stream: int,
        status: int,
        fields: list[Field],
        end: bool,
        block: bytes | None = None,
    ) -> None:
        check_outgoing(fields)
        self._send(stream, [(b":status", b"%d" % status), *fields], end)

    def whole(self, stream: int, block: bytes, body: bytes) -> None:
        raise NotImplementedError  # h2 makes its own blocks

    def trailers(self, stream: int, fields: list[Field]) -> None:
        check_outgoing(fields)
        self._send(stream, fields, True)

    def _send(self, stream: int, fields: list[Field], end: bool) -> None:
        self._sending(stream)
        try:
            self._connection.send_headers(stream, fields, end_stream=end)
        except H2ProtocolError:
            raise StreamGone(stream) from None
        if end:
            self._ended(stream)

    def _sending(self, stream: int) -> None:
        if stream not in self._told or self.failed:
            raise StreamGone(stream)

    def _ended(self, stream: int) -> None:
        self.budget.answered()
        if self._is_closed(stream):
            self._forget(stream)
        else:
            self._answered.add(stream)

    def _forget(self, stream: int) -> None:
        self._told.discard(stream)
        self._answered.discard(stream)
        self._expected.pop(stream, None)

    def _remote_ended(self, stream: int) -> None:
        if stream in self._answered:
            self._forget(stream)

    def _is_closed(self, stream: int) -> bool:
        try:
            return bool(self._connection._get_stream_by_id(stream).closed)
        except (NoSuchStreamError, StreamClosedError):
            return True

    def data(self, stream: int, piece: bytes | memoryview, end: bool) -> None:
        self._sending(stream)
        if len(piece) > self.window(stream):
            raise ValueError("DATA beyond a window")
        self.budget.carried(1 + len(piece) // frames.LARGEST_FRAME)
        whole = bytes(piece)
        try:
            at = 0
            while len(whole) - at > frames.LARGEST_FRAME:
                self._connection.send_data(stream, whole[at : at + frames.LARGEST_FRAME])
                at += frames.LARGEST_FRAME
            self._connection.send_data(stream, whole[at:], end_stream=end)
        except H2ProtocolError:
            raise StreamGone(stream) from None
        if end:
            self._ended(stream)

    def window(self, stream: int) -> int:
        if stream not in self._told:
            return 0
        try:
            return max(0, self._connection.local_flow_control_window(stream))
        except H2ProtocolError:
            return 0

    def is_open(self, stream: int) -> bool:
        return stream in self._told - self._answered and not self.failed

    def consumed(self, stream: int, count: int) -> None:
        count = min(count, self._held.get(stream, 0))
        if count:
            self._held[stream] -= count
            self._credit(stream, count)

    def _credit(self, stream: int, count: int) -> None:
        if not self.failed:
            self._connection.acknowledge_received_data(count, stream)

    def release(self, stream: int) -> None:
        self.active -= 1
        held = self._held.pop(stream, 0)
        if held:
            self._credit(stream, held)

    def reset(self, stream: int, code: int) -> None:
        if stream in self._told:
            self._forget(stream)
            self._reset_stream(stream, code)

    def _reset_stream(self, stream: int, code: int) -> None:
        try:
            self._connection.reset_stream(stream, code)
        except H2ProtocolError:
            return  # it has ended already

    def goaway(self, last: int, code: int) -> None:
        self._accepting = min(self._accepting, last)
        waiting = self._connection.data_to_send()
        self._out.append(waiting + frames.goaway(self._accepting, code))

    def ping(self, opaque: bytes) -> None:
        self._connection.ping(opaque)

    def close(self) -> None:
        self._told.clear()


def _block(headers: list[Field], most_size: int, most_count: int) -> Block:
    """What h2 decoded, as our own decoder would give it."""
    block = Block()
    size = 0
    for field in headers:
        name, value = bytes(field[0]), bytes(field[1])
        size += len(name) + len(value) + OVERHEAD
        block.fields.append((name, value))
        if block.fault is None:
            block.fault = request.judge(name, value)
        if not getattr(field, "indexable", True):
            block.never_indexed = [*(block.never_indexed or ()), name]
    block.too_large = size > most_size or len(headers) > most_count
    return block
