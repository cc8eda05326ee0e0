"""The PROXY header, versions 1 and 2, of HAProxy's proxy-protocol.txt: who the client really is.

Pure. A load balancer that passes TLS through names the client before anything else on the
connection. The header is believed only from where the configuration says, and demanded from there:
whoever may leave it out may also send one of their own, and be somebody else.

Families may be mixed, as HAProxy writes them where a client of one family came to a socket of the
other, and an IPv4-mapped address is the IPv4 address (RFC 4291 §2.5.5.2).

Addresses are all that is read. Type-length-values are skipped, and the checksum among them too: TCP
has one.
"""

from __future__ import annotations

import ipaddress
import struct

from acme_client.late_dataclass import dataclass

from ..protocol.client_address import unmapped

# Version 1: 107 bytes with the worst address (§2.1). Version 2: sixteen, and what its length says;
# Amazon's and Google's come to some hundred.
_V1 = b"PROXY "
_V1_MOST = 107
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
MOST = 4096

_LOCAL, _PROXY = 0, 1
_TCP4, _TCP6 = 0x11, 0x21


class Incomplete(Exception):
    """The header may go on; more bytes are needed."""


class BadHeader(Exception):
    """The bytes are no PROXY header, or a malformed one; the text says how."""


@dataclass(frozen=True, slots=True)
class Header:
    """``size`` bytes long. ``peer`` is None where the proxy speaks for itself (a health check) or
    cannot tell; then the connection's own address holds."""

    size: int
    peer: str | None = None
    peer_port: int = 0


def parse(data: bytes) -> Header:
    """The header that ``data`` begins with. Raises `Incomplete` and `BadHeader`."""
    if data[:12] == _V2:
        return _second(data)
    if data[:6] == _V1:
        return _first(data)
    if _V2.startswith(data[:12]) or _V1.startswith(data[:6]):
        raise Incomplete
    raise BadHeader("the connection does not begin with a PROXY header")


def _first(data: bytes) -> Header:
    line, end, _rest = data[:_V1_MOST].partition(b"\r\n")
    if not end:
        if len(data) >= _V1_MOST:
            raise BadHeader("the header's line does not end")
        raise Incomplete
    size = len(line) + 2
    words = line.split(b" ")
    if words[1:2] == [b"UNKNOWN"]:
        return Header(size)
    try:
        family, source, destination, *ports = (word.decode("ascii") for word in words[1:])
        version = {"TCP4": 4, "TCP6": 6}[family]
        peer = unmapped(ipaddress.ip_address(source))
        other = unmapped(ipaddress.ip_address(destination))
        # An address of IPv4 has a form in IPv6 as well, but not the other way round.
        if version == 4 and {peer.version, other.version} != {4}:
            raise ValueError
        peer_port, _own_port = (_port(port) for port in ports)
    except (ValueError, KeyError):
        raise BadHeader("the header's line is not well-formed") from None
    return Header(size, str(peer), peer_port)


def _port(word: str) -> int:
    if not (word.isascii() and word.isdigit() and str(int(word[:6])) == word and int(word) < 65536):
        raise ValueError
    return int(word)


def _second(data: bytes) -> Header:
    if len(data) < 16:
        raise Incomplete
    command, family, length = struct.unpack_from("!BBH", data, 12)
    size = 16 + length
    if command >> 4 != 2 or command & 0xF not in (_LOCAL, _PROXY):
        raise BadHeader(f"version and command {command:#04x} are not known")
    if size > MOST:
        raise BadHeader(f"the header is {size} bytes long")
    if len(data) < size:
        raise Incomplete
    if command & 0xF == _LOCAL:
        return Header(size)
    width = {_TCP4: 4, _TCP6: 16}.get(family)
    if width is None:
        return Header(size)  # unspecified, a datagram or a unix socket: no address of use
    if length < 2 * width + 4:
        raise BadHeader("the header is too short for its addresses")
    peer = unmapped(ipaddress.ip_address(data[16 : 16 + width]))
    (peer_port,) = struct.unpack_from("!H", data, 16 + 2 * width)
    return Header(size, str(peer), peer_port)
