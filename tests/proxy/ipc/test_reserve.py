"""At the limit of open descriptors: a message is not lost with its descriptors."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from proxy.ipc.channel import Channel, content, sealed
from proxy.ipc.reserve import SIZE, Reserve
from support.program.descriptors import no_descriptor_left


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    a, b = Channel.pair()
    yield a, b
    a.close()
    b.close()


@pytest.mark.parametrize("padding", [10, 100_000], ids=["a packet", "a memfd"])
def test_a_message_whose_descriptors_are_lost_is_told_with_its_ticket(
    ends: tuple[Channel, Channel], padding: int
) -> None:
    a, b = ends
    bundle = sealed("t", b"secret")
    a.send({"type": "put", "ticket": 7, "padding": "x" * padding}, (bundle,))
    a.send({"type": "next"})
    with no_descriptor_left():
        received = b.receive()
    assert received == [({"type": "truncated", "ticket": 7}, []), ({"type": "next"}, [])]
    os.close(bundle)


def test_a_reserve_has_room_for_what_comes_and_for_work_with_it(
    ends: tuple[Channel, Channel],
) -> None:
    a, b = ends
    bundle = sealed("t", b"secret")
    for number in range(20):
        a.send({"type": "put", "number": number, "padding": "x" * 50_000}, (bundle,))
    reserve = Reserve()
    numbers = []
    with no_descriptor_left():
        while len(numbers) < 20:
            with pytest.raises(OSError, match="Too many open files"):
                os.dup(0)
            with reserve.lent():
                for message, fds in b.receive():
                    with open(f"/proc/self/fd/{fds[0]}", "rb") as again:
                        assert again.read() == b"secret"
                    numbers.append(message["number"])
                    for fd in fds:
                        os.close(fd)
    assert numbers == list(range(20))
    reserve.close()
    os.close(bundle)


def test_a_reserve_is_had_again_after_use() -> None:
    before = len(os.listdir("/proc/self/fd"))
    reserve = Reserve()
    assert len(os.listdir("/proc/self/fd")) == before + SIZE
    with reserve.lent():
        assert len(os.listdir("/proc/self/fd")) == before
    assert len(os.listdir("/proc/self/fd")) == before + SIZE
    reserve.close_in_child()
    assert len(os.listdir("/proc/self/fd")) == before


def test_of_many_descriptors_a_few_are_handed_out_at_once(ends: tuple[Channel, Channel]) -> None:
    a, b = ends
    bundle = sealed("t", b"x")
    for _ in range(30):
        a.send({"type": "put"}, (bundle,))
    assert content(bundle) == b"x"
    rounds = []
    while sum(rounds) < 30:
        received = b.receive()
        rounds.append(len(received))
        for _message, fds in received:
            for fd in fds:
                os.close(fd)
    assert max(rounds) <= SIZE // 2
    os.close(bundle)
