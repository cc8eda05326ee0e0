"""What may be a name on demand, what is remembered of refusals, how many new ones an hour brings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acme_client.names import hostname
from acme_client.on_demand.policy import REFUSALS_MOST, Allowance, LogThrottle, Refusals, takes


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("example.org", "example.org"),
        ("WWW.Example.Org.", "www.example.org"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("a-b.1a.example", "a-b.1a.example"),
        (".".join(["a" * 63] * 3) + ".example", ".".join(["a" * 63] * 3) + ".example"),
        # Neither an address, nor one label, nor what no CA certifies
        ("192.0.2.1", None),
        ("2001:db8::1", None),
        ("localhost", None),
        ("example.1", None),
        ("a_b.example", None),
        ("*.example.org", None),
        ("-a.example", None),
        ("a-.example", None),
        ("a..example", None),
        (".example.org", None),
        ("example.org..", None),
        ("", None),
        (".", None),
        ("a b.example", None),
        ("a/b.example", None),
        ("a\0.example", None),
        ("bücher.example", None),
        ("xn--.example", None),
        ("xn--zzzz--.example", None),
        ("xn--a.example", None),  # an A-label of nothing but ASCII
        ("ab--cd.example", None),  # reserved, RFC 5890 §2.3.1
        ("a" * 64 + ".example", None),
        (".".join(["a" * 63] * 4) + ".org", None),
    ],
)
def test_a_name(text: str, name: str | None) -> None:
    assert hostname(text) == name


@given(st.text(max_size=300))
def test_what_comes_out_is_plain_and_stays_as_it_is(text: str) -> None:
    name = hostname(text)
    if name is not None:
        assert hostname(name) == name
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")
        assert len(name) <= 253
        assert name == text.lower().rstrip(".")


@pytest.mark.parametrize(
    ("patterns", "name", "taken"),
    [
        ((), "any.example", True),
        (("*.shop.example",), "a.shop.example", True),
        (("*.shop.example",), "b.a.shop.example", False),
        (("*.shop.example",), "shop.example", False),
        (("*.shop.example",), "a.shop.example.org", False),
        (("*.shop.example",), "ashop.example", False),
        (("www.x.example", "*.y.example"), "www.x.example", True),
        (("www.x.example", "*.y.example"), "x.example", False),
    ],
)
def test_patterns(patterns: tuple[str, ...], name: str, taken: bool) -> None:
    assert takes(patterns, name) is taken


def test_a_refusal_lasts_and_ends() -> None:
    refusals = Refusals(longest=300.0)
    refusals.put("a.example", 1000.0, 60.0, "no")
    refusals.put("b.example", 1000.0, 9e9, "never")
    assert refusals.find("a.example", 1059.0) is not None
    assert refusals.find("a.example", 1060.0) is None
    assert refusals.find("c.example", 1000.0) is None
    # No longer than the longest; and a clock that is set back does not prolong it.
    assert refusals.find("b.example", 1299.0) is not None
    assert refusals.find("b.example", 900.0) is None
    assert len(refusals) == 0


@given(st.lists(st.integers(0, 40), max_size=200), st.integers(1, 20))
def test_refusals_are_bounded_and_the_newest_stay(names: list[int], most: int) -> None:
    refusals = Refusals(longest=300.0, most=most)
    for name in names:
        refusals.put(str(name), 0.0, 60.0, "no")
        assert len(refusals) <= most
    newest = list(dict.fromkeys(str(name) for name in reversed(names)))[:most]
    assert all(refusals.find(name, 1.0) for name in newest)


def test_a_flood_fills_no_memory() -> None:
    refusals = Refusals(longest=300.0)
    for number in range(3 * REFUSALS_MOST):
        refusals.put(f"{number}.example", 0.0, 60.0, "no")
    assert len(refusals) == REFUSALS_MOST


@given(st.integers(1, 1000), st.lists(st.floats(0, 7200), max_size=300))
def test_an_hour_never_brings_more_than_twice_what_is_allowed(
    per_hour: int, gaps: list[float]
) -> None:
    """All at once, and what comes back meanwhile: the usual property of a token bucket."""
    allowance, now, spent = Allowance(per_hour), 0.0, []
    for gap in gaps:
        now += gap
        if not allowance.wait(now):
            allowance.spend(now)
            spent.append(now)
    for moment in spent:
        within = [one for one in spent if moment <= one < moment + 3600.0]
        assert len(within) <= 2 * per_hour


def test_an_allowance_is_used_up_and_comes_back() -> None:
    allowance = Allowance(50)
    for _ in range(50):
        assert allowance.wait(1000.0) == 0.0
        allowance.spend(1000.0)
    assert allowance.wait(1000.0) == pytest.approx(72.0)
    assert allowance.wait(1072.1) == 0.0
    allowance.due = 1e12  # by a clock that ran ahead
    assert allowance.wait(1000.0) <= 3600.0


def test_a_voice_is_raised_so_often_and_then_tells_what_it_held_back() -> None:
    voice = LogThrottle(most=2, within=60.0)
    said = [voice.passes(now) for now in (0.0, 1.0, 2.0, 3.0, 60.0, 61.0)]
    assert said == [0, 0, None, None, 2, 0]
    assert voice.passes(-100.0) == 0  # a clock that was set back does not silence it
