"""A supervisor that hangs costs whoever looks at the admin page a bounded time, and a clear line."""

from __future__ import annotations

import asyncio

import pytest

from proxy.ipc.messages import AskAdmin, FromWorker
from proxy.worker.admin import link
from proxy.worker.admin.events import Events
from proxy.worker.admin.link import AdminLink, Document, Unanswered


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_PAUSE", 3600.0)


async def test_what_is_not_answered_in_time_is_said_and_nobody_is_asked_for_a_while() -> None:
    said: list[FromWorker] = []
    asking = AdminLink(asyncio.get_running_loop(), said.append)
    with pytest.raises(Unanswered, match="has not answered"):
        await asking.ask("summary", 0.01)
    for _ in range(100):
        with pytest.raises(Unanswered):
            await asking.ask("summary")
        with pytest.raises(Unanswered):
            await asking.overview()
    assert len(said) == 1
    # It goes on: a late answer is nobody's, and questions are asked again.
    asking.hear(1, {"late": True})
    waiting = asyncio.ensure_future(asking.ask("summary"))
    await asyncio.sleep(0)
    question = said[1]
    assert isinstance(question, AskAdmin)
    asking.hear(question.number, {"at": 5})
    assert await waiting == {"at": 5}


async def test_a_stream_tells_of_the_silence_and_goes_on_with_the_whole_hour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("proxy.worker.admin.events.EVERY", 0.0)
    asked: list[int] = []

    async def ask(slots: int) -> Document:
        asked.append(slots)
        if len(asked) == 3:
            raise Unanswered
        return {"board": {}}

    events = Events(ask, asyncio.Event(), lambda: None)
    kinds = [(await events.read()).rpartition(b"event: ")[2].split(b"\n")[0] for _ in range(5)]
    assert kinds == [b"board", b"board", b"silence", b"board", b"board"]
    assert asked[0] == asked[3] > asked[1] == asked[2] == asked[4]
