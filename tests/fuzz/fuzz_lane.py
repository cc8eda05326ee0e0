"""Coverage-guided comparison of the lane with the strict layer and h11: `make fuzz`.

    python tests/fuzz/fuzz_lane.py [-max_total_time=SECONDS] [CORPUS]

A difference is printed with the head that shows it; put it into `test_lane.FOUND`.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["proxy.protocol", "h11"]):
    from fuzz.heads import LIMITS, cut, quickly, strictly
    from proxy.protocol.message import Connection
    from support.accelerated import parsers

PREFIXES = (b"", b"GET / HTTP/1.1\r\nHost: x.test\r\n", b"POST /a HTTP/1.1\r\nHost: x.test\r\n")
BETWEEN = b"\xff\xff"  # heads of one connection, which gets its templates by them
lanes = parsers(LIMITS)


def compare(data: bytes) -> None:
    if not data:
        return
    prefix = PREFIXES[data[0] % len(PREFIXES)]
    said = [cut(prefix + text + b"\r\n\r\n") for text in data[1:].split(BETWEEN)]
    anybody = Connection("192.0.2.1", 1, "192.0.2.2", 2)
    heads = [(head, strictly(head, anybody)) for head in said if head is not None]
    for parser in (*lanes, *parsers(LIMITS)):
        client = Connection("192.0.2.1", 1, "192.0.2.2", 2)
        for head, strict in heads * 3:
            quick = quickly(parser, head, client)
            if quick is not None and quick != strict:
                raise AssertionError(f"{head!r} of {heads!r}: {quick}")


if __name__ == "__main__":
    atheris.Setup(sys.argv, compare)
    atheris.Fuzz()
