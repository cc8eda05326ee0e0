"""Which backend is chosen, by each policy."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

from proxy.config.model import Backend, HashKey, ProxyAction
from proxy.handlers.upstream.balancing import Policy, hashed_by, policy
from proxy.handlers.upstream.sticky import sticky_id
from proxy.protocol.message import Connection, Fields, Request


@dataclass
class One:
    config: Backend
    in_flight: int = 0
    credit: float = 0.0

    @property
    def weight(self) -> float:
        return self.config.weight


def ones(*weights: int) -> list[One]:
    return [
        One(Backend(f"http://b{n}:1", "http", f"b{n}", 1, weight=w)) for n, w in enumerate(weights)
    ]


def request(path: bytes = b"/", peer: str = "192.0.2.1", fields: Fields | None = None) -> Request:
    return Request(b"GET", path, b"1.1", b"x", b"x", fields or [], Connection(peer, 1, "", 443))


def chosen(balance: str, key: HashKey | None = None) -> Policy[One]:
    return policy(ProxyAction((), balance=balance, hash_by=key or HashKey()))  # type: ignore[arg-type]


def test_round_robin_gives_each_its_weight_and_spreads_the_turns() -> None:
    members = ones(3, 1)
    choose = chosen("round_robin")
    turns = [choose(members, request()).config.host for _ in range(8)]
    assert turns == ["b0", "b0", "b1", "b0"] * 2


def test_least_conn_takes_the_least_busy_for_its_weight() -> None:
    members = ones(1, 1, 4)
    members[0].in_flight, members[1].in_flight, members[2].in_flight = 2, 1, 5
    assert chosen("least_conn")(members, request()) is members[2]
    members[2].in_flight = 20
    assert chosen("least_conn")(members, request()) is members[1]


def test_random_two_never_takes_the_busiest_of_three() -> None:
    members = ones(1, 1, 1)
    members[1].in_flight = 10
    choose = chosen("random_two")
    assert all(choose(members, request()) is not members[1] for _ in range(200))


def test_hash_is_even_and_loses_only_the_share_of_one_that_goes() -> None:
    members = ones(1, 1, 1, 1)
    choose = chosen("hash")
    peers = [f"10.0.{n // 250}.{n % 250}" for n in range(2000)]
    before = {peer: choose(members, request(peer=peer)) for peer in peers}
    assert all(
        380 < count < 620 for count in Counter(one.config.host for one in before.values()).values()
    )
    after = {peer: choose(members[1:], request(peer=peer)) for peer in peers}
    assert all(after[peer] is before[peer] for peer in peers if before[peer] is not members[0])


def test_hash_respects_weights() -> None:
    members = ones(3, 1)
    choose = chosen("hash", HashKey("path"))
    counts = Counter(choose(members, request(b"/%d" % n)).config.host for n in range(2000))
    assert 2.3 < counts["b0"] / counts["b1"] < 4.0


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        (HashKey("address"), b"192.0.2.1"), (HashKey("path"), b"/p"),
        (HashKey("header", "x-user"), b"me"), (HashKey("cookie", "sid"), b"42"),
        (HashKey("header", "x-none"), b"192.0.2.1"), (HashKey("cookie", "none"), b"192.0.2.1"),
    ],
)  # fmt: skip
def test_what_is_hashed(key: HashKey, wanted: bytes) -> None:
    fields = [(b"x-user", b"me"), (b"cookie", b"a=b; sid=42; sidx=1")]
    assert hashed_by(key, request(b"/p", fields=fields)) == wanted


def test_sticky_ids_differ_and_tell_nothing() -> None:
    one, other = ones(1, 1)
    assert sticky_id(one.config) != sticky_id(other.config)
    assert b"b0" not in sticky_id(one.config)
