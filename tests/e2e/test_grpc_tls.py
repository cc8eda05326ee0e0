"""gRPC through the proxy to a backend over TLS, with grpcio's own client and server: what `test_grpc`
leaves: cancellation by either side, metadata, failures without a message, health by gRPC's protocol."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from support.program.ports import free_ports
from support.program.server import Server

NAMES = ["unary", "server_stream", "client_stream", "both", "fails", "slow", "meta"]


@dataclass
class Calls:
    """The service: bytes in, bytes out. ``cancelled`` is set when a call was cancelled."""

    cancelled: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    health: bytes | None = b"\x08\x01"  # HealthCheckResponse: SERVING

    def service(self, method: str, context: Any) -> Any:
        name = method.rpartition("/")[2]
        if method == "/grpc.health.v1.Health/Check":
            return self.check if self.health is not None else None
        return getattr(self, name, None)

    def check(self, request: bytes, context: Any) -> bytes:
        return self.health or b""

    def unary(self, request: bytes, context: Any) -> bytes:
        return request[::-1]

    def server_stream(self, request: bytes, context: Any) -> Iterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number * 100

    def client_stream(self, requests: Iterable[bytes], context: Any) -> bytes:
        return b"%d" % sum(len(one) for one in requests)

    def both(self, requests: Iterable[bytes], context: Any) -> Iterator[bytes]:
        for one in requests:
            yield one.upper()

    def fails(self, request: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no, ünlucky")
        return b""

    def slow(self, request: bytes, context: Any) -> bytes:
        context.add_callback(self.cancelled.set)
        self.begun.set()
        while context.is_active():
            time.sleep(0.01)
        return b"late"

    def meta(self, request: bytes, context: Any) -> bytes:
        told = dict(context.invocation_metadata())
        context.send_initial_metadata((("first", told["asked"]),))
        context.set_trailing_metadata((("last", "of all"), ("bytes-bin", b"\x00\x01")))
        return told.get("x-forwarded-proto", "-").encode()


class Handler(grpc.GenericRpcHandler):  # type: ignore[misc] # grpcio has no types
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def service(self, details: Any) -> Any:
        call = self._calls.service(details.method, None)
        if call is None:
            return None
        match call.__name__:
            case "server_stream":
                return grpc.unary_stream_rpc_method_handler(call)
            case "client_stream":
                return grpc.stream_unary_rpc_method_handler(call)
            case "both":
                return grpc.stream_stream_rpc_method_handler(call)
        return grpc.unary_unary_rpc_method_handler(call)


@dataclass
class Running:
    server: Server
    channel: grpc.Channel
    calls: Calls
    backend: grpc.Server
    state: Path


@contextlib.contextmanager
def started(secure: bool) -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    folder.chmod(0o755)
    one, other, port = free_ports(3)
    calls = Calls()
    backend = grpc.server(futures.ThreadPoolExecutor(32), handlers=[Handler(calls)])
    tls = ""
    if secure:
        ca = trustme.CA()
        own = ca.issue_cert("localhost")
        ca.cert_pem.write_to_path(folder / "ca.pem")
        pair = (own.private_key_pem.bytes(), b"".join(pem.bytes() for pem in own.cert_chain_pems))
        backend.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([pair]))
        tls = (
            f", backend_tls: {{ca_file: {folder / 'ca.pem'}, server_name: localhost, http2: true}}"
        )
    else:
        backend.add_insecure_port(f"127.0.0.1:{port}")
    backend.start()
    config = folder / "config.yaml"
    url = f"https://127.0.0.1:{port}" if secure else f"h2c://127.0.0.1:{port}"
    config.write_text(
        f"""
listen: {{http: ["127.0.0.1:{one}"], https: ["127.0.0.1:{other}"]}}
workers: 1
state: {folder / "state"}
sites:
  - {{names: [grpc.test], backend: "{url}"{tls}, health: {{grpc: true, interval: 100ms}}}}
