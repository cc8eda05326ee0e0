"""A stream over TLS, directly on the descriptor: a non-blocking `TlsSocket`, or for backends an
`ssl.SSLSocket`.

That is simpler than the event loop's own TLS transports, as fast as the best of them, and lets a
ClientHello be looked at before anything is decided.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from ..accelerated import Lane, copies, lane
from . import openssl
from .deadlines import Deadlines
from .openssl import DONE, WANTS_ROOM
from .stream import (
    READ_SIZE,
    HandshakeRefused,
    Hears,
    OnData,
    Otherwise,
    StreamBroken,
    reason,
)
from .tcp import SocketStream
from .tls_socket import TlsSocket

# One read of OpenSSL's gives one record at most (RFC 8446 §5.1); a larger buffer is only allocated.
_RECORD = 16 * 1024


class TlsStream(SocketStream):
    """The same over TLS. Make it, then await `handshake` before anything else.

    A FIN without close_notify counts as an end on sockets made with ``suppress_ragged_eofs=True``
    (the ssl module's default; browsers do that, and a request's framing never relies on it). A
    client of backends must make its sockets with False, because there a body may be framed by the
    end of the connection alone (RFC 9112 §9.8).
    """

    __slots__ = ("_decrypt", "_encrypt", "_more_decrypted")
    _sock: ssl.SSLSocket | TlsSocket

    async def handshake(self) -> None:
        """Raises `HandshakeRefused` and `StreamBroken`."""
        inner = openssl.inner(self._sock)
        if inner is None:
            raise StreamBroken("the peer has gone")
        openssl.disable_auto_retry(inner)
        while (wants := self.shake(inner)) != DONE:
            if wants == WANTS_ROOM:
                await self._writable()
            else:
                await self._wait_readable()

    def shake(self, inner: Any) -> int:
        """Go on with the handshake as far as that can be now: `DONE`, or what it waits for.
        ``inner`` is what `openssl.inner` gives. Raises `HandshakeRefused` and `StreamBroken`."""
        try:
            how = openssl.shake(inner)
        except ssl.SSLError as error:
            refused = openssl.is_refusal(error)
            raise (HandshakeRefused if refused else StreamBroken)(reason(error)) from None
        except OSError as error:
            openssl.forget_error()
            raise StreamBroken(reason(error)) from None
        if how != DONE:
            return how
        self._more_decrypted = True  # early bytes may have come with the handshake
        self._decrypt: Callable[[int], bytes] = inner.read
        self._encrypt: Callable[[bytes | memoryview], int] = inner.write
        return DONE

    def read(self, limit: int = READ_SIZE, on_data: OnData | None = None) -> Awaitable[bytes]:
        if self._more_decrypted and not self._closed:
            # Bytes that OpenSSL has decrypted already do not make the descriptor readable.
            self._limit = limit
            data = self._receive_now() if self._sock.pending() else None
            if data is not None:
                waiter = self._loop.create_future()
                waiter.set_result(data)
                return waiter
        return SocketStream.read(self, limit, on_data)

    def hear(self, hears: Hears) -> bool:
        # Bytes that are decrypted already would tell nobody.
        return not self._more_decrypted and SocketStream.hear(self, hears)

    def listen(self, on_data: OnData, otherwise: Otherwise) -> None:
        SocketStream.listen(self, on_data, otherwise)
        if self._more_decrypted and self._otherwise is not None:
            self._more_decrypted = False
            if self._sock.pending():
                self._on_readable()

    def _receive(self) -> bytes | None:
        limit = self._limit
        try:
            if limit >= _RECORD:
                self._more_decrypted = False  # a record fits into it, so nothing stays behind
                return self._decrypt(_RECORD)
            self._more_decrypted = True
            return self._decrypt(limit)
        except ssl.SSLWantReadError:
            # A part of a record, or one of TLS's own (see `openssl`). Want-write is an error:
            # what TLS has to answer (a KeyUpdate, a refusal) finds no room, and the loop would spin
            # for a peer that asks without end and does not read.
            return None
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLEOFError:
            # A FIN without close_notify.
            if self._sock.suppress_ragged_eofs:  # type: ignore[union-attr] # not in typeshed
                return b""
            raise
        except OSError:
            openssl.forget_error()
            raise

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self._encrypt(data)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0
        except OSError:
            openssl.forget_error()
            raise

    async def send_eof(self) -> None:
        self._farewell()
        await super().send_eof()

    def _farewell(self) -> None:
        openssl.send_close_notify(self._sock)


_Loop = asyncio.AbstractEventLoop


def _of_client(sock: TlsSocket, fd: int, loop: _Loop, deadlines: Deadlines) -> TlsStream:
    return TlsStream(sock, loop, deadlines, client=True)


def in_c(lane: Lane) -> Callable[[TlsSocket, int, _Loop, Deadlines], TlsStream]:
    """Return what a lane has in place of `_of_client`."""
    nothing: Any = SimpleNamespace(fileno=lambda: -1, add=lambda *_stream: None)
    pattern = TlsStream(nothing, nothing, nothing, client=True)
    make = copies(lane, pattern, "_sock", "_fd", "_loop", "_deadlines")

    def of_client(sock: TlsSocket, fd: int, loop: _Loop, deadlines: Deadlines) -> TlsStream:
        made: TlsStream = make(sock, fd, loop, deadlines)
        deadlines.add(made, fd, loop, True)
        return made

    return of_client


# Makes the stream of a client's socket, whose descriptor is ``fd``.
new_client_stream = _of_client if lane is None else in_c(lane)
