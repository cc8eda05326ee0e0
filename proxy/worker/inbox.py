"""A worker's end of the channel to the supervisor: messages are taken in, acknowledged, answered.

A message with a ticket is acknowledged when it is in force. One that cannot be taken in, because
there is no descriptor or no memory left, is asked for again; the messages behind it, an order to
drain maybe, are not lost by it. Without a supervisor a worker ends: nobody could replace it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Protocol

from ..ipc.channel import Channel, ChannelClosed
from ..ipc.codec import Malformed, encode
from ..ipc.messages import (
    TO_WORKER,
    Acknowledged,
    CannotServe,
    FromWorker,
    NotTaken,
    ToWorker,
    Truncated,
)
from ..ipc.reserve import Reserve

log = logging.getLogger("treehouse.worker")


class Unusable(Exception):
    """Certificates cannot be served; ``why`` says so of each, by name."""

    def __init__(self, why: dict[str, str]) -> None:
        super().__init__("; ".join(why.values()))
        self.why = why


class Taker(Protocol):
    def take(self, message: ToWorker, fds: list[int]) -> None:
        """Act on a message. The descriptors stay the caller's, who closes them afterwards. Raises
        `Unusable`."""
        ...


class Inbox:
    def __init__(self, channel: Channel, loop: asyncio.AbstractEventLoop, taker: Taker) -> None:
        self._channel = channel
        self._loop = loop
        self._taker = taker
        self._reserve = Reserve()

    def open(self) -> None:
        """Take in what comes from now on."""
        self._loop.add_reader(self._channel.fileno(), self._on_readable)

    # To the supervisor

    def say(self, message: FromWorker) -> None:
        try:
            self._channel.send(encode(message))
        except ChannelClosed:
            _end()
        if self._channel.waiting:
            self._loop.add_writer(self._channel.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        try:
            self._channel.flush()
        except ChannelClosed:
            _end()
        if not self._channel.waiting:
            self._loop.remove_writer(self._channel.fileno())

    # From the supervisor

    def _on_readable(self) -> None:
        with self._reserve.lent():
            try:
                received = self._channel.receive()
            except ChannelClosed:
                _end()
                return
            for said, fds in received:
                try:
                    self._take(said, fds)
                finally:
                    for fd in fds:
                        os.close(fd)

    def _take(self, said: dict[str, object], fds: list[int]) -> None:
        try:
            message = TO_WORKER.decode(said, len(fds))
        except Malformed as why:
            log.error("what the supervisor says is not understood: %s", why)
            return
        ticket = getattr(message, "ticket", None)
        answer: FromWorker | None = None if ticket is None else Acknowledged(ticket)
        if isinstance(message, Truncated):
            log.warning("no descriptor is left for what the supervisor sends; asked for again")
            answer = None if ticket is None else NotTaken(ticket)
        else:
            try:
                self._taker.take(message, fds)
            except Unusable as unusable:
                answer = None if ticket is None else CannotServe(ticket, unusable.why)
            except Exception:  # no message, and no fault of ours in taking it, ends a worker
                log.exception("what the supervisor sends cannot be taken in; asked for again")
                answer = None if ticket is None else NotTaken(ticket)
        if answer is not None:
            self.say(answer)


def _end() -> None:
    log.error("the supervisor has gone; ending")
    os._exit(1)
