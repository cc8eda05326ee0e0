"""Clock, state directory and ports: facts in, findings out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from proxy.doctor.rules.machine import ClockFacts, PortFacts, StateFacts, clock, ports, state

GOOD = StateFacts(Path("/s"), True, owner=65534, mode=0o700, free=1 << 30, inodes=10_000)
FREE = PortFacts("http", ":80", 80, None, False, True)


@pytest.mark.parametrize(
    ("facts", "signs"),
    [
        (ClockFacts(0.5, "ca", True), ["ok"]),
        (ClockFacts(-5.0, "ca", None), ["ok"]),
        (ClockFacts(30.0, "ca", True), ["attention"]),
        (ClockFacts(-61.0, "ca", True), ["wrong"]),
        (ClockFacts(0.0, "ca", False), ["ok", "attention"]),
        (ClockFacts(None, "nobody", True), ["ok"]),
        (ClockFacts(None, "nobody", False), ["unknown"]),
    ],
)
def test_the_clock(facts: ClockFacts, signs: list[str]) -> None:
    assert [one.sign for one in clock(facts)] == signs


@pytest.mark.parametrize(
    ("ahead", "way"), [(3600.0, "3600 s ahead of"), (-3600.0, "3600 s behind")]
)
def test_which_way_the_clock_is_off(ahead: float, way: str) -> None:
    (finding,) = clock(ClockFacts(ahead, "ca", None))
    assert way in finding.text


@pytest.mark.parametrize(
    ("facts", "as_root", "as_user"),
    [
        (GOOD, ["ok"], ["ok"]),
        (replace(GOOD, inodes=None), ["ok"], ["ok"]),
        (StateFacts(Path("/s"), None), ["unknown"], ["unknown"]),
        (StateFacts(Path("/s"), False), ["ok"], ["ok"]),
        (StateFacts(Path("/s"), False, parent_usable=False), ["wrong"], ["wrong"]),
        (replace(GOOD, owner=7), ["attention"], ["wrong"]),
        (replace(GOOD, mode=0o755), ["attention"], ["attention"]),
        (replace(GOOD, writable=False), ["wrong"], ["wrong"]),
        (replace(GOOD, free=4096), ["wrong"], ["wrong"]),
        (replace(GOOD, inodes=3), ["wrong"], ["wrong"]),
    ],
)
def test_the_state_directory(facts: StateFacts, as_root: list[str], as_user: list[str]) -> None:
    assert [one.sign for one in state(facts, 65534, 0)] == as_root
    found = list(state(facts, 65534, 65534))
    assert [one.sign for one in found] == as_user
    assert all(one.step for one in found if one.sign != "ok")


@pytest.mark.parametrize(
    ("facts", "running", "sign"),
    [
        (FREE, False, "ok"),
        (FREE, True, "wrong"),
        (replace(FREE, may_bind=False), False, "wrong"),
        (replace(FREE, holder="nginx (pid 7)"), False, "wrong"),
        (replace(FREE, holder="nginx (pid 7)"), True, "wrong"),
        (replace(FREE, holder="ours", ours=True), True, "ok"),
        (replace(FREE, holder="systemd (pid 1)", handed_over=True), True, "ok"),
        (replace(FREE, holder="systemd (pid 1)", handed_over=True), False, "ok"),
        (replace(FREE, holder="a process of another user"), None, "unknown"),
        (FREE, None, "ok"),
    ],
)
def test_a_port(facts: PortFacts, running: bool | None, sign: str) -> None:
    (finding,) = ports((facts,), running=running, http_01=True, public=False)
    assert finding.sign == sign
    assert (finding.step is None) == (sign == "ok")


def test_other_ports_than_those_that_cas_come_to() -> None:
    other = replace(FREE, address=":8080", port=8080)
    assert len(list(ports((other,), running=False, http_01=True, public=True))) == 2
    assert len(list(ports((other,), running=False, http_01=False, public=True))) == 1
    assert len(list(ports((other,), running=False, http_01=True, public=False))) == 1


def test_other_programs_of_the_servers_user_are_named() -> None:
    many = tuple(f"php-fpm (pid {pid})" for pid in range(5))
    found = list(state(replace(GOOD, open_to=many), 65534, 0))
    assert [one.sign for one in found] == ["attention", "ok"]
    assert (
        "the keys in /s: php-fpm (pid 0), php-fpm (pid 1), php-fpm (pid 2) and 2 more"
        in found[0].text
    )
    assert "user: treehouse" in (found[0].step or "")
