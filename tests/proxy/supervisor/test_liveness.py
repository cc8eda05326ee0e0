"""Which child hangs, and which one only seems to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.supervisor.liveness import EVERY, Liveness, Silence
from proxy.supervisor.roles import CERTIFIER, MESSENGER, ROLES, WORKER, AnyRole

# Every role, while it starts and while it serves, that has a bound.
WHO = [
    (role, starting)
    for role in ROLES
    for starting in (False, True)
    if role.patience(starting=starting) < float("inf")
]


def beaten(*moments: float) -> Liveness:
    made = Liveness(moments[0])
    for moment in moments[1:]:
        made.beat(moment)
    return made


def listening(until: int) -> Liveness:
    return beaten(*map(float, range(until + 1)))


@pytest.mark.parametrize(
    ("role", "starting", "heard", "now", "hangs"),
    [
        (WORKER, False, 90, 100, False),
        (WORKER, False, 89, 100, True),
        (WORKER, True, 70, 100, False),
        (WORKER, True, 69, 100, True),
        (CERTIFIER, True, 40, 100, False),
        (CERTIFIER, True, 39, 100, True),
        (MESSENGER, True, 0, 100, False),  # its whole life has a bound of its own
    ],
)
def test_silence_and_its_bound(
    role: AnyRole, starting: bool, heard: float, now: int, hangs: bool
) -> None:
    allowed = role.patience(starting=starting)
    assert listening(now).is_hung(heard, allowed, float(now)) is hangs


@pytest.mark.parametrize(("role", "starting"), WHO)
def test_a_server_that_was_stopped_as_a_whole_ends_nobody(role: AnyRole, starting: bool) -> None:
    """Ctrl-Z and an hour later `fg`: the last words are old, and everybody is well."""
    patience = role.patience(starting=starting)
    hearts = beaten(*map(float, range(11)), 3610.0)
    assert not hearts.is_hung(10.0, patience, 3610.0)
    # Whoever still says nothing hangs after all.
    for second in range(1, int(patience) + 2):
        hearts.beat(3610.0 + second)
    assert hearts.is_hung(10.0, patience, 3610.0 + patience + 1)


@given(pauses=st.lists(st.floats(EVERY, 4.9), min_size=1, max_size=200), who=st.sampled_from(WHO))
def test_whoever_never_speaks_is_found_out_within_its_bound(
    pauses: list[float], who: tuple[AnyRole, bool]
) -> None:
    role, starting = who
    allowed = role.patience(starting=starting)
    now, hearts = 0.0, Liveness(0.0)
    for pause in pauses:
        now += pause
        hearts.beat(now)
        assert hearts.is_hung(0.0, allowed, now) is (now > allowed)


def test_a_silence_begins_before_others_give_the_machine_up_and_ends_when_it_has_caught_up() -> (
    None
):
    silence = Silence()
    found = [
        silence.beat(min(float(now), 10.0) if now < 30 else float(now), float(now))
        for now in range(60)
    ]
    assert [now for now, silent in enumerate(found) if silent] == list(range(19, 39))


def test_a_supervisor_that_was_stopped_takes_all_for_stopped() -> None:
    silence = Silence()
    assert not silence.beat(0.0, 1.0)
    assert silence.beat(100.0, 100.0)
    assert [silence.beat(float(now), float(now)) for now in (105, 109, 110)] == [True, True, False]
