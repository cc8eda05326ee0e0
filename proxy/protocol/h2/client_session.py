"""A session where we are the client: streams are ours, and what opens a body is an answer.

Everything else is as for a server; see `session`.
"""

from __future__ import annotations

from . import frames, request
from .budget import BACKEND, Budget
from .engine import StreamGone, Terms, check_outgoing
from .events import Event
from .frames import LAST_STREAM, PREFACE, PROTOCOL_ERROR, ConnectionFailed
from .hpack import SECRET, Field, encode
from .outgoing import StreamState
from .request import Malformed
from .session import Session
from .windows import FIRST_OF_CONNECTION

_MOST_INTERIM = 8
# RFC 9110 §6.4.1: these never have content.
_BARE = frozenset({204, 304})


class ClientSession(Session):
    """One connection to a server; `request` opens streams."""

    _may_push = 0
    _reset_price = 0  # who asks has the loss

    def __init__(self, terms: Terms, now: float, *, window: int = FIRST_OF_CONNECTION) -> None:
        self._next_own = 1
        super().__init__(terms, now, window=window, budget=Budget(now, BACKEND))

    def _begin(self) -> None:
        self._preface = b""
        self._send(PREFACE)
        self._introduce({frames.ENABLE_PUSH: 0, frames.MAX_HEADER_LIST_SIZE: self._most_size})

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
        stream = self._streams[number] = StreamState(self._first_window, True)
        stream.bodiless, stream.begun = bodiless, False
        self.active += 1
        secret = SECRET | never_indexed if never_indexed else SECRET
        self._send_block(number, stream, encode(fields, secret=secret), end)
        return number

    def _on_answer(self, number: int, stream: StreamState, end: bool, data: bytes) -> Event | None:
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
        stream.begun = True
        if end:
            self._end_remote(number, stream)
        return answer

    def _on_new_block(self, number: int, flags: int, data: bytes) -> Event | None:
        return self._on_late_block(number, data)

    def _never_was(self, number: int) -> bool:
        return True  # a server opens none

    def _is_idle(self, number: int) -> bool:
        return not number & 1 or number >= self._next_own

    def _on_priority_update(self, payload: bytes) -> Event | None:
        raise ConnectionFailed(PROTOCOL_ERROR, "PRIORITY_UPDATE")

    def _end_local(self, number: int, stream: StreamState) -> None:
        """A request that was sent is no answer that was taken: it pays nothing back."""
        stream.local = False
        if not stream.remote:
            del self._streams[number]
