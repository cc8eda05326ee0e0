"""Handshakes that wait: who is asked for, who waits with whom, who is let go, and where it ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from proxy.config.model import OnDemand, RefuseAction, Route, Site, Tls
from proxy.ipc.messages import CertificateUsed, OnDemandResult, WantCertificate
from proxy.ipc.packs import alone
from proxy.sites.site import SiteTable
from proxy.tls.client_hello import Hello
from proxy.tls.contexts import Certificates, Served, server_context
from proxy.transport.clock import Clock
from proxy.transport.deadlines import Deadlines
from proxy.transport.stream import StreamBroken
from proxy.transport.tcp import SocketStream
from proxy.worker import on_demand
from proxy.worker.on_demand import OnDemandCertificates

HELLO = b"\x16 a ClientHello, for all that matters here"


def site(name: str, rule: OnDemand | None = None) -> Site:
    return Site((name,), (Route("/*", RefuseAction()),), on_demand=rule)


ASK = OnDemand(ask="http://app/")


class World:
    """Handshakes that wait, in a worker with these sites; ``said`` is what the supervisor was told."""

    def __init__(self, *sites: Site, public: bool = True) -> None:
        self.loop = asyncio.get_running_loop()
        self.clock = Clock()
        self.said: list[WantCertificate | CertificateUsed] = []
        self.hosts: dict[str, str] = {}
        self.certificates = Certificates(Tls())
        self.deadlines = Deadlines()
        every = (site("own.example"), *(sites or (site("shops.example", ASK),)))
        self.on_demand = OnDemandCertificates(
            every,
            public,
            self.hosts,
            self.certificates,
            SiteTable(every).configured,
            lambda peer: peer,
            self.said.append,
            self.loop,
            self.clock,
        )

    @property
    def asked(self) -> list[object]:
        return [one.name for one in self.said if isinstance(one, WantCertificate)]

    def hold(self, name: str, stream: SocketStream, peer: str = "192.0.2.9") -> asyncio.Task[None]:
        return self.loop.create_task(
            self.on_demand.wait_for_certificate(Hello(name.encode(), ()), stream, peer)
        )

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[SocketStream, socket.socket]]:
        """A stream whose client has said its ClientHello, and the client's end."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
        ours.setblocking(False)
        client.sendall(HELLO)
        stream = SocketStream(ours, self.loop, self.deadlines)
        assert await stream.peek(100, len(HELLO)) == HELLO
        try:
            yield stream, client
        finally:
            stream.close()
            client.close()


def there(stream: SocketStream) -> bytes:
    """What is there to be read."""
    return socket.socket.recv(stream._sock, 4096, socket.MSG_PEEK)


