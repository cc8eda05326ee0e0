"""Objects that the lane makes as copies are those that their classes make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from proxy.accelerated import copies
from proxy.handlers.upstream import attempt, early
from proxy.handlers.upstream.attempt import Attempt
from proxy.handlers.upstream.early import BackendAnswer
from proxy.protocol import message
from proxy.protocol.h1 import listening, reader, writer
from proxy.protocol.h1.listening import Listening
from proxy.protocol.h1.reader import RequestReader
from proxy.protocol.message import Connection, Response
from proxy.transport import deadlines, tls_stream
from proxy.transport.deadlines import Timeouts
from proxy.worker import lives, tls_arrival
from proxy.worker.lives import Life
from proxy.worker.tls_arrival import Arrival
from support.accelerated import lane, leaked

UNSET = object()


def facts(made: object) -> dict[str, object]:
    slots = [name for base in type(made).__mro__ for name in getattr(base, "__slots__", ())]
    return {name: getattr(made, name, UNSET) for name in slots}


def makers() -> list[tuple[Callable[..., Any], Callable[..., Any], int]]:
    """What a class and a lane make, and of how many values."""
    new_attempt, new_response = attempt.in_c(lane())
    return [
        (Attempt, new_attempt, 7),
        (Response, new_response, 5),
        (BackendAnswer, early.in_c(lane()), 3),
        (Connection, message.in_c(lane()), 4),
        (Timeouts, deadlines.in_c(lane()), 2),
        (RequestReader, reader.in_c(lane()), 4),
        (writer.accelerated(lane()), writer.in_c(lane()), 3),
        (Listening, listening.in_c(lane()), 11),
        (Arrival, tls_arrival.in_c(lane()), 6),
        (Life, lives.in_c(lane()), 3),
    ]


@pytest.mark.parametrize("which", range(10))
def test_an_object_is_like_pythons(which: int) -> None:
    python, in_c, count = makers()[which]
    values = [object() for _ in range(count)]
    made, expected = in_c(*values), python(*values)
    assert type(made).__qualname__ == type(expected).__qualname__
    assert facts(made) == facts(expected)
    with pytest.raises(TypeError):
        in_c(*values[1:])


class Epoll:
    """Stands for `Deadlines`, a socket and its event loop."""

    def __init__(self) -> None:
        self.added: list[tuple[object, ...]] = []

    def add(self, *given: object) -> None:
        self.added.append(given)

    def fileno(self) -> int:
        return 7


def test_a_clients_stream_is_like_pythons_and_watched() -> None:
    anything: Any = Epoll()
    made = [
        make(anything, 7, anything, anything)
        for make in (tls_stream._of_client, tls_stream.in_c(lane()))
    ]
    assert facts(made[0]) == facts(made[1])
    assert anything.added == [(one, 7, anything, True) for one in made]


class Parent:
    __slots__ = ("_a",)


class Child(Parent):
    __slots__ = ("b", "c")

    def __init__(self, b: object) -> None:
        self._a: object = None
        self.b = b


def test_slots_of_parents_are_copied_and_empty_ones_stay_empty() -> None:
    made = copies(lane(), Child(1), "b")("given")
    assert facts(made) == {"_a": None, "b": "given", "c": UNSET}
    made.c = 3
    assert not hasattr(copies(lane(), Child(1), "b")("again"), "c")


@pytest.mark.parametrize("shared", [[], {}, set(), object.__new__(Child), lambda: None])
def test_nothing_that_can_be_changed_is_shared(shared: object) -> None:
    pattern = Child(1)
    pattern._a = shared
    with pytest.raises(TypeError, match="not shared"):
        copies(lane(), pattern, "b")
    assert copies(lane(), pattern, "_a")(2)._a == 2


def test_a_class_that_is_more_than_its_slots_is_refused() -> None:
    class Loose(Parent):
        pass

    class Weak(Parent):
        __slots__ = ("__weakref__",)

    for pattern, names in ((Loose(), ("_a",)), (Weak(), ("_a",)), (1, ()), (Child(1), ("b",))):
        with pytest.raises(TypeError):
            lane().maker(pattern, names, ())
    with pytest.raises((TypeError, AttributeError)):
        lane().maker(Child(1), ("b", "c", "d"), ())
    for wrong in ((), (1, 2, 3), (Child(1), ("b", 1), ("_a",)), (Child(1), ("b",) * 49, ())):
        with pytest.raises(TypeError):
            lane().maker(*wrong)  # type: ignore[call-arg, arg-type] # the point


def test_nothing_is_kept_and_nothing_is_lost() -> None:
    pattern, given = Child(1), object()
    make = copies(lane(), pattern, "b")
    watched = [None, pattern, given, Child, make]

    def all_of_it() -> None:
        make(given)
        copies(lane(), pattern, "b")
        for wrong in (make, lambda: lane().maker(pattern, ("b",), ("c",))):
            try:
                wrong()
            except TypeError:
                continue
            raise AssertionError("no error")

    assert leaked(watched, all_of_it, 1000) == []
