"""The process is killed at one step on disk of an attempt, at each of them in turn, and at some two (with
YEARS_EXAMPLES: at any two): no kill costs a certificate that the CA has issued, and no token of what the
ledger counts."""

from __future__ import annotations

import itertools
import os
import random
from dataclasses import dataclass

import pytest

from acme_client.certificates import unfinished_order
from acme_client.drill.life import STEPS, Life
from acme_client.drill.memory_store import MemoryStore
from acme_client.drill.simulated_ca import DAY, DIRECTORY, START
from acme_client.rate_limits.ledger import Ledger
from acme_client.rate_limits.published import LETSENCRYPT, Cost, OrderKind, costs, failures
from support.simulation.cheap_ca import CheapCa
from support.simulation.cheap_ca import cheap as cheap  # in force for each test

NAMES = ("www.example.org",)


@dataclass
class Killed:
    """A life with one certificate whose attempts are killed at these ``steps``, one after the other:
    the first, or those of its renewal."""

    steps: list[int]
    information: bool
    renewal: bool

    def __post_init__(self) -> None:
        self.ca = CheapCa(90 * DAY, random.Random(1), information=self.information)
        left = iter(self.steps)

        def fate(now: float) -> int:
            return 0 if self.renewal and now < START + DAY else next(left, 0)

        self.life = Life(
            self.ca, [NAMES], lambda _now, crash: MemoryStore(crash=crash), random.Random(2),
            fates=fate,
        )  # fmt: skip
        self.end = START + (65 if self.renewal else 0.5) * DAY
        self.life.run(self.end)

    @property
    def wanted(self) -> int:
        return 2 if self.renewal else 1

    def left(self, cost: Cost) -> int:
        ledger = Ledger(self.life.store, self.life.clock)
        _now, _limits, buckets = ledger._seen(DIRECTORY, NAMES)
        return buckets.left(cost, self.life.clock())


@pytest.mark.parametrize("renewal", [False, True], ids=["the first", "its renewal"])
@pytest.mark.parametrize("information", [True, False], ids=["ARI", "alone"])
def test_a_kill_costs_neither_a_certificate_nor_a_token(information: bool, renewal: bool) -> None:
    undisturbed = Killed([], information, renewal)
    kinds = (OrderKind.NEW, OrderKind.RENEWAL, OrderKind.EXEMPT)
    every = {one for kind in kinds for one in costs(NAMES, LETSENCRYPT, kind)}
    taken_up = 0
    pairs = [list(two) for two in itertools.product(range(1, STEPS + 1), repeat=2)]
    some = pairs if "YEARS_EXAMPLES" in os.environ else random.Random(7).sample(pairs, 40)
    plans = [[step] for step in range(1, STEPS + 1)] + some
    for steps in plans:
        killed = Killed(steps, information, renewal)
        ca = killed.ca
        assert ca.serial == killed.wanted, f"killed at {steps}"
        assert ca.limits_hit == []
        assert killed.life.visitors.lapses == []
        folder = unfinished_order.folder_of(killed.life.wanted[0].name)
        assert killed.life.store.load(folder) == {}, f"killed at {steps}"
        for cost in (*every, *failures(NAMES, LETSENCRYPT)):
            if cost.key != "orders":
                assert killed.left(cost) >= undisturbed.left(cost), f"killed at {steps}: {cost}"
        taken_up += ca.taken_up
    assert taken_up > len(plans) / 3
