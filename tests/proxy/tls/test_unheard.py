"""Who asks for a challenge that may come waits for it, not for ever, and not with too many others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from proxy.tls import unheard
from proxy.tls.unheard import UnheardChallenges

Case = Callable[[UnheardChallenges, list[str]], Awaitable[None]]


def found_in(found: list[str]) -> Callable[[], str | None]:
    return lambda: found[0] if found else None


async def asks(challenges: UnheardChallenges, found: list[str]) -> asyncio.Task[str | None]:
    """Somebody who has begun to wait."""
    task = asyncio.create_task(challenges.wait_for(found_in(found)))
    await asyncio.sleep(0)
    return task


def test_who_waits_gets_what_comes_and_others_wait_on() -> None:
    async def live() -> None:
        challenges, found, other = UnheardChallenges(expected=True), list[str](), list[str]()
        one, second = await asks(challenges, found), await asks(challenges, other)
        challenges.come()
        await asyncio.sleep(0)
        assert not one.done()
        found.append("answer")
        challenges.come()
        assert await one == "answer"
        assert not second.done()
        challenges.expect(on=False)
        assert await second is None

    asyncio.run(live())


def test_nobody_waits_where_nothing_is_expected() -> None:
    async def live() -> None:
        challenges = UnheardChallenges()
        assert await challenges.wait_for(found_in([])) is None
        assert await challenges.wait_for(found_in(["answer"])) == "answer"

    asyncio.run(live())


def test_the_wait_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unheard, "_WITHIN", 0.01)

    async def live() -> None:
        challenges = UnheardChallenges(expected=True)
        assert await challenges.wait_for(found_in([])) is None
        assert challenges.expected

    asyncio.run(live())


def test_so_many_wait_and_no_more_and_who_leaves_makes_room() -> None:
    async def live() -> None:
        challenges, found = UnheardChallenges(expected=True), list[str]()
        waiting = [await asks(challenges, found) for _ in range(unheard._MOST)]
        assert await challenges.wait_for(found_in(found)) is None
        waiting[0].cancel()
        await asyncio.sleep(0)
        waiting[0] = await asks(challenges, found)
        found.append("answer")
        challenges.come()
        assert set(await asyncio.gather(*waiting)) == {"answer"}

    asyncio.run(live())
