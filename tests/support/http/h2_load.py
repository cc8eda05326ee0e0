"""A client of HTTP/2 that has many requests under way on one connection, as h2load has, and keeps to the
rules when the server ends it (RFC 9113 §6.8): at the first GOAWAY it opens no more streams there, and
it repeats what the last GOAWAY says was not taken, and nothing else.

    with H2Load(connect, make, streams=10) as load:
        ...
    assert load.failures == []

A connection that ends without GOAWAY, or with a stream that had been taken, is a failure.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass

from support.h2_peer import ACK, PING, Fields, data, frame, headers
from support.http.h2_talk import H2Talk

_ENDS_WITHIN = 60.0
LARGEST = (1 << 31) - 1


@dataclass(frozen=True)
class Asked:
    """``right``: the body that must come. The body that is sent is no larger than a window."""

    kind: str
    fields: Fields
    body: bytes | None
    right: bytes


class H2Load:
    """``make`` gives the n-th request. ``done`` counts by kind, ``again`` what was repeated because
    it had not been taken. ``rounds``: requests of a connection, at the most."""

    def __init__(
        self,
        connect: Callable[[], H2Talk],
        make: Callable[[int], Asked],
        streams: int,
        rounds: int | None = None,
    ) -> None:
        self.failures: list[str] = []
        self.done: collections.Counter[str] = collections.Counter()
        self.again = self.connections = 0
        self._connect = connect
        self._requests = (make(number) for number in itertools.count())
        self._streams = streams
        self._rounds = rounds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> H2Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(_ENDS_WITHIN)
        if self._thread.is_alive():
            self.failures.append("it does not end")

    def _run(self) -> None:
        waiting: list[Asked] = []
        while not self._over.is_set() or waiting:
            open_: dict[int, Asked] = {}
            try:
                with self._connect() as talk:
                    self.connections += 1
                    waiting = self._converse(talk, waiting, open_)
            except Exception as error:
                self.failures.append(f"{error!r}, with {len(open_)} streams open")
                return
            self.again += len(waiting)

    def _converse(self, talk: H2Talk, waiting: list[Asked], open_: dict[int, Asked]) -> list[Asked]:
        """Ask until the server has ended the connection; what it has not taken."""
        untaken: list[Asked] = []
        last: int | None = None  # of the last GOAWAY
        left = self._rounds if self._rounds is not None else LARGEST
        while True:
            while last is None and left and len(open_) < self._streams and not self._over.is_set():
                self._ask(talk, waiting.pop() if waiting else next(self._requests), open_)
                left -= 1
            if not open_ and last is None:
                return waiting  # it is over
            talk.more()
            heard, talk.frames = talk.frames, []
            for one in heard:
                match type(one).__name__:
                    case "GoAwayFrame":
                        assert one.error_code == 0, one
                        last = one.last_stream_id
                        above = [number for number in open_ if number > last]
                        untaken += [open_.pop(number) for number in above]
                    case "PingFrame" if "ACK" not in one.flags:
                        _says(talk, frame(PING, ACK, 0, one.opaque_data))
                    case "RstStreamFrame" if one.stream_id in open_:
                        raise AssertionError(f"{open_[one.stream_id]} was reset: {one}")
                if "END_STREAM" in one.flags and one.stream_id in open_:
                    self._check(talk, one.stream_id, open_.pop(one.stream_id))
            if talk.ended:
                assert last is not None, "the connection ended without notice"
                assert last != LARGEST, "the last stream was never named"
                assert not open_, f"it ended with streams that were taken: {open_.keys()}"
                return untaken + waiting

    def _ask(self, talk: H2Talk, one: Asked, open_: dict[int, Asked]) -> None:
        number = talk.next()
        open_[number] = one
        pieces = [headers(number, one.fields, end=one.body is None)]
        if one.body is not None:
            pieces.append(data(number, one.body, end=True))
        _says(talk, *pieces)

    def _check(self, talk: H2Talk, number: int, one: Asked) -> None:
        status, body = talk.status(number), talk.body(number)
        assert (status, body) == (200, one.right), f"{one}: {status} {body[:200]!r}"
        talk.forget(number)
        self.done[one.kind] += 1


def _says(talk: H2Talk, *pieces: bytes) -> None:
    """What the other side has said before it ended is still to be read, and tells more."""
    with contextlib.suppress(OSError):
        talk.says(*pieces)
