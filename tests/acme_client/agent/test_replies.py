"""Who asks about a name is answered once, also where it has two certificates."""

from __future__ import annotations

import pytest

from acme_client.agent.replies import Replies, Value, merged

GOOD = {"ok": True, "error": None, "message": "renewed: a"}
BAD = {"ok": False, "error": "b: refused", "message": "renewed: b"}


def test_one_part_is_passed_on_as_it_is() -> None:
    given: list[tuple[int, Value]] = []
    replies = Replies(lambda ticket, value: given.append((ticket, value)))
    replies.expect(1, 1)
    replies.give(1, GOOD)
    replies.give(None, GOOD)  # nobody waits
    replies.expect(None, 2)
    assert given == [(1, GOOD)]


def test_several_parts_are_one_answer() -> None:
    given: list[tuple[int, Value]] = []
    replies = Replies(lambda ticket, value: given.append((ticket, value)))
    replies.expect(1, 2)
    replies.give(1, GOOD)
    replies.give(2, GOOD)
    assert given == [(2, GOOD)]
    replies.give(1, BAD)
    assert given[1:] == [(1, merged([GOOD, BAD]))]
    replies.give(1, GOOD)  # the ticket is settled: a later one of that number is another's
    assert given[2:] == [(1, GOOD)]


@pytest.mark.parametrize(
    ("parts", "value"),
    [
        ([GOOD, GOOD], {"ok": True, "error": None, "message": "renewed: a"}),
        ([GOOD, BAD], {"ok": False, "error": "b: refused", "message": "renewed: a; renewed: b"}),
        ([{"ok": True}, {"ok": True}], {"ok": True, "error": None}),
    ],
)
def test_all_must_be_well(parts: list[Value], value: Value) -> None:
    assert merged(parts) == value
