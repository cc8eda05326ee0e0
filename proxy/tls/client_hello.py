"""What a ClientHello asks for, before OpenSSL sees it (RFC 8446 §4.1.2): name and protocols.

Pure. Only looked at where the `ssl` module's callback for SNI is not enough: while a TLS-ALPN-01
challenge is pending (it tells the name and not the protocols), where a site asks for client
certificates, and where names come on demand (it cannot wait). It reads two extensions and checks no
more than it needs to find them: whatever is wrong with a ClientHello is OpenSSL's to say.
"""

from __future__ import annotations

import struct

from acme_client.late_dataclass import dataclass

_HANDSHAKE = 22  # ContentType
_CLIENT_HELLO = 1  # HandshakeType
_SERVER_NAME, _ALPN = 0, 16  # ExtensionType
LARGEST = 16 * 1024  # one record; browsers with post-quantum keys send two thousand bytes


class Incomplete(Exception):
    """There is more to come."""


@dataclass(frozen=True, slots=True)
class Hello:
    server_name: bytes | None
    protocols: tuple[bytes, ...]


def parse(data: bytes) -> Hello | None:
    """The ClientHello that a connection begins with; None for what is none.

    Raises `Incomplete` while ``data`` may still become one.
    """
    try:
        return _parse(_message(data))
    except (struct.error, IndexError, ValueError):
        return None


def _message(data: bytes) -> bytes:
    """The handshake message, put together from its records."""
    message = b""
    while True:
        if len(data) < 5:
            raise Incomplete
        kind, _version, length = struct.unpack_from("!BHH", data)
        if kind != _HANDSHAKE or not 0 < length <= LARGEST:
            raise ValueError
        if len(data) < 5 + length:
            raise Incomplete
        message += data[5 : 5 + length]
        data = data[5 + length :]
        if len(message) >= 4:
            size = int.from_bytes(message[1:4], "big")
            if message[0] != _CLIENT_HELLO or size > LARGEST:
                raise ValueError
            if len(message) >= 4 + size:
                return message[4 : 4 + size]


def _parse(body: bytes) -> Hello:
    at = 2 + 32  # legacy_version, random
    at += 1 + body[at]  # legacy_session_id
    at += 2 + struct.unpack_from("!H", body, at)[0]  # cipher_suites
    at += 1 + body[at]  # legacy_compression_methods
    name: bytes | None = None
    protocols: tuple[bytes, ...] = ()
    if at < len(body):
        end = at + 2 + struct.unpack_from("!H", body, at)[0]
        at += 2
        while at + 4 <= end:
            kind, length = struct.unpack_from("!HH", body, at)
            content = body[at + 4 : at + 4 + length]
            if kind == _SERVER_NAME and content:
                # server_name_list: length, then name_type 0 and the name (RFC 6066 §3)
                size = struct.unpack_from("!H", content, 3)[0]
                name = content[5 : 5 + size].lower()
            elif kind == _ALPN:
                protocols = tuple(_protocols(content[2:]))
            at += 4 + length
    return Hello(name, protocols)


def _protocols(content: bytes) -> list[bytes]:
    found = []
    while content:
        found.append(content[1 : 1 + content[0]])
        content = content[1 + content[0] :]
    return found
