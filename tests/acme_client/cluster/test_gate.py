"""The engine as the lifecycle asks it: closed, read only, or failing, it is unreachable, and nothing
waits."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from acme_client.cluster.gate import Gate
from acme_client.storage.etcd.api import Refused
from acme_client.storage.store import Conflict, Edit, Full, Unreachable, Unreadable

READS: list[Callable[[Gate], object]] = [
    lambda gate: gate.list("certificates"),
    lambda gate: gate.load("certificates/a"),
    lambda gate: gate.previous("certificates/a"),
    lambda gate: gate.mark("certificates/a"),
    lambda gate: gate.watch("certificates"),
    lambda gate: gate.is_over("x"),
]
WRITES: list[Callable[[Gate], object]] = [
    lambda gate: gate.store("certificates/a", {"x": b""}),
    lambda gate: gate.change([Edit("certificates/a")]),
    lambda gate: gate.append("certificates/a", "x", b""),
    lambda gate: gate.delete("certificates/a"),
    lambda gate: gate.lock("certificates/a", 1.0),
    lambda gate: gate.session(),
]


class Engine:
    """Answers everything, or raises ``fault``."""

    def __init__(self) -> None:
        self.calls = 0
        self.fault: OSError | None = None

    def __getattr__(self, _name: str) -> Any:
        def call(*_: object) -> None:
            self.calls += 1
            if self.fault is not None:
                raise self.fault

        return call


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def failed() -> list[bool]:
    return []


@pytest.fixture
def gate(engine: Any, failed: list[bool]) -> Gate:
    return Gate(engine, lambda: failed.append(True), lambda: None)


def test_it_is_closed_until_it_is_opened(gate: Gate, engine: Engine, failed: list[bool]) -> None:
    for call in (*READS, *WRITES):
        with pytest.raises(Unreachable, match="has not been reached yet"):
            call(gate)
    assert (engine.calls, failed) == (0, [])
    gate.closed = ""
    for call in (*READS, *WRITES):
        call(gate)
    assert engine.calls == len(READS) + len(WRITES)


def test_beside_a_newer_program_it_is_read_only(gate: Gate, engine: Engine) -> None:
    gate.closed, gate.read_only = "", "the cluster is used by a newer version"
    for call in READS:
        call(gate)
    for call in WRITES:
        with pytest.raises(Unreachable, match="newer version"):
            call(gate)
    assert engine.calls == len(READS)


@pytest.mark.parametrize(
    "fault",
    [Full(errno.ENOSPC, "its quota is used up"), Refused("permission denied", 7)],
    ids=["full", "refused"],
)
def test_what_the_engine_does_not_do_counts_as_away(
    gate: Gate, engine: Engine, failed: list[bool], fault: OSError
) -> None:
    gate.closed, engine.fault = "", fault
    for number, call in enumerate((*READS, *WRITES), 1):
        with pytest.raises(Unreachable, match=str(fault.strerror)):
            call(gate)
        assert len(failed) == number


@pytest.mark.parametrize("fault", [Conflict(1, "x"), Unreadable(1, "x")], ids=["conflict", "seal"])
def test_what_is_said_of_a_document_is_said_on(
    gate: Gate, engine: Engine, failed: list[bool], fault: OSError
) -> None:
    gate.closed, engine.fault = "", fault
    with pytest.raises(type(fault)):
        gate.load("certificates/a")
    assert failed == []


def test_where_there_is_none_to_ask_nothing_is_asked() -> None:
    gate = Gate(None, lambda: None, lambda: None)
    gate.closed = ""
    with pytest.raises(Unreachable):
        gate.load("certificates/a")
    assert not gate.is_ours("x")
