"""What the `ssl` module has no name for: its inner object, its errors and where they stay behind,
one record per turn, and a close_notify that waits for nothing.

OpenSSL is to handle one record of a connection, and then it is another connection's turn. But a
read goes on by itself (SSL_MODE_AUTO_RETRY) as long as what comes is no data but a message of TLS's
own. Some of these have an end: thirty-two empty records, five warnings. KeyUpdates have none
(RFC 8446 §4.6.3 sets no bound), nor have attempts to renegotiate, each of which is refused: 27
bytes on the wire cost 12 µs, so that 2.3 MB of KeyUpdates a second, made beforehand, keep a single
read busy for ever, and with it the loop. Without that mode each of them ends the read with "want
read", the loop goes round, and whoever sends them has a turn like everybody, until the deadline.

The `ssl` module sets the mode for every connection and has no way to take it back. So it is done by
OpenSSL's own SSL_ctrl, found in the library that the module is linked to, on the pointer that the
module's object holds. That is what is hard about it: the object's layout (three pointers behind its
head) is nobody's promise. It is proven on an object of our own, first by what Python itself put
there, before any pointer is followed. Where it is another one, or the library is out of sight,
nothing is done, and `AVAILABLE` says so.
"""

from __future__ import annotations

import _ssl
import contextlib
import ctypes
import ssl
from collections.abc import Callable
from typing import Any

from acme_client.late_dataclass import dataclass

from ..accelerated import Lane, lane
from .tls_socket import TlsSocket

# openssl/ssl.h
_CTRL_MODE, _CTRL_CLEAR_MODE = 33, 78
_MODE_AUTO_RETRY = 4
# How far a handshake is, as the lane says it.
DONE, WANTS_BYTES, WANTS_ROOM = range(3)
# CPython's Modules/_ssl.c: PyObject_HEAD, then the socket, SSL *, the context; and SSL_CTX * first
# in the context.
_HEAD = object.__basicsize__
_POINTER = ctypes.sizeof(ctypes.c_void_p)
_AT_SSL = _HEAD + _POINTER
_AT_CONTEXT = _HEAD + 2 * _POINTER


def _pointer(owner: object, at: int) -> int:
    return ctypes.c_void_p.from_address(id(owner) + at).value or 0


@dataclass(frozen=True, slots=True)
class _Functions:
    """OpenSSL's functions of these names, which take an SSL * as a number."""

    ctrl: Callable[[int, int, int, None], int]
    shutdown: Callable[[int], int]
    clear_error: Callable[[], None]
    last_error: Callable[[], int]
    reason: Callable[[int], bytes | None]


