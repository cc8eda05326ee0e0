"""A `StrictBackend` that is spoken to in HTTP/2 without TLS: python-hyper's h2, which validates what it
reads, on a thread for each connection.

What it hears is kept as HTTP/1.1 would say it, so that one table serves both; whoever compares leaves
out what only HTTP/1.1 has (`lengthless`). A request that h2 does not take, or whose body has another
length than it says, is `ill_formed`; one without a tag is a stray.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset, TrailersReceived
from h2.exceptions import ProtocolError

from .strict_backend import HEAD_END, TAG, Witness, echo, without_ours

Fields = list[tuple[bytes, bytes]]
_ONE_CONNECTION = (b"connection", b"transfer-encoding", b"keep-alive", b"upgrade")


@dataclass
class _Request:
    fields: Fields
    body: bytes = b""
    trailers: Fields = field(default_factory=list)

    def get(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key == name]


class StrictH2Backend(Witness):
    """Echoes, as a `StrictBackend` without a script does."""

    def _converse(self, sock: socket.socket) -> None:
        config = H2Configuration(client_side=False, header_encoding=None)
        h2 = H2Connection(config)
        h2.initiate_connection()
        open_: dict[int, _Request] = {}
        sock.sendall(h2.data_to_send())
        while data := sock.recv(65536):
            try:
                events = h2.receive_data(data)
            except ProtocolError as error:
                self.ill_formed.append(repr(error).encode() + b" in " + data)
                sock.sendall(h2.data_to_send())
                return
            for event in events:
                match event:
                    case RequestReceived():
                        self._begins(open_, event)
                    case DataReceived():
                        open_[event.stream_id].body += event.data
                        h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    case TrailersReceived():
                        open_[event.stream_id].trailers = [
                            (bytes(n), bytes(v)) for n, v in event.headers
                        ]
                    case StreamReset():
                        open_.pop(event.stream_id, None)
                    case StreamEnded():
                        self._answer(h2, event.stream_id, open_.pop(event.stream_id))
            sock.sendall(h2.data_to_send())

    def _begins(self, open_: dict[int, _Request], event: RequestReceived) -> None:
        fields = [(bytes(name), bytes(value)) for name, value in event.headers]
        request = open_[event.stream_id] = _Request(fields)
        head = _as_http1(request)
        if [name for name, _ in fields if name in _ONE_CONNECTION]:
            self.ill_formed.append(head)
        tag = _tag(request)
        if not tag:
            self.strays.append(head)
        self.begun[tag].append(head)

    def _answer(self, h2: H2Connection, stream: int, request: _Request) -> None:
        message = _as_http1(request)
        lengths = request.get(b"content-length")
        if lengths not in ([], [b"%d" % len(request.body)]):
            self.ill_formed.append(message)
        self.whole[_tag(request)].append(message)
        (method,), (path,) = request.get(b":method"), request.get(b":path")
        body = echo(method, path, request.body).partition(HEAD_END)[2]
        said = b"%b %b [%b]\n" % (method, path, request.body)
        head = [(b":status", b"200"), (b"content-length", b"%d" % len(said))]
        h2.send_headers(stream, head, end_stream=not body)
        if body:
            h2.send_data(stream, body, end_stream=True)


def _tag(request: _Request) -> int:
    found = TAG.search(request.get(b":path")[0])
    return int(found[1]) if found is not None else 0


def _as_http1(request: _Request) -> bytes:
    (method,), (path,), (authority,) = (
        request.get(n) for n in (b":method", b":path", b":authority")
    )
    fields = [(name, value) for name, value in request.fields if not name.startswith(b":")]
    chunked = (request.body or request.trailers) and not request.get(b"content-length")
    wire = request.body
    if chunked:
        fields.append((b"transfer-encoding", b"chunked"))
        trailers = b"".join(b"%b: %b\r\n" % field for field in request.trailers)
        wire = b"%x\r\n%b\r\n" % (len(wire), wire) if wire else b""
        wire += b"0\r\n" + trailers + b"\r\n"
    start = b"%b %b HTTP/1.1\r\nhost: %b" % (method, path, authority)
    return without_ours(start, fields) + wire


def lengthless(message: bytes) -> bytes:
    """Without what tells where the body ends, which HTTP/2 says otherwise, and with the body as it
    is, trailers behind it."""
    head, _, body = message.partition(HEAD_END)
    lines = [
        line
        for line in head.split(b"\r\n")
        if not line.startswith((b"content-length", b"transfer-encoding", b"connection: te"))
    ]
    if b"transfer-encoding" in head and body:
        text, rest = b"", body
        while size := int(rest.split(b"\r\n", 1)[0], 16):
            rest = rest.split(b"\r\n", 1)[1]
            text, rest = text + rest[:size], rest[size + 2 :]
        body = text + rest.split(b"\r\n", 1)[1].removesuffix(b"\r\n")
    return b"\r\n".join(lines) + HEAD_END + body
