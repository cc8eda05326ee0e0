"""Messages between supervisor and children: whole, in order, with their descriptors."""

import contextlib
import fcntl
import os
import socket

import pytest

from proxy.ipc.channel import Channel, ChannelClosed, content, sealed


@pytest.fixture
def ends():
    a, b = Channel.pair()
    yield a, b
    a.close()
    b.close()


def test_what_is_sent_arrives_in_order(ends):
    a, b = ends
    for number in range(5):
        a.send({"type": "n", "number": number})
    assert [message["number"] for message, _fds in b.receive()] == [0, 1, 2, 3, 4]


def test_a_descriptor_travels_and_stays_the_senders_own(ends):
    a, b = ends
    fd = sealed("t", b"secret")
    a.send({"type": "bundle"}, (fd,))
    [(_message, [received])] = b.receive()
    assert received != fd
    assert content(received) == content(fd) == b"secret"
    assert not os.get_inheritable(received)
    os.close(fd)
    os.close(received)


def test_a_message_larger_than_a_packet_arrives_whole_with_its_descriptors(ends):
    a, b = ends
    fd = sealed("t", b"x")
    a.send({"type": "settings", "text": "é" * 300_000}, (fd,))
    [(message, fds)] = b.receive()
    assert message["text"] == "é" * 300_000
    assert [content(one) for one in fds] == [b"x"]
    for one in (fd, *fds):
        os.close(one)


def test_what_the_kernel_does_not_take_is_queued_and_flushed(ends):
    a, b = ends
    sent = 0
    while not a.waiting:
        a.send({"type": "n", "number": sent, "padding": "x" * 20_000})
        sent += 1
    got = [message["number"] for message, _fds in b.receive()]
    a.flush()
    assert not a.waiting
    got += [message["number"] for message, _fds in b.receive()]
    assert got == list(range(sent))


def test_the_end_is_told_after_the_last_message(ends):
    a, b = ends
    a.send({"type": "last"})
    a.close()
    assert [message["type"] for message, _fds in b.receive()] == ["last"]
    with pytest.raises(ChannelClosed):
        b.receive()


def test_sending_to_the_dead_is_told(ends):
    a, b = ends
    b.close()
    with pytest.raises(ChannelClosed):
        a.send({"type": "n"})


def test_a_sealed_memfd_cannot_be_changed_by_anybody():
    fd = sealed("t", b"chain and key")
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"X", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
    assert content(fd) == b"chain and key"
    os.close(fd)


@pytest.mark.parametrize(
    "said", [b"", b"not json", b"[]", b'"text"', b'{"type": "large"}', b"\xff"]
)
def test_descriptors_that_come_with_nonsense_are_closed(said: bytes) -> None:
    ours, theirs = Channel.pair()
    with open(os.devnull) as file:
        before = len(os.listdir("/proc/self/fd"))
        socket.send_fds(theirs._sock, [b'{"type": "first"}'], [file.fileno()])
        socket.send_fds(theirs._sock, [said], [file.fileno(), file.fileno()])
        with contextlib.suppress(Exception):
            for _message, fds in ours.receive():
                for fd in fds:
                    os.close(fd)
            ours.receive()
        assert len(os.listdir("/proc/self/fd")) == before
    ours.close()
    theirs.close()
