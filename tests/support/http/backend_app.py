"""An application behind the proxy, in as many lines as a test needs.

class Echo(Application):
    def do_GET(self) -> None:
        self.answers(self.path.encode())

with serving(Echo) as port:

`running` and `Served` are the same for servers of any protocol.
"""

from __future__ import annotations

import contextlib
import socketserver
import ssl
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

_LOOKS_UP_EVERY = 0.02  # seconds in which a server notices that it is to end


class Application(BaseHTTPRequestHandler):
    """Connections are kept; nothing is said on standard error."""

    protocol_version = "HTTP/1.1"

    def answers(self, body: bytes = b"", status: int = 200, **fields: str) -> None:
        """``fields``: with "_" for "-"."""
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        """Of the request, in either framing."""
        if not self.headers["Transfer-Encoding"]:
            return self.rfile.read(int(self.headers["Content-Length"]))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    """TLS in the connection's own thread, and no word on clients that leave."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(
        self, address: Any, handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext | None
    ) -> None:
        self._context = context
        super().__init__(address, handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self._context is None:
            super().finish_request(request, client_address)
            return
        with self._context.wrap_socket(request, server_side=True) as tls:
            super().finish_request(tls, client_address)

    def shutdown_request(self, request: Any) -> None:
        with contextlib.suppress(OSError):
            super().shutdown_request(request)
        request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # the proxy has ended the connection
            super().handle_error(request, client_address)


@contextlib.contextmanager
def serving(
    handler: type[BaseHTTPRequestHandler],
    *,
    address: str = "127.0.0.1",
    port: int = 0,
    context: ssl.SSLContext | None = None,
) -> Iterator[int]:
    """The port at which it is served meanwhile."""
    server = _Server((address, port), handler, context)
    with running(server):
        yield server.server_address[1]


@contextlib.contextmanager
def running(server: socketserver.BaseServer) -> Iterator[None]:
    """Let the server answer, on a thread of its own; close it in the end."""
    thread = threading.Thread(target=server.serve_forever, args=(_LOOKS_UP_EVERY,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Served:
    """A server with more to it than a port. It listens from the beginning, and answers from ``with``
    to its end."""

    def __init__(self, server: socketserver.TCPServer) -> None:
        self._running = running(server)
        self.port: int = server.server_address[1]

    def __enter__(self) -> Self:
        self._running.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.__exit__(None, None, None)