"""
    )
    try:
        with Server(["--config", str(config)], folder) as server:
            server.await_log("grpc.test: certificate obtained")
            root = (folder / "state/internal-ca/root.pem").read_bytes()
            options = [
                ("grpc.ssl_target_name_override", "grpc.test"),
                ("grpc.default_authority", "grpc.test"),
            ]
            with grpc.secure_channel(
                f"127.0.0.1:{other}", grpc.ssl_channel_credentials(root), options
            ) as channel:
                yield Running(server, channel, calls, backend, folder / "state")
            assert "Traceback" not in server.text()
    finally:
        backend.stop(0).wait()
        shutil.rmtree(folder)


@pytest.fixture(scope="module", params=[True], ids=["tls"])
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    with started(request.param) as made:
        yield made


def test_health_is_asked_by_grpcs_own_protocol(running: Running) -> None:
    """The backend says SERVING first, then that it is not, then that it knows nothing of health."""
    state = running.state
    running.server.await_status(state, lambda one: healthy(one) == "yes")
    running.calls.health = b"\x08\x02"
    running.server.await_log("fails its check: it says that it is not serving")
    running.server.await_status(state, lambda one: healthy(one) == "no")
    running.calls.health = None
    running.server.await_status(state, lambda one: "grpc-status 12" in str(one["upstreams"]))
    running.calls.health = b"\x08\x01"
    running.server.await_log("passes its check again")


def healthy(status: dict[str, Any]) -> str:
    [one] = status["upstreams"]
    return str(one["healthy"])


def test_unary(running: Running) -> None:
    call = running.channel.unary_unary("/test.Calls/unary")
    for size in (0, 1, 1000, 100_000, 3_000_000):
        text = b"ab" * (size // 2)
        assert call(text, timeout=60) == text[::-1]


def test_many_at_a_time(running: Running) -> None:
    call = running.channel.unary_unary("/test.Calls/unary")
    asked = [call.future(b"%d" % number, timeout=60) for number in range(200)]
    assert [one.result() for one in asked] == [(b"%d" % number)[::-1] for number in range(200)]


def test_streams(running: Running) -> None:
    many = running.channel.unary_stream("/test.Calls/server_stream")
    assert [len(one) for one in many(b"50", timeout=60)] == [
        len(b"%d" % n) * 100 for n in range(50)
    ]
    summed = running.channel.stream_unary("/test.Calls/client_stream")
    assert summed(iter([b"x" * 10_000] * 100), timeout=60) == b"1000000"


def test_both_directions_at_a_time(running: Running) -> None:
    """Each message is answered before the next one is sent."""
    heard: list[bytes] = []
    next_one = threading.Semaphore(1)

    def says() -> Iterator[bytes]:
        for number in range(20):
            assert next_one.acquire(timeout=60)
            yield b"message %d" % number

    for one in running.channel.stream_stream("/test.Calls/both")(says(), timeout=60):
        heard.append(one)
        next_one.release()
    assert heard == [b"MESSAGE %d" % number for number in range(20)]


def test_a_failure_is_told_with_its_words(running: Running) -> None:
    with pytest.raises(grpc.RpcError) as met:
        running.channel.unary_unary("/test.Calls/fails")(b"x", timeout=60)
    assert (met.value.code(), met.value.details()) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "no, ünlucky",
    )
    with pytest.raises(grpc.RpcError) as met:
        running.channel.unary_unary("/test.Calls/nothing")(b"x", timeout=60)
    assert met.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_metadata_both_ways(running: Running) -> None:
    call = running.channel.unary_unary("/test.Calls/meta")
    answer, done = call.with_call(b"x", timeout=60, metadata=(("asked", "this"),))
    assert answer == b"https"
    assert dict(done.initial_metadata())["first"] == "this"
    trailing = dict(done.trailing_metadata())
    assert (trailing["last"], trailing["bytes-bin"]) == ("of all", b"\x00\x01")


@pytest.mark.parametrize("how", ["deadline", "cancel"])
def test_who_gives_up_is_told_to_the_backend(running: Running, how: str) -> None:
    running.calls.cancelled.clear()
    running.calls.begun.clear()
    call = running.channel.unary_unary("/test.Calls/slow")
    if how == "deadline":
        for within in (0.5, 5, 20):  # on a busy machine it may be over before the backend is asked
            with pytest.raises(grpc.RpcError) as met:
                call(b"x", timeout=within)
            assert met.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            if running.calls.begun.is_set():
                break
    else:
        asked = call.future(b"x", timeout=60)
        assert running.calls.begun.wait(60)
        asked.cancel()
    assert running.calls.cancelled.wait(60)
    assert running.channel.unary_unary("/test.Calls/unary")(b"ab", timeout=60) == b"ba"


def test_a_backend_that_comes_back_is_asked_again() -> None:
    """A backend that ends says GOAWAY; that is no failure, and what has not been taken is repeated."""
    with started(False) as running:
        call = running.channel.unary_unary("/test.Calls/unary")
        assert call(b"ab", timeout=60) == b"ba"
        running.backend.stop(0).wait()
        with pytest.raises(grpc.RpcError) as met:
            call(b"ab", timeout=60)
        assert met.value.code() == grpc.StatusCode.UNAVAILABLE
