"""Random frames at the real program, as many as one likes: no traceback, no answer of 500, no growth, and
a canary that is answered with its own body again and again.

    FUZZ_FRAMES=1000000 pytest -m program tests/fuzz/test_frames.py      (part of `make fuzz`)

Connections go on for as long as the server lets them, so that frames meet states which few frames do
not lead to; some have bytes changed, so that lengths and types lie as well.
"""

from __future__ import annotations

import os
import random
import socket
import ssl
import time

import pytest

from conformance.proxied import MODES, Proxied, proxied_by
from fuzz.h2_scripts import script
from fuzz.test_real_program import figures
from support.h2_peer import HELLO
from support.http.h2_talk import h2_context

pytestmark = pytest.mark.program

FRAMES = int(os.environ.get("FUZZ_FRAMES", "15000"))
SEED = int(os.environ.get("FUZZ_SEED", time.time_ns() if "FUZZ_FRAMES" in os.environ else 7))
# Until some forty thousand frames caches fill and the allocator finds its arenas, 16 MiB in all;
# whatever grows behind them is a leak. A short run sees large ones only.
WARM = max(3000, FRAMES // 10)
GROWTH = 3 << 20 if WARM >= 40_000 else 20 << 20
CANARY_EVERY = 100  # connections


def conversation(source: random.Random) -> list[bytes]:
    """One to six scripts behind each other; of some a byte here and there is another."""
    frames: list[bytes] = []
    for _ in range(source.randrange(1, 7)):
        frames += script(source.randbytes(source.randrange(1, 160)), b"a.test")
    if source.randrange(4) == 0:
        at = source.randrange(len(frames))
        spoilt = bytearray(frames[at])
        spoilt[source.randrange(len(spoilt))] ^= 1 << source.randrange(8)
        frames[at] = bytes(spoilt)
    return frames


def converse(made: Proxied, using: ssl.SSLContext, source: random.Random) -> int:
    """How many frames were sent, all in one write or in pieces of any size."""
    frames = conversation(source)
    data = HELLO + b"".join(frames)
    with (
        socket.create_connection(("127.0.0.1", made.port), timeout=30) as raw,
        using.wrap_socket(raw, server_hostname="a.test") as sock,
    ):
        try:
            step = source.choice([len(data), 1000, 17])
            for at in range(0, len(data), step):
                sock.sendall(data[at : at + step])
            socket.socket.shutdown(sock, socket.SHUT_WR)  # below TLS: nobody waits for more
            while sock.recv(65536):
                pass
        except OSError:
            pass  # it was ended in the middle, as it should be for much of this
    return len(frames)


@pytest.mark.timeout(60 + FRAMES // 200)
@pytest.mark.parametrize("mode", MODES)
def test_random_frames(mode: str) -> None:
    source = random.Random(SEED)
    print(f"\nFUZZ_SEED={SEED}")
    with proxied_by(MODES[mode]) as made:
        using = h2_context(made.ca)
        say(made, using, source, WARM)
        before = figures(made)
        begun = time.monotonic()
        connections = say(made, using, source, FRAMES)
        seconds = time.monotonic() - begun
        print(f"{mode}: {FRAMES} frames on {connections} connections in {seconds:.0f} s")
        made.assert_sound()
        assert "Warning" not in made.server.text()
        assert made.backend.ill_formed == []
        after = figures(made)
        assert after.keys() == before.keys(), "a process has been replaced"
        for pid, (descriptors, memory) in before.items():
            print(f"process {pid}: {memory >> 10} KiB became {after[pid][1] >> 10} KiB")
            assert after[pid][0] <= descriptors + 16
            assert after[pid][1] <= memory + GROWTH


def say(made: Proxied, using: ssl.SSLContext, source: random.Random, frames: int) -> int:
    """So many frames, with canaries in between; on how many connections."""
    sent = connections = 0
    while sent < frames:
        sent += converse(made, using, source)
        connections += 1
        if connections % CANARY_EVERY == 0 or sent >= frames:
            with made.secure() as talk:
                made.canary(talk)
    return connections
