"""Probes which certificate this worker serves, by a real TLS handshake with itself.

The handshake goes over a socket pair. The accepting end is served like any connection; the other
end is a client that trusts every certificate. So the answer is what a client of this very worker
gets, name table, callback and OpenSSL included, and no port is connected to, which the sandbox
would not allow.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

from acme_client.x509.pem import elements

from ..transport.clock import Clock
from ..transport.stream import StreamBroken
from ..transport.tls_stream import TlsStream
from .acceptor import Acceptor

_WITHIN = 5.0
_VERSION = 0xA0  # the tag of [0] EXPLICIT, which a certificate of version 1 has not


def _looking() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _anybody() -> ssl.SSLContext:
    context = _looking()
    # Here the certificate is shown before ours would be asked for, where a site does that.
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _who_knows_rsa_alone() -> ssl.SSLContext:
    """A client in TLS 1.2, whose suites name the kind of key: `ssl` cannot restrict the signature
    algorithms of TLS 1.3."""
    context = _looking()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+aRSA")
    return context


class SelfProbe:
    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Clock, connections: Acceptor
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._connections = connections
        self._contexts = {"": _anybody(), "rsa": _who_knows_rsa_alone()}

    async def served_serial(self, host: str, family: str) -> str | None:
        """Serial number, in hex, of the certificate that ``host`` serves to a client that supports
        only ``family`` keys; "" means any. None where the handshake fails."""
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setblocking(False)
        self._connections.probe(theirs)
        context = self._contexts[family]
        tls = context.wrap_socket(ours, server_hostname=host, do_handshake_on_connect=False)
        stream = TlsStream(tls, self._loop, self._connections.deadlines)
        stream.deadline = self._clock.now + _WITHIN
        try:
            await stream.handshake()
            leaf = tls.getpeercert(binary_form=True)
        except StreamBroken:
            return None
        finally:
            stream.close()
        return None if leaf is None else f"{serial_of(leaf):x}"


def serial_of(certificate: bytes) -> int:
    """Return the serial number of a certificate in DER (RFC 5280 §4.1). OpenSSL has read the same
    bytes. cryptography would read them as well, and running its library takes two megabytes of
    every worker."""
    _, inside = next(elements(certificate))
    _, to_be_signed = next(elements(inside))
    fields = elements(to_be_signed)
    tag, content = next(fields)
    if tag == _VERSION:
        tag, content = next(fields)
    return int.from_bytes(content, "big", signed=True)
