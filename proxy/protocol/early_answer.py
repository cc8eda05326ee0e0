"""An answer that can be begun in the callback in which its request has arrived.

Most requests to backends are a head, sent on a connection that is open, and an answer that comes in
one piece. A task that sends the one and waits for the other is woken twice, and each time all that
it stands in is entered again: a third of what such a request costs above the socket. So whoever is
given an `EarlyAnswer` may begin it at once, and hear of its end by a call. As soon as anything must
be waited for in another way (a body in pieces, a backend that broke off, a client that has said
more), it is awaited, and goes on from where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from .message import Response

# Is given the response; None where the answer has to be awaited after all.
Done = Callable[[Response | None], None]


class EarlyAnswer:
    """An awaitable of a response. Never begun and never awaited, it holds nothing."""

    __slots__ = ()

    def begin(self, done: Done) -> bool:
        """Begin, without waiting and without raising. True: ``done`` will be called once, later,
        from a callback of the event loop; never again as soon as the answer is awaited, which is
        possible at any time. False: it has to be awaited, and ``done`` is not called."""
        raise NotImplementedError

    def __await__(self) -> Generator[Any, None, Response]:
        """The response; goes on from where `begin` has come. Raises `Fault`."""
        raise NotImplementedError
