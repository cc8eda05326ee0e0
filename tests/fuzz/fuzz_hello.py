"""Coverage-guided fuzzing of what is read of a ClientHello before OpenSSL sees it: `make fuzz`.

Whatever comes, the answer is a `Hello`, None or `Incomplete`; and what a shorter piece of a good one
says is "incomplete" or the same.
"""

from __future__ import annotations

import contextlib
import ssl
import sys

import atheris

with atheris.instrument_imports(include=["proxy.tls.client_hello"]):
    from proxy.tls import client_hello


def real() -> bytes:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="x.test")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


REAL = real()


def outcome(data: bytes) -> object:
    try:
        return client_hello.parse(data)
    except client_hello.Incomplete:
        return "incomplete"


def look(data: bytes) -> None:
    if len(data) < 3:
        return
    if data[0] % 2:
        at = int.from_bytes(data[1:3], "big") % len(REAL)
        hello = REAL[:at] + data[3:] + REAL[at + len(data) - 3 :]
    else:
        hello = data[1:]
    found = outcome(hello)
    if isinstance(found, client_hello.Hello):
        for size in range(0, len(hello), 7):
            assert outcome(hello[:size]) in ("incomplete", found), hello


if __name__ == "__main__":
    assert isinstance(outcome(REAL), client_hello.Hello)
    atheris.Setup(sys.argv, look)
    atheris.Fuzz()
