"""Coverage-guided: three readers of HTTP/2 tell the same of any sequence of frames: `make fuzz`."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["proxy.protocol.h2"]):
    from fuzz.h2_scripts import compare, script


def tell(data: bytes) -> None:
    if data:
        compare(script(data[1:]), data[0] % 12)


if __name__ == "__main__":
    atheris.Setup(sys.argv, tell)
    atheris.Fuzz()
