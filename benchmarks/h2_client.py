"""`python -m benchmarks.h2_client PORT CA PATH SECONDS CONNECTIONS STREAMS NEW_COOKIE_EVERY`: a browser's
habits over HTTP/2, which h2load has not: each request goes by itself, its path and its referer vary, and
the cookie is another one now and then.

Requests are encoded before the load begins, each connection with an encoder of its own (python-hyper's
hpack), because a table goes with a connection; the server pays for what the table says, and the load
is cheap enough to keep it busy. It prints what it did as JSON: requests, errors, bytes.
"""

from __future__ import annotations

import json
import random
import selectors
import ssl
import struct
import sys
import time

from hpack import Encoder
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from . import load

_HELLO = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + struct.pack(">HBBBLHL", 0, 6, 4, 0, 0, 4, 1 << 24)
    + struct.pack(">HBBBLL", 0, 4, 8, 0, 0, 1 << 30)
)
_HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
_PREPARED = 1500  # requests of a connection; then it is another one
_FIXED = (
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-GB,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("upgrade-insecure-requests", "1"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "same-origin"),
    ("priority", "u=0, i"),
)


def _prepare(path: str, new_cookie_every: int, seed: int) -> list[bytes]:
    """The requests of one connection, as HEADERS frames for streams 1, 3, 5 and so on."""
    encoder, source = Encoder(), random.Random(seed)
    frames = []
    cookie = ""
    for number in range(_PREPARED):
        if number % new_cookie_every == 0:
            cookie = f"session={source.randrange(10**18)}; theme=dark; visits={number}"
        referer = f"https://localhost/page/{number // 10 % 5}"  # ten requests make a page
        path_text = _HUFFMAN.encode(f"{path}?q={source.randrange(500)}".encode())
        block = (
            encoder.encode([(":method", "GET"), (":scheme", "https"), (":authority", "localhost")])
            # Browsers do not put paths into the table (RFC 7541 §6.2.2).
            + bytes([0x04, 0x80 | len(path_text)])
            + path_text
            + encoder.encode([*_FIXED, ("referer", referer), ("cookie", cookie)])
        )
        head = struct.pack(">HBBBL", len(block) >> 8, len(block) & 255, 1, 5, 2 * number + 1)
        frames.append(head + block)
    return frames


class _Connection:
    def __init__(self, port: int, using: ssl.SSLContext, frames: list[bytes]) -> None:
        self.sock = load.connect(using, port)
        self.sock.sendall(_HELLO)
        self.sock.setblocking(False)
        self.frames = frames
        self.sent = self.ended = self.errors = self.read = 0
        self._held = b""

    def ask(self) -> None:
        self.sock.send(self.frames[self.sent])
        self.sent += 1

    def hear(self) -> int:
        """How many answers have ended."""
        ended = 0
        while True:
            try:
                data = self.sock.recv(65536)
            except ssl.SSLWantReadError:
                break
            if not data:
                raise ConnectionError("the server has ended the connection")
            self.read += len(data)
            data = self._held + data
            at, size = 0, len(data)
            while size - at >= 9:
                high, low, kind, flags, _ = struct.unpack_from(">HBBBL", data, at)
                stop = at + 9 + (high << 8 | low)
                if stop > size:
                    break
                if kind <= 1 and flags & 1:
                    ended += 1
                elif kind in (3, 7):
                    self.errors += 1
                at = stop
            self._held = data[at:]
        self.ended += ended
        return ended


def main() -> int:
    port, ca, path, seconds = int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
    connections, streams, every = map(int, sys.argv[5:8])
    using = ssl.create_default_context(cafile=ca)
    using.set_alpn_protocols(["h2"])
    prepared = [_prepare(path, every, seed) for seed in range(connections)]
    print("ready", flush=True)
    sys.stdin.readline()
    requests = errors = read = 0
    selector = selectors.DefaultSelector()

    def connect(number: int) -> None:
        made = _Connection(port, using, prepared[number])
        selector.register(made.sock, selectors.EVENT_READ, (number, made))
        for _ in range(streams):
            made.ask()

    for number in range(connections):
        connect(number)
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        for key, _ in selector.select(1):
            number, one = key.data
            for _ in range(one.hear()):
                requests += 1
                if one.sent < _PREPARED:
                    one.ask()
            if one.ended == _PREPARED:
                selector.unregister(one.sock)
                errors, read = errors + one.errors, read + one.read
                one.sock.close()
                connect(number)
    for key in selector.get_map().values():
        errors, read = errors + key.data[1].errors, read + key.data[1].read
    print(json.dumps({"requests": requests, "errors": errors, "bytes": read}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
