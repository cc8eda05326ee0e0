"""Token buckets in shared memory."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.model import RateLimit
from proxy.ipc.rate_buckets import Buckets, RateLimits


def test_a_burst_then_the_rate() -> None:
    buckets, limit = Buckets(), RateLimit(rate=2.0, burst=3)
    assert [buckets.take(b"a", limit, 100.0) for _ in range(3)] == [0.0] * 3
    assert buckets.take(b"a", limit, 100.0) == pytest.approx(0.5)
    assert buckets.take(b"b", limit, 100.0) == 0.0, "somebody else's bucket"
    assert buckets.take(b"a", limit, 100.4) == pytest.approx(0.1)
    assert buckets.take(b"a", limit, 100.5) == 0.0
    assert buckets.take(b"a", limit, 100.5) == pytest.approx(0.5)
    assert [buckets.take(b"a", limit, 200.0) for _ in range(4)] == [0.0] * 3 + [pytest.approx(0.5)]


@given(
    st.floats(0.01, 1000),
    st.integers(1, 50),
    st.lists(st.floats(0, 10), min_size=1, max_size=60),
)
def test_never_more_than_the_bucket_and_its_refill(
    rate: float, burst: int, pauses: list[float]
) -> None:
    buckets, limit = Buckets(), RateLimit(rate, burst)
    now, taken = 1000.0, 0
    for pause in pauses:
        now += pause
        wait = buckets.take(b"key", limit, now)
        taken += not wait
        assert 0.0 <= wait <= 1 / rate + 1e-6
        if wait:
            assert buckets.take(b"key", limit, now + wait + 1e-6) == 0.0
            now += wait + 1e-6
            taken += 1
        assert taken <= burst + (now - 1000.0) * rate + 1e-3 * len(pauses)


def test_processes_share_them() -> None:
    buckets, limit = Buckets(), RateLimit(1.0, 10)
    pid = os.fork()
    if pid == 0:
        taken = sum(not buckets.take(b"a", limit, 5.0) for _ in range(20))
        os._exit(taken)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 10
    assert buckets.take(b"a", limit, 5.0) == pytest.approx(1.0)


def test_many_addresses_take_no_more_memory_and_a_busy_one_keeps_its_bucket() -> None:
    buckets, limit = Buckets(), RateLimit(0.001, 1)
    assert buckets.take(b"busy", RateLimit(0.00001, 1), 1.0) == 0.0
    for number in range(50_000):
        buckets.take(b"%d" % number, limit, 1.0)
    assert buckets.take(b"busy", RateLimit(0.00001, 1), 1.0) > 0.0


def test_a_site_by_address_and_in_all() -> None:
    limits = (RateLimit(1.0, 1, "address"), RateLimit(1.0, 2, "site"))
    rates = RateLimits("a.test", limits, Buckets(), lambda: 50.0, lambda peer: peer)
    assert rates.wait("192.0.2.1") == 0.0
    assert rates.wait("192.0.2.1") == pytest.approx(1.0)
    assert rates.wait("192.0.2.2") == 0.0
    assert rates.wait("192.0.2.3") == pytest.approx(1.0), "the site has had its two"


def test_one_who_is_over_his_own_limit_uses_up_nobody_elses() -> None:
    limits = (RateLimit(1.0, 3, "site"), RateLimit(1.0, 1, "address"))
    rates = RateLimits("a.test", limits, Buckets(), lambda: 50.0, lambda peer: peer)
    assert rates.wait("192.0.2.1") == 0.0
    for _ in range(20):
        assert rates.wait("192.0.2.1") == pytest.approx(1.0)
    assert rates.wait("192.0.2.2") == 0.0
    assert rates.wait("192.0.2.3") == 0.0, "the site has had two of its three until now"
