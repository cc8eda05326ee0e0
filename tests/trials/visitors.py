"""Clients of all kinds, that ask a server all the while: over HTTP/1.1 and HTTP/2, on connections that
are kept and on new ones. An answer that is not right, and an end that nobody has announced, is a failure.

    with load(inside, ca) as clients:
        ...
    assert clients.failures == []
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from support.http.client import Talk, context, http, https
from support.http.h2_load import Asked, H2Load
from support.http.h2_talk import H2Talk, request
from support.http.load_clients import Visitors

PAGE = b"<p>hello\n"
FROM_APP = b"from the app\n"
HOST = "localhost"
_AT_LEAST = 200  # requests before and after what is tried, of each kind of client


class Load:
    """``inside`` puts the sockets that a thread makes into the server's network; the ports are
    those in there."""

    def __init__(
        self,
        inside: Callable[[], AbstractContextManager[None]],
        ca: bytes,
        ports: tuple[int, int] = (80, 443),
    ) -> None:
        self.slowest = 0.0
        self._lock = threading.Lock()
        one, two = context(ca), context(ca)
        two.set_alpn_protocols(["h2"])
        plain, tls = ports

        def first() -> Talk:
            with inside():
                return https(tls, HOST, None, using=one)

        def second() -> H2Talk:
            with inside():
                return H2Talk(tls, HOST, two)

        def unencrypted() -> Talk:
            with inside():
                return http(plain)

        kept: Visitors[Talk] = Visitors(first, self._page, self._page, self._app)
        new: Visitors[Talk] = Visitors(first, self._page, self._app, rounds=1)
        redirected: Visitors[Talk] = Visitors(unencrypted, _redirect, rounds=1)
        self._visitors = {
            "HTTP/1.1, kept": kept,
            "HTTP/1.1, new": new,
            "port 80, new": redirected,
        }
        self._loads = {
            "HTTP/2, kept": H2Load(second, _asked, streams=10),
            "HTTP/2, new": H2Load(second, _asked, streams=2, rounds=4),
        }

    @property
    def done(self) -> dict[str, int]:
        of_both = {**self._visitors, **self._loads}
        return {name: one.done.total() for name, one in of_both.items()}

    @property
    def failures(self) -> list[str]:
        of_both = [*self._visitors.values(), *self._loads.values()]
        return [failure for one in of_both for failure in one.failures]

    @contextlib.contextmanager
    def throughout(self) -> Iterator[None]:
        """Ask before, during and after what is tried; raises AssertionError with all failures."""
        with contextlib.ExitStack() as stack:
            for one in (*self._visitors.values(), *self._loads.values()):
                stack.enter_context(one)
            self._await_more()
            yield
            self._await_more()
        assert self.failures == []

    def _await_more(self) -> None:
        before = self.done
        deadline = time.monotonic() + 120
        while any(count < before[name] + _AT_LEAST for name, count in self.done.items()):
            assert self.failures == []
            assert time.monotonic() < deadline, (before, self.done)
            time.sleep(0.05)  # the threads count their requests, and set no event for it

    def _page(self, talk: Talk) -> bool:
        return self._ask(talk, "/", PAGE)

    def _app(self, talk: Talk) -> bool:
        return self._ask(talk, "/app/answer.txt", FROM_APP)

    def _ask(self, talk: Talk, target: str, right: bytes) -> bool:
        began = time.monotonic()
        answer = talk.asks(target, HOST)
        took = time.monotonic() - began
        with self._lock:
            self.slowest = max(self.slowest, took)
        assert (answer.status, answer.body) == (200, right), (answer.head, answer.body)
        return answer.get("connection") == "close"


def _redirect(talk: Talk) -> bool:
    answer = talk.asks("/path", HOST)
    assert (answer.status, answer.get("location")) == (308, f"https://{HOST}/path"), answer.head
    return True


def _asked(number: int) -> Asked:
    if number % 3:
        return Asked("page", request("/", HOST), None, PAGE)
    return Asked("app", request("/app/answer.txt", HOST), None, FROM_APP)
