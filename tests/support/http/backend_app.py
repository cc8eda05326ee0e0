"""An application behind the proxy, in as many lines as a test needs.

class Echo(Application):
    def do_GET(self) -> None:
        self.answers(self.path.encode())

with serving(Echo) as port:
"""

from __future__ import annotations

import contextlib
import ssl
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

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
    address: str = "127.0.0.1",
    port: int = 0,
    context: ssl.SSLContext | None = None,
) -> Iterator[int]:
    """The port at which it is served meanwhile."""
    server = _Server((address, port), handler, context)
    thread = threading.Thread(target=server.serve_forever, args=(_LOOKS_UP_EVERY,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
