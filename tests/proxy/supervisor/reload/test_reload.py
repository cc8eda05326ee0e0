"""A reload that fails: whatever the reason, what serves goes on, and nothing is left open."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.config.load import Options, load
from proxy.config.model import Address, Config, Listen
from proxy.config.syntax.faults import ConfigurationFaults, Fault, Origin
from proxy.supervisor.lifecycle import Lifecycle
from proxy.supervisor.reload.generations import Generation, Generations
from proxy.supervisor.reload.reload import Reloader
from proxy.supervisor.timers import Timers
from proxy.system.certificate_files import CertificateUnusable, LoadedCertificate, OwnFiles
from proxy.system.config_process import Found, ReadingEnded


class World:
    """The supervisor's parts that a reload deals with, played by the test."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.wanted: Callable[[], Config] = lambda: config
        self.fault: Exception | None = None  # of the certificates in files
        self.names: frozenset[str] = frozenset()
        self.told: list[str] = []
        self.answers: list[dict[str, Any]] = []
        self.outcomes: list[bool] = []
        self.started: list[int] = []
        self.generations = Generations(config, ())
        self.generations.serving.state = "serving"
        self.reloader = Reloader(
            Lifecycle(),
            *[self] * 2,  # type: ignore[arg-type] # no processes and no registry
            self.generations,
            Timers(),
            *[self] * 8,  # type: ignore[arg-type] # everything else, as far as it is needed
        )

    # The source of the configuration, the spawner, the overview

    def reread(self, _present: Config) -> Found:
        return Found(self.wanted(), OwnFiles())

    def start_workers(self, generation: Generation) -> None:
        self.started.append(generation.number)

    def reloaded(self, refusal: str | None) -> None:
        self.outcomes.append(refusal is None)

    # The service manager's end, and certificates in files

    def reloading(self) -> None:
        self.told.append("reloading")

    def ready(self) -> None:
        self.told.append("ready")

    def take(self, own: OwnFiles) -> Sequence[LoadedCertificate]:
        if self.fault is not None:
            raise self.fault
        return own.loaded

    def from_files(self, certificates: Sequence[LoadedCertificate]) -> None:
        assert not certificates

    def reload(self) -> dict[str, Any]:
        self.reloader.reload("the test asks", self.answers.append)
        return self.answers.pop() if self.answers else {}


@pytest.fixture
def world(tmp_path: Path) -> World:
    options = Options(domain=("a.test",), backend=("http://127.0.0.1:1",), state=tmp_path / "state")
    config = load(options, now_uid=os.getuid())
    return World(replace(config, listen=Listen((), (Address("127.0.0.1", 0),))))


def sockets() -> int:
    links = [f"/proc/self/fd/{one}" for one in os.listdir("/proc/self/fd")]
    return sum(os.path.exists(one) and os.readlink(one).startswith("socket:") for one in links)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            ConfigurationFaults([Fault(Origin("c.yaml", 3, 1), "", "nonsense", "leave it out")]),
            "nonsense",
        ),
        (OSError(24, "Too many open files"), "it cannot be put in force: OSError(24"),
        (RuntimeError("a slip of ours"), "a slip of ours"),
        (ReadingEnded(137), "ended with status 137"),
    ],
)
def test_what_cannot_be_read_changes_nothing(world: World, fault: Exception, said: str) -> None:
    def wanted() -> Config:
        raise fault

    world.wanted = wanted
    answer = world.reload()
    assert answer["ok"] is False
    assert said in answer["error"]
    assert world.told == ["reloading", "ready"], "the service manager waits for no end any more"
    assert world.outcomes == [False]
    assert not world.started
    assert not world.reloader.under_way


@pytest.mark.parametrize("fault", [CertificateUnusable("no key"), OSError(24, "too many")])
def test_sockets_that_were_opened_for_nothing_are_closed(world: World, fault: Exception) -> None:
    before = sockets()
    world.fault = fault
    assert world.reload()["ok"] is False
    assert sockets() == before
    world.fault = None
    assert world.reload() == {}, "its workers are on their way"
    assert world.reloader.under_way
    assert world.started == [2]
    assert sockets() == before + 1
    world.generations.close_sockets()
