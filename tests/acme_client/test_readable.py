from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator

import pytest

from acme_client.readable import readable

BEYOND_SELECT = 1024


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Its reading end has a number that `select.select` does not take."""
    low, writing = os.pipe()
    reading = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, BEYOND_SELECT)
    os.close(low)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_any_number_is_waited_for(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    assert reading >= BEYOND_SELECT
    assert readable([reading], 0) == []
    os.write(writing, b"x")
    assert readable([reading], 60) == [reading]


def test_those_that_are_ready_are_returned_as_they_were_given(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"x")
        assert readable([reading, ours], 60) == [ours]
        os.write(writing, b"x")
        assert readable([reading, ours], 60) == [reading, ours]


def test_an_end_is_no_wait() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        assert readable([ours], 60) == [ours]
        assert ours.recv(1) == b""


def test_a_time_that_is_over_is_none(pipe: tuple[int, int]) -> None:
    assert readable([pipe[0]], -1.0) == []
    assert readable([pipe[0]], 0.0001) == []
