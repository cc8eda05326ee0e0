"""The last holder of an answer takes it back, and no holder takes it back from another one."""

from __future__ import annotations

import queue
import threading

from acme_client.challenges.holders import Holders


def test_the_last_takes_it_back() -> None:
    holders = Holders()
    holders.take("token", "one")
    holders.take("token", "another")
    with holders.leave("token", "one") as is_last:
        assert not is_last
    with holders.leave("token", "another") as is_last:
        assert is_last


def test_a_holder_that_left_already_takes_nothing_from_the_others() -> None:
    holders = Holders()
    holders.take("token", "one")
    for _ in range(2):
        with holders.leave("token", "another") as is_last:
            assert not is_last
    with holders.leave("token", "one") as is_last:
        assert is_last


def test_what_an_earlier_process_left_is_cleared_by_one_at_a_time() -> None:
    holders = Holders()
    with holders.leave("token", None) as is_last:
        assert is_last
        with holders.leave("token", None) as is_second:
            assert not is_second
        with holders.leave("another", None) as is_second:
            assert is_second
    with holders.leave("token", None) as is_last:
        assert is_last


def test_nobody_comes_to_need_it_while_it_is_taken_back() -> None:
    holders = Holders()
    said: queue.Queue[str] = queue.Queue()

    def take() -> None:
        said.put("wants")
        holders.take("token", "one")
        said.put("has")

    with holders.leave("token", None):
        thread = threading.Thread(target=take)
        thread.start()
        assert said.get(timeout=60) == "wants"
        thread.join(0.1)
        assert said.empty()
    assert said.get(timeout=60) == "has"
    thread.join()


def test_a_fault_while_it_is_taken_back_lets_the_others_go_on() -> None:
    holders = Holders()
    try:
        with holders.leave("token", None):
            raise OSError("the name server is away")
    except OSError:
        pass
    holders.take("token", "one")
    with holders.leave("token", "one") as is_last:
        assert is_last
