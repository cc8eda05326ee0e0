"""gRPC through the real program: grpcio's own client and server, over TLS to us and HTTP/2 without it
behind us."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from support.program.server import Server

grpc = pytest.importorskip("grpc")


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc] # grpcio has no types
    """Methods on bytes, so that no code has to be generated."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.cancelled = threading.Event()

    def service(self, details: Any) -> Any:
        match details.method:
            case "/t.Echo/Unary":
                return grpc.unary_unary_rpc_method_handler(self.unary)
            case "/t.Echo/Fails":
                return grpc.unary_unary_rpc_method_handler(self.fails)
            case "/t.Echo/Slow":
                return grpc.unary_unary_rpc_method_handler(self.slow)
            case "/t.Echo/Down":
                return grpc.unary_stream_rpc_method_handler(self.down)
            case "/t.Echo/Up":
                return grpc.stream_unary_rpc_method_handler(self.up)
            case "/t.Echo/Both":
                return grpc.stream_stream_rpc_method_handler(self.both)
        return None

    def unary(self, request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata([("x-sum", str(len(request)))])
        return request[::-1]

    def fails(self, request: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")
        return b""

    def slow(self, request: bytes, context: Any) -> bytes:
        context.add_callback(self.cancelled.set)
        self.begun.set()
        self.cancelled.wait(60)
        return b"late"

    def down(self, request: bytes, context: Any) -> Iterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number * 1000

    def up(self, requests: Iterator[bytes], context: Any) -> bytes:
        return b"%d" % sum(len(one) for one in requests)

    def both(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for one in requests:
            yield one.upper()


@dataclass
class Running:
    echo: Echo
    channel: Any

    def method(self, kind: str, name: str) -> Callable[..., Any]:
        made: Callable[..., Any] = getattr(self.channel, kind)(f"/t.Echo/{name}")
        return made


@pytest.fixture(params=["h2c", "https"])
def running(
    request: pytest.FixtureRequest, folder: Path, ports: tuple[int, int]
) -> Iterator[Running]:
    echo = Echo()
    backend = grpc.server(futures.ThreadPoolExecutor(8), handlers=[echo])
    if request.param == "h2c":
        port = backend.add_insecure_port("127.0.0.1:0")
        tls = ""
    else:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        own = authority.issue_cert("grpc.internal")
        pair = own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes()
        port = backend.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        rules = f"ca_file: {folder / 'ca.pem'}, server_name: grpc.internal, http2: true"
        tls = f", backend_tls: {{{rules}}}"
    backend.start()
    config = folder / "config.yaml"
    config.write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 1
state: {folder / "state"}
sites:
  - {{names: [a.test], backend: "{request.param}://127.0.0.1:{port}"{tls}}}
"""
    )
    with Server(["--config", str(config)], folder) as server:
        server.await_log("certificate obtained")
        root = (folder / "state/internal-ca/root.pem").read_bytes()
        credentials = grpc.ssl_channel_credentials(root)
        options = [("grpc.ssl_target_name_override", "a.test")]
        with grpc.secure_channel(f"127.0.0.1:{ports[1]}", credentials, options) as channel:
            yield Running(echo, channel)
        assert server.stop() == 0
        assert "Traceback" not in server.text()
    backend.stop(None)


def test_all_four_kinds_of_calls(running: Running) -> None:
    response, call = running.method("unary_unary", "Unary").with_call(b"abc", timeout=60)
    assert response == b"cba"
    assert dict(call.trailing_metadata())["x-sum"] == "3"
    got = list(running.method("unary_stream", "Down")(b"300", timeout=60))
    assert got == [b"%d" % number * 1000 for number in range(300)]
    up = running.method("stream_unary", "Up")(iter([b"x" * 1000] * 300), timeout=60)
    assert up == b"300000"


def test_a_stream_in_both_directions_is_not_held_up(running: Running) -> None:
    """Each message is sent when the answer to the one before has come."""
    answered = threading.Semaphore(1)

    def requests() -> Iterator[bytes]:
        for number in range(20):
            assert answered.acquire(timeout=60)
            yield b"message %d" % number

    got = []
    for one in running.method("stream_stream", "Both")(requests(), timeout=60):
        got.append(one)
        answered.release()
    assert got == [b"MESSAGE %d" % number for number in range(20)]


def test_an_error_comes_with_its_status_and_words(running: Running) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        running.method("unary_unary", "Fails")(b"", timeout=60)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.details() == "not today"
    with pytest.raises(grpc.RpcError) as caught:
        running.method("unary_unary", "Nothing")(b"", timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_deadline_ends_the_call_at_the_server_too(running: Running) -> None:
    for within in (1, 5, 20):  # on a busy machine it may be over before the server is asked
        with pytest.raises(grpc.RpcError) as caught:
            running.method("unary_unary", "Slow")(b"", timeout=within)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        if running.echo.begun.is_set():
            break
    assert running.echo.cancelled.wait(30)  # the server would have waited for twice as long
