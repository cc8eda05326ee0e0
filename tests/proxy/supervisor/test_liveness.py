"""Who hangs, and who only seems to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.supervisor.liveness import EVERY, LOST, Heartbeats


def beaten(*moments: float) -> Heartbeats:
    made = Heartbeats(moments[0])
    for moment in moments[1:]:
        made.beat(moment)
    return made


def listening(until: int) -> Heartbeats:
    return beaten(*map(float, range(until + 1)))


@pytest.mark.parametrize(
    ("role", "starting", "heard", "now", "hangs"),
    [
        ("worker", False, 90, 100, False),
        ("worker", False, 89, 100, True),
        ("worker", True, 70, 100, False),
        ("worker", True, 69, 100, True),
        ("certifier", True, 40, 100, False),
        ("certifier", True, 39, 100, True),
        ("messenger", True, 0, 100, False),  # its whole life has a bound of its own
    ],
)
def test_silence_and_its_bound(
    role: str, starting: bool, heard: float, now: int, hangs: bool
) -> None:
    assert listening(now).hangs(role, starting, heard, float(now)) is hangs


@pytest.mark.parametrize(("role", "starting"), LOST)
def test_a_server_that_was_stopped_as_a_whole_ends_nobody(role: str, starting: bool) -> None:
    """Ctrl-Z and an hour later `fg`: the last words are old, and everybody is well."""
    hearts = beaten(*map(float, range(11)), 3610.0)
    assert not hearts.hangs(role, starting, 10.0, 3610.0)
    # Whoever still says nothing hangs after all.
    patience = LOST[role, starting]
    for second in range(1, int(patience) + 2):
        hearts.beat(3610.0 + second)
    assert hearts.hangs(role, starting, 10.0, 3610.0 + patience + 1)


@given(
    pauses=st.lists(st.floats(EVERY, 4.9), min_size=1, max_size=200), who=st.sampled_from([*LOST])
)
def test_whoever_never_speaks_is_found_out_within_its_bound(
    pauses: list[float], who: tuple[str, bool]
) -> None:
    now, hearts = 0.0, Heartbeats(0.0)
    for pause in pauses:
        now += pause
        hearts.beat(now)
        assert hearts.hangs(*who, 0.0, now) is (now > LOST[who])