def _found() -> _Functions | None:
    """The functions, if they and our picture of the objects are as they should be."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    inner: Any = tls._sslobj  # type: ignore[attr-defined] # not in typeshed
    sizes = type(inner).__basicsize__ >= _AT_CONTEXT + _POINTER and (
        ssl.SSLContext.__basicsize__ >= _HEAD + _POINTER
    )
    if not sizes or _pointer(inner, _AT_CONTEXT) != id(context):
        return None
    try:
        library = _library()
        control, context_of = library.SSL_ctrl, library.SSL_get_SSL_CTX
        shutdown, clear_error = library.SSL_shutdown, library.ERR_clear_error
        last_error, reason = library.ERR_peek_last_error, library.ERR_reason_error_string
    except (AttributeError, OSError):
        return None
    context_of.argtypes, context_of.restype = [ctypes.c_void_p], ctypes.c_void_p
    if context_of(_pointer(inner, _AT_SSL)) != _pointer(context, _HEAD):
        return None
    control.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
    control.restype = ctypes.c_long
    if not control(_pointer(inner, _AT_SSL), _CTRL_MODE, 0, None) & _MODE_AUTO_RETRY:
        return None  # the mode that CPython has just set
    shutdown.argtypes, shutdown.restype = [ctypes.c_void_p], ctypes.c_int
    clear_error.argtypes, clear_error.restype = [], None
    last_error.argtypes, last_error.restype = [], ctypes.c_ulong
    reason.argtypes, reason.restype = [ctypes.c_ulong], ctypes.c_char_p
    return _Functions(control, shutdown, clear_error, last_error, reason)


def _library() -> ctypes.PyDLL:
    return ctypes.PyDLL(_ssl.__file__)  # looks in what the module is linked to as well


_openssl = _found()
AVAILABLE = _openssl is not None


def bind(lane: Lane) -> bool:
    """Let a lane know the functions and the objects; whether it may be asked."""
    if not AVAILABLE:
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    incoming = ssl.MemoryBIO()
    tls: Any = context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
    inner = tls._sslobj
    library = _library()
    names = "SSL_ctrl", "SSL_do_handshake", "SSL_get_error", "SSL_shutdown", "ERR_clear_error"
    functions = [getattr(library, name) for name in names]
    addresses = [ctypes.cast(one, ctypes.c_void_p).value or 0 for one in functions]
    lane.bind_openssl(type(inner), _AT_SSL, *addresses)
    # What it declines has to be found once more.
    if lane.shake(inner) != WANTS_BYTES:
        return False
    incoming.write(b"GET / HTTP/1.1\r\n\r\n")
    try:
        shaker(lane)(inner)
    except ssl.SSLError as error:
        return error.reason == "HTTP_REQUEST"
    return False


def inner(sock: ssl.SSLSocket | TlsSocket) -> Any:
    """The object behind a socket that speaks TLS; None when the peer has gone already.

    The socket's own methods come down to this object's, and check what `TlsStream` has checked: two
    frames for each read or write, as dear as parsing a field line, and for each step of the
    handshake a system call that makes the socket non-blocking once more.
    """
    if isinstance(sock, TlsSocket):
        return sock.inner
    return sock._sslobj  # type: ignore[attr-defined] # not in typeshed


def is_refusal(error: ssl.SSLError) -> bool:
    """Whether OpenSSL has refused a handshake with an alert, and not been refused or left."""
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
        return False
    reason = error.reason or ""
    return bool(reason) and "ALERT" not in reason and reason != "UNEXPECTED_EOF_WHILE_READING"


def _shake(inner: Any) -> int:
    try:
        inner.do_handshake()
    except ssl.SSLWantReadError:
        return WANTS_BYTES
    except ssl.SSLWantWriteError:
        return WANTS_ROOM
    return DONE


def shaker(lane: Lane | None) -> Callable[[Any], int]:
    """Return `shake`, which goes on with a handshake as far as that can be now, and returns `DONE`,
    or what it waits for. It raises what the `ssl` module raises.

    A lane does the same without an exception for each wait. Of a failure it says only that there is
    one, and the module, which is asked then, is told of it by OpenSSL once more. Not so of what no
    alert can answer, such as bytes that are no TLS at all: since version 3.2 OpenSSL then goes on
    as if nothing had failed. So its queue of errors is read before the module is asked.
    """
    if lane is None:
        return _shake
    shake_in_c = lane.shake

    def shake(inner: Any) -> int:
        how = shake_in_c(inner)
        if how is not None:
            return how
        failure = _last_error()
        how = _shake(inner)
        if failure is not None:
            raise failure
        return how

    return shake


def _last_error() -> ssl.SSLError | None:
    """Return what OpenSSL has told this thread last, as the `ssl` module would raise it; None where
    that is nothing, or an error of the system, which has no words here."""
    said = _openssl and _openssl.reason(_openssl.last_error())
    if not said:
        return None
    words = said.decode()
    reason = words.upper().replace(" ", "_")
    error = ssl.SSLError(ssl.SSL_ERROR_SSL, f"[SSL: {reason}] {words}")
    error.library, error.reason = "SSL", reason
    return error


def disable_auto_retry(inner: Any) -> None:
    """Let each read handle one record of the connection; ``inner`` is what `inner` gives."""
    if _openssl is not None:
        _openssl.ctrl(_pointer(inner, _AT_SSL), _CTRL_CLEAR_MODE, _MODE_AUTO_RETRY, None)


def forget_error() -> None:
    """Empty this thread's queue of errors after an operation that failed by the system's error.

    OpenSSL 3.5 leaves that error there, and so does the `ssl` module of Python 3.13; then each read
    that finds nothing, of whatever connection, is taken to have failed by it: one client that
    resets its connection would end those of others."""
    if _openssl is not None:
        _openssl.clear_error()


def send_close_notify(sock: ssl.SSLSocket | TlsSocket) -> None:
    """Say that nothing more will be sent (RFC 8446 §6.1), and wait for nothing. One attempt: what
    finds no room is not said.

    `ssl.SSLSocket.unwrap` asks OpenSSL twice, and the second time for the peer's notice as well:
    where data has come instead, a record of that data is lost, and reading goes on behind it.
    """
    tls = inner(sock)
    if tls is None:
        return
    if _openssl is not None:
        _openssl.shutdown(_pointer(tls, _AT_SSL))
        forget_error()
        return
    with contextlib.suppress(OSError, ssl.SSLError, ValueError):
        sock.unwrap()


_lane = lane if lane is not None and bind(lane) else None
shake = shaker(_lane)
if _lane is not None:
    # The same without ctypes.
    _close_notify = _lane.close_notify

    def _send_close_notify_quickly(sock: ssl.SSLSocket | TlsSocket) -> None:
        tls = inner(sock)
        if tls is not None:
            _close_notify(tls)

    send_close_notify = _send_close_notify_quickly
    disable_auto_retry = _lane.disable_auto_retry  # type: ignore[assignment] # by position only
