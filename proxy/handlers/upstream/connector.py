"""Opens connections to one backend: its addresses, TCP or a unix socket, TLS.

A name may lead to several addresses, of which some do not answer. They are tried one after the
other, each with a head start of a quarter of a second and without waiting for the end of those
before (RFC 8305 §5, "happy eyeballs"); the first that answers is taken. An address that failed, or
that a later one overtook, comes last for a minute, so that one request finds out what is dead and
the next ones do not.

What it never does: keep a connection, or say that a backend is down. Every failure is a `Fault`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections import deque

from ...bounded_cache import remember
from ...config.model import Backend, ProxyAction
from ...errors import Fault
from ...tls.trust import client_context
from ...transport.stream import StreamBroken, StreamTimeout
from ...transport.tcp import SocketStream
from ...transport.tls_stream import TlsStream
from .context import UpstreamContext
from .resolver import Address, Resolver

# connect(2) and socket(2): the errors that are ours and not the backend's.
_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM}
# RFC 8305 §8: Connection Attempt Delay, 250 ms.
_HEAD_START = 0.25
# Seconds for which an address that did not answer comes last.
_SHUNNED_FOR = 60.0
_MOST_SHUNNED = 64
# A unix socket whose queue is full refuses at once instead of letting us wait (connect(2), EAGAIN).
_FULL_QUEUE_PAUSE = 0.01


class NotAllowed(Fault):
    """The system does not let us connect. Waiting does not help."""


class Connector:
    def __init__(
        self,
        backend: Backend,
        action: ProxyAction,
        tls: ssl.SSLContext | None,
        context: UpstreamContext,
    ) -> None:
        self._backend = backend
        self._action = action
        self._tls = tls
        self._context = context
        self._resolver = Resolver(backend, context)
        self._shunned: dict[Address, float] = {}

    async def connect(self) -> SocketStream:
        """Return a connection. Raises `Fault`: no_capacity, backend_refused, _timeout, _tls."""
        try:
            async with asyncio.timeout(self._action.connect_timeout):
                sock = await self._connect()
                if self._backend.scheme != "https":
                    return SocketStream(sock, self._context.loop, self._context.deadlines)
                return await self._handshake(sock)
        except TimeoutError:
            raise Fault("backend_timeout", "no connection in time") from None

    def close(self) -> None:
        self._resolver.close()

    # Resolver

    async def _connect(self) -> socket.socket:
        addresses = await self._resolver.find()
        try:
            if len(addresses) == 1:
                return await self._attempt(addresses[0])
            return await self._race(self._in_order(addresses))
        except OSError as error:
            # asyncio's own text of the error is about its call.
            why = os.strerror(error.errno) if error.errno else str(error)
            if error.errno in _NOT_ALLOWED:
                raise NotAllowed("backend_refused", self._explained_denial(why)) from None
            raise Fault("backend_refused", why) from None

    def _explained_denial(self, why: str) -> str:
        if self._backend.scheme != "unix":
            return why
        return f"{why}: uid {os.getuid()} must be allowed to write to the socket"

    def _in_order(self, addresses: list[Address]) -> list[Address]:
        """Those that answered last time first; the order of the resolver (RFC 6724) otherwise."""
        now = self._context.clock.now
        shunned = self._shunned
        for address in [one for one, since in shunned.items() if now - since > _SHUNNED_FOR]:
            del shunned[address]
        return sorted(addresses, key=lambda one: shunned.get(one, float("-inf")))

    def _shun(self, address: Address) -> None:
        remember(self._shunned, address, self._context.clock.now, _MOST_SHUNNED)

    async def _race(self, addresses: list[Address]) -> socket.socket:
        """Return the first connection that stands. Raises the last `OSError`."""
        # A short connect_timeout must do for all of them.
        head_start = min(_HEAD_START, self._action.connect_timeout / (len(addresses) + 1))
        waiting = deque(addresses)
        attempts: dict[asyncio.Task[socket.socket], Address] = {}
        try:
            while True:
                error: OSError | None = None
                if waiting:
                    address = waiting.popleft()
                    attempts[self._context.loop.create_task(self._attempt(address))] = address
                done, _ = await asyncio.wait(
                    attempts,
                    timeout=head_start if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for attempt in [one for one in attempts if one in done]:
                    address = attempts.pop(attempt)
                    try:
                        sock = attempt.result()
                    except OSError as failed:
                        error = failed
                        self._shun(address)
                    else:
                        for slower in attempts.values():
                            self._shun(slower)
                        return sock
                if error is not None and not attempts and not waiting:
                    raise error
        finally:
            for attempt in attempts:
                attempt.add_done_callback(_let_go)
                attempt.cancel()

    async def _attempt(self, address: Address) -> socket.socket:
        family, where = address
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as failed:
            raise self._out_of_resources(failed) from None
        try:
            sock.setblocking(False)
            if family == socket.AF_UNIX:
                await _connect_unix(sock, where)
            else:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self._context.loop.sock_connect(sock, where)
        except OSError as failed:
            sock.close()
            if failed.errno in _OUT_OF_RESOURCES:
                raise self._out_of_resources(failed) from None
            raise
        except BaseException:
            sock.close()
            raise
        return sock

    def _out_of_resources(self, error: OSError) -> Fault:
        return Fault("no_capacity", f"no connection can be made: {error.strerror}")

    # TLS

    async def _handshake(self, sock: socket.socket) -> SocketStream:
        assert self._tls is not None  # noqa: S101 - made for every https backend
        name = self._action.tls.server_name or self._backend.host
        try:
            tls = self._tls.wrap_socket(
                sock,
                server_hostname=name,
                do_handshake_on_connect=False,
                # A body may end with the connection: then a cut one must not look complete.
                suppress_ragged_eofs=False,
            )
        except OSError as error:  # it has been reset already
            sock.close()
            raise Fault("backend_tls", error.strerror or str(error)) from None
        stream = TlsStream(tls, self._context.loop, self._context.deadlines)
        stream.deadline = self._context.clock.now + self._action.connect_timeout
        try:
            await stream.handshake()
        except StreamTimeout:
            stream.close()
            raise TimeoutError from None
        except StreamBroken as error:
            stream.close()
            raise Fault("backend_tls", _explained(str(error))) from None
        except BaseException:
            stream.close()
            raise
        if self._action.tls.http2 and tls.selected_alpn_protocol() != "h2":
            stream.close()
            raise Fault("backend_tls", "it does not offer HTTP/2 (leave backend_tls: http2 out?)")
        return stream


async def _connect_unix(sock: socket.socket, path: str) -> None:
    while True:
        try:
            sock.connect(path)
        except BlockingIOError:
            await asyncio.sleep(_FULL_QUEUE_PAUSE)
        else:
            return


def _let_go(attempt: asyncio.Task[socket.socket]) -> None:
    """An attempt that nobody needs any more may have succeeded all the same."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


def _explained(reason: str) -> str:
    """Return the reason of a failed handshake in OpenSSL's words, with a hint for the operator."""
    if "certificate verify failed" in reason:
        # verify_message: self-signed certificate, certificate has expired, Hostname mismatch, …
        return f"{reason} (backend_tls: ca_file says which CAs to trust, server_name which name)"
    if "wrong version number" in reason or "record layer failure" in reason:
        return f"{reason} (it does not speak TLS on this port: write http://?)"
    return reason


def speaks_http2(backend: Backend, action: ProxyAction) -> bool:
    """Whether the configuration says so."""
    return backend.scheme == "h2c" or (backend.scheme == "https" and action.tls.http2)


def tls_context(action: ProxyAction) -> ssl.SSLContext | None:
    """The context for connections to https backends; None where there are none."""
    if not any(backend.scheme == "https" for backend in action.backends):
        return None
    tls = action.tls
    context = client_context(tls.ca_file)
    context.set_alpn_protocols(["h2"] if tls.http2 else ["http/1.1"])
    if tls.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
