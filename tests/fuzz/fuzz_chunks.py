"""Coverage-guided: what the chunk decoder accepts h11 accepts, with the same data, however it is cut:
`make fuzz`."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["proxy.protocol", "h11"]):
    import h11

    from proxy.errors import Fault
    from proxy.protocol.h1.chunked import ChunkedDecoder

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def decoded(data: bytes, step: int) -> tuple[bytes, bytes] | None:
    decoder = ChunkedDecoder(0.0)
    body = b""
    try:
        for at in range(0, len(data), step):
            body += decoder.feed(data[at : at + step], 0.0)
            if decoder.ended:
                return body, decoder.rest + data[at + step :]
    except Fault:
        return None
    return None


def compare(data: bytes) -> None:
    if not data:
        return
    whole = decoded(data[1:], 1 << 16)
    pieces = decoded(data[1:], 1 + data[0] % 7)
    if whole != pieces:
        raise AssertionError(f"{data[1:]!r}: {whole} in one, {pieces} in pieces")
    if whole is None:
        return
    body, rest = whole
    judge = h11.Connection(h11.SERVER)
    judge.receive_data(HEAD + data[1:])
    judge.next_event()
    seen = b""
    while isinstance(event := judge.next_event(), h11.Data):
        seen += bytes(event.data)
    if not isinstance(event, h11.EndOfMessage) or seen != body or judge.trailing_data[0] != rest:
        raise AssertionError(f"{data[1:]!r}: h11 has {event}, {seen!r}; we {body!r}, {rest!r}")


if __name__ == "__main__":
    atheris.Setup(sys.argv, compare)
    atheris.Fuzz()
