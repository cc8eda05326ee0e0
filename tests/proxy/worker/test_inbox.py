"""A worker's answers to what the supervisor sends."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from proxy.ipc.channel import Channel
from proxy.ipc.codec import encode
from proxy.ipc.messages import (
    FROM_WORKER,
    Acknowledged,
    CannotServe,
    DropCertificate,
    NotTaken,
    ToWorker,
)
from proxy.worker.inbox import Inbox, Unusable


class Worker:
    def __init__(self, fault: Exception | None) -> None:
        self.fault = fault

    def take(self, message: ToWorker, fds: list[int]) -> None:
        if self.fault is not None:
            raise self.fault


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        (None, Acknowledged(7)),
        (Unusable({"a.test": "too short"}), CannotServe(7, {"a.test": "too short"})),
        (OSError(24, "Too many open files"), NotTaken(7)),
    ],
    ids=str,
)
def test_what_a_message_with_a_ticket_is_answered_with(
    fault: Exception | None, answer: object
) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    supervisor, worker = Channel(ours), Channel(theirs)

    async def live() -> object:
        loop = asyncio.get_running_loop()
        Inbox(worker, loop, Worker(fault)).open()
        supervisor.send(encode(DropCertificate("a.test", "a.test", 7)))
        while True:
            await asyncio.sleep(0)
            for said, _fds in supervisor.receive():
                return FROM_WORKER.decode(said, 0)

    assert asyncio.run(live()) == answer
    for one in (ours, theirs):
        os.close(one.detach())
