"""Coverage-guided comparison of the answers' lane with the strict layer and h11: `make fuzz`."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["proxy.protocol", "h11"]):
    from proxy.errors import Fault
    from proxy.protocol.h1.response_parser import FastResponseParser, parse

PREFIXES = (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n")
METHODS = (b"GET", b"HEAD")
lane = FastResponseParser()


def compare(data: bytes) -> None:
    if len(data) < 2:
        return
    text = PREFIXES[data[0] % len(PREFIXES)] + data[2:] + b"\r\n\r\n"
    head = text[: text.index(b"\r\n\r\n") + 4]
    method = METHODS[data[1] % 2]
    for parser in (lane, FastResponseParser()):
        quick = parser.parse(head, method)
        if quick is None:
            continue
        try:
            slow = parse(head, method)
        except Fault as fault:
            raise AssertionError(f"the lane took {head!r}, refused as {fault}") from None
        if (quick.status, quick.fields, quick.length, quick.close) != (
            slow.status, slow.fields, slow.length, slow.close,
        ):  # fmt: skip
            raise AssertionError(f"{head!r}: {quick} is not {slow}")


if __name__ == "__main__":
    atheris.Setup(sys.argv, compare)
    atheris.Fuzz()
