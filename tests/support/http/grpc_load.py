"""gRPC while anything happens to the server in between: grpcio's own server, which counts what it was
asked, and clients that call it all the while.

    with counting() as (port, asked), GrpcLoad(channel) as load:
        ...
    assert load.failures == [] and max(asked.values()) == 1
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc

_ENDS_WITHIN = 60.0
_WITHIN = 60.0
# A server that takes no connection for a moment fails no call; and nobody asks without a pause.
_WAITS: dict[str, Any] = {"timeout": _WITHIN, "wait_for_ready": True}
_PAUSE = 0.2
MESSAGES = 60


class _Counting(grpc.GenericRpcHandler):  # type: ignore[misc] # grpcio has no types
    def __init__(self, asked: collections.Counter[str]) -> None:
        self._asked = asked
        self._lock = threading.Lock()

    def service(self, details: Any) -> Any:
        match details.method:
            case "/t.Load/Unary":
                return grpc.unary_unary_rpc_method_handler(self._unary)
            case "/t.Load/Down":
                return grpc.unary_stream_rpc_method_handler(self._down)
            case "/t.Load/Up":
                return grpc.stream_unary_rpc_method_handler(self._up)
            case "/t.Load/Both":
                return grpc.stream_stream_rpc_method_handler(self._both)
        return None

    def _note(self, name: bytes) -> None:
        with self._lock:
            self._asked[name.decode()] += 1

    def _unary(self, request: bytes, context: Any) -> bytes:
        self._note(request)
        return request[::-1]

    def _down(self, request: bytes, context: Any) -> Iterator[bytes]:
        self._note(request)
        for number in range(MESSAGES):
            yield b"%d " % number * 2000

    def _up(self, requests: Iterator[bytes], context: Any) -> bytes:
        first = next(requests)
        self._note(first)
        return b"%d" % sum(len(one) for one in requests)

    def _both(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for number, one in enumerate(requests):
            if not number:
                self._note(one)
            yield one.upper()


@contextlib.contextmanager
def counting() -> Iterator[tuple[int, collections.Counter[str]]]:
    """The port of the server, and how often it was asked for each id."""
    asked: collections.Counter[str] = collections.Counter()
    server = grpc.server(futures.ThreadPoolExecutor(32), handlers=[_Counting(asked)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port, asked
    finally:
        server.stop(None).wait()


def channel(port: int, ca: bytes, name: str) -> Any:
    credentials = grpc.ssl_channel_credentials(ca)
    options = [("grpc.ssl_target_name_override", name)]
    return grpc.secure_channel(f"127.0.0.1:{port}", credentials, options)


class GrpcLoad:
    """One thread for each kind of call, on one channel; the streams last for seconds. ``judge``
    takes failures, and when their calls began; without it they are in ``failures``. ``pause``:
    seconds between the calls of a thread."""

    def __init__(
        self,
        using: Any,
        judge: Callable[[str, Exception, float], None] | None = None,
        pause: float = 0.0,
    ) -> None:
        self.failures: list[str] = []
        self.done: collections.Counter[str] = collections.Counter()
        self._channel = using
        self._judge = judge or (
            lambda kind, error, _begun: self.failures.append(f"{kind}: {error!r}")
        )
        self._pause = pause
        self._numbers = itertools.count()
        self._over = threading.Event()
        kinds = [self._unary, self._unary, self._down, self._up, self._both]
        self._threads = [threading.Thread(target=self._run, args=(kind,)) for kind in kinds]

    def __enter__(self) -> GrpcLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(_ENDS_WITHIN)
            assert not thread.is_alive()

    def _run(self, kind: Callable[[bytes], None]) -> None:
        name = f"grpc{kind.__name__}"
        while not self._over.is_set():
            begun = time.monotonic()
            try:
                kind(b"%b-%d" % (name.encode(), next(self._numbers)))
                self.done[name] += 1
                self._over.wait(self._pause)
            except Exception as error:
                self._judge(name, error, begun)
                self._over.wait(_PAUSE)

    def _unary(self, own: bytes) -> None:
        got = self._channel.unary_unary("/t.Load/Unary")(own, **_WAITS)
        assert got == own[::-1], got

    def _down(self, own: bytes) -> None:
        call = self._channel.unary_stream("/t.Load/Down")(own, **_WAITS)
        assert [len(one) for one in call] == [2000 * len(b"%d " % n) for n in range(MESSAGES)]

    def _up(self, own: bytes) -> None:
        def messages() -> Iterator[bytes]:
            yield own
            for _ in range(MESSAGES):
                threading.Event().wait(0.02)  # the pace of what is measured, not a wait
                yield bytes(3000)

        got = self._channel.stream_unary("/t.Load/Up")(messages(), **_WAITS)
        assert got == b"%d" % (MESSAGES * 3000), got

    def _both(self, own: bytes) -> None:
        """Each message is sent when the answer to the one before has come."""
        answered = threading.Semaphore(1)

        def messages() -> Iterator[bytes]:
            for number in range(MESSAGES):
                if not answered.acquire(timeout=_WITHIN):
                    return
                yield b"%b %d" % (own, number)

        got = 0
        for one in self._channel.stream_stream("/t.Load/Both")(messages(), **_WAITS):
            assert one == b"%b %d" % (own.upper(), got), one
            got += 1
            threading.Event().wait(0.03)  # the pace of a conversation
            answered.release()
        assert got == MESSAGES, got
