"""The moments of many certificates, of which each one's last counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from acme_client.agent.agenda import Agenda

NAMES = st.sampled_from("abc")
MOMENTS = st.none() | st.integers(0, 20)


@given(st.lists(st.tuples(NAMES, MOMENTS)), st.integers(0, 20))
def test_only_the_last_moment_of_each_counts(puts: list[tuple[str, int | None]], now: int) -> None:
    agenda, model = Agenda(), {}
    for name, moment in puts:
        agenda.put(name, moment)
        model[name] = moment
    left = [moment for moment in model.values() if moment is not None]
    assert agenda.next() == min(left, default=None)
    due = list(agenda.due(now))
    assert sorted(due) == sorted(n for n, m in model.items() if m is not None and m <= now)
    assert agenda.next() == min((one for one in left if one > now), default=None)


def test_a_moment_may_be_put_while_names_are_taken_out() -> None:
    agenda = Agenda()
    agenda.put("a", 1)
    agenda.put("b", 2)
    seen = []
    for name in agenda.due(5):
        seen.append(name)
        if len(seen) == 1:
            agenda.put("b", 9)
    assert seen == ["a"]
    assert agenda.next() == 9


def test_who_is_dropped_is_due_no_more() -> None:
    agenda = Agenda()
    agenda.put("a", 1)
    agenda.drop("a")
    assert agenda.next() is None
    assert list(agenda.due(5)) == []