async def turns(count: int = 5) -> None:
    """Let what is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_all_who_wait_for_a_name_are_one_question_and_one_answer() -> None:
    world = World()
    async with world.connection() as (one, _), world.connection() as (other, _):
        waiting = [world.hold("a.shop.com", one), world.hold("A.shop.com", other)]
        await turns()
        assert world.asked == ["a.shop.com"]
        assert not any(task.done() for task in waiting)
        world.on_demand.certificate_ready("a.shop.com", "shops.example")
        await asyncio.gather(*waiting)
        assert world.hosts == {"a.shop.com": "shops.example"}
        # The bytes are OpenSSL's to read still.
        with one.take_socket() as plain:
            assert plain.recv(100) == HELLO


async def test_a_refusal_is_remembered_here() -> None:
    world = World()
    async with world.connection() as (stream, _):
        waiting = world.hold("a.shop.com", stream)
        await turns()
        world.on_demand.answered(OnDemandResult("a.shop.com", ok=False, seconds=30.0))
        await waiting
        await world.hold("a.shop.com", stream)
        assert world.asked == ["a.shop.com"]
        world.clock.now += 31.0
        waiting = world.hold("a.shop.com", stream)
        await turns()
        assert len(world.asked) == 2
        # A certificate that comes all the same ends a refusal.
        world.on_demand.answered(OnDemandResult("a.shop.com", ok=False, seconds=30.0))
        world.on_demand.certificate_ready("a.shop.com", "shops.example")
        await waiting


async def test_who_leaves_is_let_go_and_who_says_more_is_not() -> None:
    world = World()
    async with world.connection() as (stream, client), world.connection() as (other, talker):
        leaving = world.hold("a.shop.com", stream)
        staying = world.hold("a.shop.com", other)
        await turns()
        client.close()
        with pytest.raises(StreamBroken, match="left"):
            await leaving
        talker.sendall(b"early data")
        while len(there(other)) == len(HELLO):
            await turns()
        await turns()
        assert not staying.done()
        world.on_demand.answered(OnDemandResult("a.shop.com", ok=True))
        await staying


async def test_a_reset_is_a_leave() -> None:
    world = World()
    async with world.connection() as (stream, client):
        leaving = world.hold("a.shop.com", stream)
        await turns()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        with pytest.raises(StreamBroken):
            await leaving


async def test_time_is_up_and_the_next_one_asks_again() -> None:
    world = World(site("shops.example", OnDemand(dns=True, wait=7.0)))
    async with world.connection() as (stream, _):
        waiting = world.hold("a.shop.com", stream)
        await turns()
        assert stream.deadline == world.clock.now + 7.0
        world.deadlines.sweep(world.clock.now + 6.9)
        await turns()
        assert not waiting.done()
        world.deadlines.sweep(world.clock.now + 7.1)
        await waiting
        waiting = world.hold("a.shop.com", stream)
        await turns()
        assert world.asked == ["a.shop.com"] * 2
        world.on_demand.certificate_ready("a.shop.com", "shops.example")
        await waiting


@pytest.mark.parametrize(
    "name",
    [
        b"own.example",
        b"shops.example",
        b"localhost",
        b"192.0.2.1",
        b"a_b.shop.com",
        b"\xff.com",
        b"x.test",
        b"have.shop.com",
        b"have.shop.com.",
        b"",
    ],
)
async def test_nobody_waits_for_what_is_known_or_cannot_be(name: bytes) -> None:
    world = World()
    have = "have.shop.com"
    world.certificates.put(have, have, (have,), 2e9, alone(b""), try_out=False)
    async with world.connection() as (stream, _):
        await world.on_demand.wait_for_certificate(Hello(name, ()), stream, "192.0.2.9")
        await world.on_demand.wait_for_certificate(None, stream, "192.0.2.9")
        await world.on_demand.wait_for_certificate(Hello(None, ()), stream, "192.0.2.9")
        # A CA that validates is not kept waiting.
        await world.on_demand.wait_for_certificate(
            Hello(b"a.shop.com", (b"acme-tls/1",)), stream, "192.0.2.9"
        )
    assert world.said == []


async def test_patterns_are_looked_at_before_anybody_is_asked() -> None:
    world = World(site("shops.example", OnDemand(patterns=("*.shop.com",))), public=False)
    async with world.connection() as (stream, _):
        await world.hold("a.other.com", stream)
        waiting = world.hold("a.shop.com", stream)
        await turns()
        assert world.asked == ["a.shop.com"]
        world.on_demand.answered(OnDemandResult("a.shop.com", ok=True))
        await waiting


async def test_one_address_asks_for_so_many_names_and_others_are_not_kept_out() -> None:
    world = World()
    async with contextlib.AsyncExitStack() as stack:
        streams = [(await stack.enter_async_context(world.connection()))[0] for _ in range(12)]
        flood = [world.hold(f"{n}.shop.com", one) for n, one in enumerate(streams[:-1])]
        await turns()
        assert len(world.asked) == on_demand._NAMES_OF_ONE
        assert sum(task.done() for task in flood) == 11 - on_demand._NAMES_OF_ONE
        other = world.hold("real.shop.com", streams[-1], "192.0.2.10")
        await turns()
        assert world.asked[-1] == "real.shop.com"
        for name in world.asked:
            world.on_demand.answered(OnDemandResult(name, ok=True))
        await asyncio.gather(*flood, other)
        # All places are free again.
        assert not world.on_demand._asked
        assert not world.on_demand._waiting_by
        assert not world.on_demand._names_by
        assert world.on_demand._waiting == 0


async def test_the_names_that_are_asked_for_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_demand, "_NAMES_MOST", 3)
    world = World()
    async with contextlib.AsyncExitStack() as stack:
        tasks = []
        for number in range(6):
            stream, _ = await stack.enter_async_context(world.connection())
            tasks.append(world.hold(f"{number}.shop.com", stream, f"192.0.2.{number}"))
        await turns()
        assert len(world.asked) == 3
        # A name that nobody waits for any more takes no place.
        world.deadlines.sweep(world.clock.now + 60)
        await asyncio.gather(*tasks)
        stream, _ = await stack.enter_async_context(world.connection())
        last = world.hold("last.shop.com", stream)
        await turns()
        assert world.asked[-1] == "last.shop.com"
        world.on_demand.answered(OnDemandResult("last.shop.com", ok=True))
        await last


async def test_the_handshakes_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_demand, "_WAITING_OF_ONE", 2)
    monkeypatch.setattr(on_demand, "_WAITING_MOST", 3)
    world = World()
    async with contextlib.AsyncExitStack() as stack:
        peers = ["192.0.2.1"] * 3 + ["192.0.2.2", "192.0.2.3"]
        tasks = []
        for peer in peers:
            stream, _ = await stack.enter_async_context(world.connection())
            tasks.append(world.hold("a.shop.com", stream, peer))
        await turns()
        assert [task.done() for task in tasks] == [False, False, True, False, True]
        world.on_demand.answered(OnDemandResult("a.shop.com", ok=True))
        await asyncio.gather(*tasks)


async def test_requests_in_the_clear_wait_in_the_same_way() -> None:
    world = World(site("shops.example", OnDemand(ask="http://app/", wait=0.01)))
    assert await world.on_demand.obtain(b"a_b.shop.com", "192.0.2.9") == "refused"
    assert await world.on_demand.obtain(b"a.shop.com", "192.0.2.9") == "late"
    asking = asyncio.ensure_future(world.on_demand.obtain(b"b.shop.com", "192.0.2.9"))
    await turns()
    world.on_demand.certificate_ready("b.shop.com", "shops.example")
    assert await asking == "obtained"
    asking = asyncio.ensure_future(world.on_demand.obtain(b"c.shop.com", "192.0.2.9"))
    await turns()
    world.on_demand.answered(OnDemandResult("c.shop.com", ok=False))
    assert await asking == "refused"
    assert await world.on_demand.obtain(b"c.shop.com", "192.0.2.9") == "refused"


async def test_that_a_name_is_in_use_is_told_now_and_then() -> None:
    world = World()
    served = Served("a.shop.com", ("a.shop.com",), 2e9, server_context(Tls()))
    world.on_demand.handshake_done(served)
    world.on_demand.handshake_done(None)
    assert world.said == []
    world.on_demand.certificate_ready("a.shop.com", "shops.example")
    for _ in range(3):
        world.on_demand.handshake_done(served)
    assert world.said == [CertificateUsed("a.shop.com")]
    world.clock.now += on_demand._USED_EVERY + 1  # not a rounding less
    world.on_demand.handshake_done(served)
    assert len(world.said) == 2
    world.on_demand.gone("a.shop.com")
    assert world.hosts == {}


async def test_a_server_without_names_on_demand_does_not_look() -> None:
    assert not World(site("b.example")).on_demand
    assert World().on_demand
