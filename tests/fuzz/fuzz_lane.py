"""Coverage-guided comparison of the lane with the strict layer and h11: `make fuzz`.

    python tests/fuzz/fuzz_lane.py [-max_total_time=SECONDS] [CORPUS]

A difference is printed with the head that shows it; put it into `test_lane.FOUND`.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["proxy.protocol", "h11"]):
    from fuzz.heads import LIMITS, cut, quickly, strictly
    from proxy.protocol.lane import Lane
    from proxy.protocol.message import Connection

CONNECTION = Connection("192.0.2.1", 1, "192.0.2.2", 2)
PREFIXES = (b"", b"GET / HTTP/1.1\r\nHost: x.test\r\n", b"POST /a HTTP/1.1\r\nHost: x.test\r\n")
lane = Lane(LIMITS)


def compare(data: bytes) -> None:
    if not data:
        return
    head = cut(PREFIXES[data[0] % len(PREFIXES)] + data[1:] + b"\r\n\r\n")
    if head is None:
        return
    for parser in (lane, Lane(LIMITS)):
        quick = quickly(parser, head, CONNECTION)
        if quick is not None and quick != strictly(head, CONNECTION):
            raise AssertionError(f"{head!r}: {quick} is not {strictly(head, CONNECTION)}")


if __name__ == "__main__":
    atheris.Setup(sys.argv, compare)
    atheris.Fuzz()
