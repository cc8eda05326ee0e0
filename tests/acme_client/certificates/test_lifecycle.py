"""The table of states: whole, without dead ends, and the page made from it is current."""

from __future__ import annotations

from pathlib import Path

import pytest

from acme_client.certificates.lifecycle import (
    PAUSED,
    READY,
    TABLE,
    Event,
    Impossible,
    State,
    after,
    page,
)

REPOSITORY = Path(__file__).parents[3]


def reachable(start: State) -> set[State]:
    seen, fresh = {start}, {start}
    while fresh:
        fresh = {following for one in fresh for following in TABLE[one].values()} - seen
        seen |= fresh
    return seen


def test_every_state_has_a_row() -> None:
    assert set(TABLE) == set(State)


@pytest.mark.parametrize("state", State)
def test_every_state_is_reached_from_missing_and_leads_back_to_fresh(state: State) -> None:
    assert state in reachable(State.MISSING)
    assert State.FRESH in reachable(state)


@pytest.mark.parametrize("event", Event)
def test_every_event_happens_somewhere(event: Event) -> None:
    assert any(event in row for row in TABLE.values())


@pytest.mark.parametrize("state", State)
def test_an_attempt_begins_only_where_one_is_called_for(state: State) -> None:
    assert (Event.STARTED in TABLE[state]) == (state in READY)


@pytest.mark.parametrize("state", [one for one in State if one in PAUSED])
def test_losing_the_certificate_does_not_end_a_pause(state: State) -> None:
    assert after(state, Event.LOST) is state


@pytest.mark.parametrize("state", [one for one in State if one is not State.ISSUING])
def test_a_person_can_ask_in_every_state_but_during_an_attempt(state: State) -> None:
    assert after(state, Event.ASKED) in READY


def test_an_attempt_always_comes_to_an_end() -> None:
    assert State.ISSUING not in TABLE[State.ISSUING].values()


def test_what_the_table_does_not_have_is_refused() -> None:
    with pytest.raises(Impossible, match="attempt failed while fresh"):
        after(State.FRESH, Event.FAILED)


def test_the_page_in_docs_is_the_one_made_from_the_table() -> None:
    written = (REPOSITORY / "docs" / "lifecycle.md").read_text()
    assert written == page(), "run: python -m acme_client.lifecycle > docs/lifecycle.md"
