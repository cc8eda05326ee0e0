"""The table of generations: who serves, who drains, whose sockets are closed."""

import os
import socket
from pathlib import Path

import pytest

from proxy.config.load import Options, load
from proxy.config.model import Config
from proxy.supervisor.reload.generations import DRAINING_MOST, Generations
from proxy.supervisor.roles import ROLES, WORKER, AnyRole
from proxy.system.listeners import Listener


@pytest.fixture
def config(tmp_path: Path) -> Config:
    options = Options(domain=("a.test",), backend=("http://127.0.0.1:1",), state=tmp_path / "state")
    return load(options, now_uid=os.getuid())


def listener() -> Listener:
    return Listener("127.0.0.1:0", "https", socket.socket())


def test_the_first_one_counts_as_serving_while_it_starts(config: Config) -> None:
    generations = Generations(config, ())
    assert generations.serving.state == "starting"
    assert generations.serving.number == 1


def test_numbers_go_on_after_those_of_a_predecessor(config: Config) -> None:
    assert Generations(config, (), before=7).serving.number == 8


def test_the_present_one_serves_until_the_next_one_does(config: Config) -> None:
    generations = Generations(config, ())
    first = generations.serving
    first.state = "serving"
    second = generations.add(config, ())
    assert generations.serving is first
    assert generations.newest is second
    second.state = "serving"
    assert generations.serving is second
    assert generations.before(second) == [first]


def test_each_has_ticket_keys_of_its_own(config: Config) -> None:
    generations = Generations(config, ())
    assert generations.add(config, ()).base is not generations.serving.base


def test_a_socket_that_both_have_stays_open(config: Config) -> None:
    shared, left = listener(), listener()
    generations = Generations(config, (shared, left))
    first = generations.serving
    second = generations.add(config, (shared,))
    assert generations.close_sockets_of(first, kept_by=second) == [left]
    assert left.sock.fileno() == -1
    assert shared.sock.fileno() != -1
    shared.sock.close()


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_child_has_the_listeners_of_its_generation_if_it_is_a_worker(
    config: Config, role: AnyRole
) -> None:
    shared, left, fresh = listener(), listener(), listener()
    generations = Generations(config, (shared, left))
    second = generations.add(config, (shared, fresh))
    generations.close_in_child(role, second.number)
    still_open = [one for one in (shared, left, fresh) if one.sock.fileno() != -1]
    assert still_open == ([shared, fresh] if role is WORKER else [])
    generations.close_sockets()


def test_the_oldest_give_way_when_too_many_drain(config: Config) -> None:
    generations = Generations(config, ())
    first = generations.serving
    for _ in range(DRAINING_MOST + 1):
        generations.newest.state = "draining"
        generations.add(config, ())
    assert generations.too_many == [first]
    generations.remove(first)
    assert generations.too_many == []
    assert generations.find(first.number) is None
