"""Two machines of one name are told of; a process that ends, and one that begins, are not."""

from __future__ import annotations

from acme_client.cluster.namesake import Namesake

OURS, THEIRS, THIRD = "1", "2", "3"
EVERY = 30.0


def test_a_machine_that_writes_over_ours_again_is_told() -> None:
    name = Namesake("web-1")
    assert not name.hear(THEIRS, 10, EVERY, OURS, 5, 100.0)
    assert not name.hear(THEIRS, 10, EVERY, OURS, 5, 140.0)  # heard of again, not written again
    assert not name.hear(OURS, 12, EVERY, OURS, 12, 120.0)
    assert name.text == ""
    assert name.hear(THEIRS, 14, EVERY, OURS, 12, 130.0)
    assert "called web-1, too (give each machine a name of its own: cluster.node)" in name.text
    assert not name.hear(THEIRS, 16, EVERY, OURS, 12, 160.0)  # told once
    assert not name.hear(OURS, 18, EVERY, OURS, 18, 200.0)
    assert name.text
    assert not name.hear(OURS, 20, EVERY, OURS, 20, 330.0)
    assert name.text == ""


def test_the_process_before_this_one_is_not() -> None:
    name = Namesake("web-1")
    assert not name.hear(THEIRS, 4, EVERY, OURS, 5, 100.0)  # before we wrote
    assert not name.hear(THEIRS, 7, EVERY, OURS, 5, 101.0)  # it is about to end
    assert not name.hear(THEIRS, 9, EVERY, OURS, 8, 103.0)
    assert not name.hear(OURS, 11, EVERY, OURS, 11, 131.0)
    assert name.text == ""


def test_each_restart_of_ours_is_another_session() -> None:
    name = Namesake("web-1")
    assert not name.hear(THEIRS, 7, EVERY, OURS, 5, 100.0)
    assert not name.hear(THIRD, 9, EVERY, OURS, 8, 140.0)
    assert name.text == ""


def test_a_machine_that_was_there_first_is_known_before_this_one_takes_the_name() -> None:
    name = Namesake("web-1", "abc")
    assert not name.look("", "", OURS)  # nobody
    assert not name.look("abc", THEIRS, OURS)  # this machine's process before, which was killed
    assert not name.look("", THEIRS, OURS)  # an older program, which does not say
    assert not name.was_first
    assert name.text == ""
    assert name.look("xyz", THEIRS, OURS)
    assert not name.look("xyz", THEIRS, OURS)  # told once
    assert name.was_first
    assert (
        "is called web-1, too, and was there first, so this one orders nothing until that one is "
        "gone (give each machine a name of its own: cluster.node)"
    ) in name.text
    assert not name.look("", "", OURS)
    assert not name.was_first
    assert name.text == ""


def test_one_that_comes_in_the_same_moment_is_known_by_what_it_is() -> None:
    name = Namesake("web-1", "abc")
    assert not name.hear(THEIRS, 7, EVERY, OURS, 5, 100.0, "abc")
    assert name.hear(THIRD, 9, EVERY, OURS, 8, 101.0, "xyz")
    assert not name.hear(THIRD, 11, EVERY, OURS, 10, 131.0, "xyz")  # told once
    assert "called web-1, too (give" in name.text


def test_the_machine_that_was_there_first_tells_of_one_that_waits_for_its_name() -> None:
    name = Namesake("web-1", "abc")
    assert not name.is_awaited({})
    assert not name.is_awaited({"abc": "2026-01-01"})  # this machine has waited itself
    assert name.text == ""
    assert name.is_awaited({"abc": "2026-01-01", "xyz": "2026-02-02"})
    assert not name.is_awaited({"xyz": "2026-02-02"})  # told once
    assert (
        "is called web-1, too, and has come later, so that one orders nothing until this one is "
        "gone; it runs since 2026-02-02 (give each machine a name of its own: cluster.node)"
    ) in name.text
    assert not name.was_first
    assert not name.is_awaited({})
    assert name.text == ""
    assert name.is_awaited({"xyz": ""})
    assert "since an unknown moment" in name.text
