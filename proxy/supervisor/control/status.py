"""The status document of ``status --json`` (interface.md), and the question that gathers it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from acme_client.timestamps import timestamp

from ...system.listeners import Listener
from ...version import VERSION
from ..process_table import Child


class Question:
    """Waits for a set of processes; ``done`` is called once, when all have answered or ended, or
    when somebody gives up."""

    def __init__(self, pids: set[int], done: Callable[[], None]) -> None:
        self._pids = pids
        self._done: Callable[[], None] | None = done

    def settle(self, pid: int) -> None:
        self._pids.discard(pid)
        if not self._pids:
            self.give_up()

    def give_up(self) -> None:
        done, self._done = self._done, None
        if done is not None:
            done()


def document(
    *,
    started_at: float,
    generation: int,
    workers: list[Child],
    listeners: tuple[Listener, ...],
    certificates: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "version": VERSION,
        "pid": os.getpid(),
        "uid": os.getuid(),
        "gid": os.getgid(),
        "started_at": timestamp(started_at),
        "generation": generation,
        "workers": [_worker(one) for one in workers],
        "listeners": [{"address": one.address, "kind": one.kind} for one in listeners],
        "certificates": certificates,
        "upstreams": _upstreams([one.stats.get("upstreams", []) for one in workers]),
    }


def _worker(child: Child) -> dict[str, Any]:
    return {
        "pid": child.pid,
        "generation": child.generation,
        "state": child.state,
        "connections": child.stats.get("connections", 0),
        "streams": child.stats.get("streams", 0),
        "requests": child.stats.get("requests", 0),
    }


def _upstreams(reports: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One entry a backend, over all workers: healthy where most of them say so, figures added."""
    entries: dict[str, dict[str, Any]] = {}
    votes: dict[str, list[bool]] = {}
    for report in reports:
        for one in report:
            entry = entries.setdefault(
                one["url"], {"url": one["url"], "healthy": True, "in_flight": 0, "failures": 0}
            )
            entry["in_flight"] += one["in_flight"]
            entry["failures"] += one["failures"]
            votes.setdefault(one["url"], []).append(one["healthy"])
    for url, entry in entries.items():
        entry["healthy"] = sum(votes[url]) * 2 >= len(votes[url])
    return list(entries.values())
