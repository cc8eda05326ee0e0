"""An accepted connection over TLS, made without the work that `ssl.SSLSocket` does to make one.

An `ssl.SSLSocket` is born from another socket: the descriptor changes hands, the kernel is asked
for the type, the peer and the address once more, two enums are looked up by value, and a
dictionary of ten entries is made. That is a tenth of what the interpreter does for a whole
connection. Here the object that was accepted is the object that speaks TLS.

It has the methods that `tls_stream` and `worker.tls_accept` call, and never reads or writes by
itself: ``inner``, the object of the `ssl` module's C part, does (see `openssl`). What comes
before TLS is never taken for what came through it (CVE-2023-40217): `recv` is called here only
to peek.
"""

from __future__ import annotations

import _socket
import socket
import ssl
from typing import Any, TypeVar


class TlsSocket(socket.socket):
    """A connected socket; after `begin` the server's side of TLS is spoken on it."""

    __slots__ = ("inner",)

    # See `tls_stream`: a client's end without close_notify is an end.
    suppress_ragged_eofs = True

    def __init__(self, fd: int, family: int) -> None:
        """``fd`` is this object's from now on. It does not block."""
        # As `socket.socket` does it, in one frame.
        _socket.socket.__init__(self, family, _socket.SOCK_STREAM, 0, fd)
        self._io_refs = 0
        self._closed = False
        self.inner: Any = None  # none before TLS has begun, and none when the descriptor is gone
        self.setblocking(False)

    def begin(self, context: ssl.SSLContext) -> None:
        """Speak TLS by this context; the handshake is to follow. Raises `ssl.SSLError`."""
        self.inner = context._wrap_socket(  # type: ignore[attr-defined] # not in typeshed
            self, True, owner=self
        )

    def unwrap(self) -> None:
        """Say close_notify, as `ssl.SSLSocket.unwrap`."""
        self.inner.shutdown()

    def pending(self) -> int:
        """How many bytes are decrypted and not read."""
        count: int = self.inner.pending()
        return count

    def version(self) -> str | None:
        name: str | None = self.inner.version()
        return name

    def selected_alpn_protocol(self) -> str | None:
        protocol: str | None = self.inner.selected_alpn_protocol()
        return protocol

    @property
    def session_reused(self) -> bool:
        reused: bool = self.inner.session_reused
        return reused

    def peer_certificate(self) -> bytes | None:
        """The client's certificate in DER, if it has shown one."""
        certificate: bytes | None = self.inner.getpeercert(True)
        return certificate

    # OpenSSL knows the number of the descriptor, which is soon another connection's.

    def close(self) -> None:
        self.inner = None
        self._closed = True
        _socket.socket.close(self)

    def detach(self) -> int:
        self.inner = None
        return super().detach()


_Kind = TypeVar("_Kind", bound=TlsSocket)


def accept(listener: socket.socket, family: int, kind: type[_Kind]) -> tuple[_Kind, Any]:
    """A connection that waits at the listener, as ``kind``, and the peer's address. Raises what
    `socket.socket.accept` raises. ``family``: the listener's, which costs an enum each time."""
    fd, address = listener._accept()  # type: ignore[attr-defined] # not in typeshed
    return kind(fd, family), address


def adopt(sock: socket.socket, kind: type[_Kind]) -> _Kind:
    """The same connection as ``kind``; ``sock`` is empty then."""
    family = int(sock.family)
    return kind(sock.detach(), family)
