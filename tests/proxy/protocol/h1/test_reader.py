"""What a client sends is read once and in its order, whoever gives up waiting for it."""

import asyncio
from types import SimpleNamespace

import pytest

from proxy.errors import Fault
from proxy.protocol.h1.reader import RequestReader
from proxy.transport.stream import StreamTimeout


class Waits:
    """A stream whose reads end when the test says so."""

    def __init__(self) -> None:
        self.deadline = 0.0
        self.reads: list[asyncio.Future[bytes]] = []

    def read(self, limit: int = 65536) -> asyncio.Future[bytes]:
        self.reads.append(asyncio.get_running_loop().create_future())
        return self.reads[-1]


def reader() -> tuple[RequestReader, Waits]:
    stream = Waits()
    service = SimpleNamespace(limits=None, clock=SimpleNamespace(now=0.0))
    return RequestReader(stream, service, SimpleNamespace(idle=False), service.limits), stream  # type: ignore[arg-type] # as much as is used


async def test_bytes_that_the_cancelled_did_not_take_are_the_next_ones() -> None:
    """An answer that comes early ends the upload in the very turn in which a piece has come."""
    made, stream = reader()
    upload = asyncio.ensure_future(made.more(10))
    await asyncio.sleep(0)
    stream.reads[0].set_result(b"0123456789")
    upload.cancel()
    assert await made.more(10) == b"0123456789"  # before the cancelled one has had its turn
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert len(stream.reads) == 1


async def test_who_gives_up_before_anything_came_leaves_nothing_behind() -> None:
    made, stream = reader()
    upload = asyncio.ensure_future(made.more(10))
    await asyncio.sleep(0)
    upload.cancel()
    following = asyncio.ensure_future(made.more(10))
    await asyncio.sleep(0)
    stream.reads[1].set_result(b"abc")
    assert await following == b"abc"


async def test_each_piece_is_read_for_itself() -> None:
    made, stream = reader()
    for piece in (b"one", b"two"):
        reading = asyncio.ensure_future(made.more(10))
        await asyncio.sleep(0)
        stream.reads[-1].set_result(piece)
        assert await reading == piece
    assert len(stream.reads) == 2


@pytest.mark.parametrize(
    ("outcome", "kind"), [(StreamTimeout("late"), "body_timeout"), (b"", "client_gone")]
)
async def test_a_client_who_does_not_go_on(outcome: Exception | bytes, kind: str) -> None:
    made, stream = reader()
    reading = asyncio.ensure_future(made.more(10))
    await asyncio.sleep(0)
    if isinstance(outcome, bytes):
        stream.reads[0].set_result(outcome)
    else:
        stream.reads[0].set_exception(outcome)
    with pytest.raises(Fault) as caught:
        await reading
    assert caught.value.kind == kind
