"""Coverage-guided fuzzing of PROXY headers: `make fuzz`.

Whatever comes, the answer is a header, "incomplete" or "bad". A header ends where it says, whatever
stands behind it, and no shorter piece of it is one.
"""

from __future__ import annotations

import ipaddress
import sys

import atheris

with atheris.instrument_imports(include=["proxy.worker.proxy_protocol"]):
    from proxy.worker import proxy_protocol

BEGINNINGS = (
    b"",
    b"PROXY ",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n",
    b"PROXY TCP6 2001:db8::1 2001:db8::2 65535 443\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\0\1\1\xbb",
)


def outcome(data: bytes) -> object:
    try:
        return proxy_protocol.parse(data)
    except proxy_protocol.Incomplete:
        return "incomplete"
    except proxy_protocol.BadHeader:
        return "bad"


def look(data: bytes) -> None:
    if len(data) < 2:
        return
    beginning = BEGINNINGS[data[0] % len(BEGINNINGS)]
    said = beginning[: data[1] % (len(beginning) + 1)] + data[2:]
    found = outcome(said)
    if isinstance(found, proxy_protocol.Header):
        assert 0 < found.size <= len(said)
        assert outcome(said[: found.size] + b"GET / HTTP/1.1\r\n\r\n") == found
        for size in range(found.size):
            assert outcome(said[:size]) == "incomplete"
        if found.peer is not None:
            ipaddress.ip_address(found.peer)
            assert 0 <= found.peer_port <= 65535


if __name__ == "__main__":
    atheris.Setup(sys.argv, look)
    atheris.Fuzz()
