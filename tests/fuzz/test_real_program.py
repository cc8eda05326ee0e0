"""Random bytes in both directions through the real program: it never talks nonsense itself, answers
a canary behind each of them with the canary's own body, and is in the end what it was.

`FUZZ_EXAMPLES` makes it as long as one likes (`make fuzz`).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conformance.proxied import MODES, Proxied, proxied_by
from fuzz.h2_scripts import script as script_of_frames
from fuzz.heads import mutated, structured
from fuzz.test_answer_lane import _HEADS
from support.http.h2_talk import H2Talk, h2_context
from support.http.strict_backend import Says

pytestmark = pytest.mark.program

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
LONG = settings(
    max_examples=EXAMPLES, deadline=None, derandomize="FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
# What memory may have grown by in the end: caches that fill, arenas of the allocator.
GROWTH = 8 << 20

_answer: list[Says] = []


def script(_method: bytes, target: bytes) -> Says | None:
    return _answer[-1] if target.endswith(b"@fuzz") and _answer else None


@pytest.fixture(scope="module", params=MODES)
def proxied(request: pytest.FixtureRequest) -> Iterator[Proxied]:
    with proxied_by(MODES[request.param], script) as made:
        for _ in range(20):
            with made.secure() as talk:
                made.canary(talk)
        before = figures(made)
        yield made
        made.assert_sound()
        assert made.backend.ill_formed == []
        after = figures(made)
        assert after.keys() == before.keys(), "a process has been replaced"
        for pid, (descriptors, memory) in before.items():
            assert after[pid][0] <= descriptors + 16  # kept connections to the backend
            assert after[pid][1] <= memory + GROWTH


def figures(made: Proxied) -> dict[int, tuple[int, int]]:
    """Descriptors and bytes of memory of each process."""
    return {
        pid: (
            len(os.listdir(f"/proc/{pid}/fd")),
            int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        )
        for pid in made.server.tree()
    }


_BODIES = st.one_of(
    st.sampled_from(
        [b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"0\r\n\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"\r\n",
         b"3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n", b"+3\r\nabc\r\n0\r\n\r\n", b"3\nabc\n0\n\n"]
    ),
    st.binary(max_size=40),
)  # fmt: skip


@LONG
@given(st.lists(st.tuples(st.one_of(structured, mutated()), _BODIES), min_size=1, max_size=3))
def test_whatever_a_client_says(proxied: Proxied, said: list[tuple[bytes, bytes]]) -> None:
    data = b"".join(head + body for head, body in said)
    data = data.replace(b"x.test", b"a.test").replace(b"X.Test", b"A.Test")
    with proxied.secure() as talk, contextlib.suppress(OSError):
        talk.says(data)
        socket.socket.shutdown(talk.sock, socket.SHUT_WR)  # below TLS: nobody waits for more
        while talk.sock.recv(65536):
            pass
    with proxied.secure() as another:
        proxied.canary(another)


@LONG
@given(st.binary(min_size=1, max_size=200))
def test_whatever_frames_a_client_says(proxied: Proxied, source: bytes) -> None:
    talk = H2Talk(proxied.port, "a.test", h2_context(proxied.ca))
    with talk, contextlib.suppress(OSError):
        talk.says(*script_of_frames(source, b"a.test"))
        socket.socket.shutdown(talk.sock, socket.SHUT_WR)  # below TLS: nobody waits for more
        while talk.sock.recv(65536):
            pass
    with proxied.secure() as another:
        proxied.canary(another)


_CHUNKS = st.lists(
    st.sampled_from(
        [b"3\r\nabc\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"-1\r\n", b"3\nabc\n", b"5\r\nabc\r\n",
         b"3;a\r\nabc\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"\r\n", b"abc"]
    ),
    max_size=4,
).map(b"".join)  # fmt: skip


@LONG
@given(
    st.lists(st.tuples(_HEADS, _CHUNKS), min_size=1, max_size=2),
    st.sampled_from(["close", "reset"]),
    st.sampled_from(["GET", "HEAD", "POST"]),
)
def test_whatever_a_backend_says(
    proxied: Proxied, said: list[tuple[bytes, bytes]], then: str, method: str
) -> None:
    pieces = tuple(head + body for head, body in said)
    # It does not stay: what it has not said would be waited for a minute.
    _answer.append(Says(pieces, then))
    with proxied.secure() as talk, contextlib.suppress(OSError, ValueError):
        talk.asks(f"/@{proxied.tag()}@fuzz", "a.test", method, body=b"x" * (method == "POST"))
    for _ in range(2):
        with proxied.secure() as another:
            proxied.canary(another)
