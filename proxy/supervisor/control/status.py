"""The status document of ``status --json`` (interface.md), and the question that gathers it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from acme_client.status import CertificateStatus, ClusterStatus
from acme_client.text import timestamp

from ...config.model import Site
from ...ipc.documents import Health, ProviderStatus, Status, UpstreamStatus, WorkerStatus
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
    config: Path | None,
    workers: list[Child],
    listeners: tuple[Listener, ...],
    certificates: list[CertificateStatus],
    unwanted: list[str],
    providers: list[ProviderStatus],
    cluster: ClusterStatus | None,
    sites: tuple[Site, ...],
) -> Status:
    return {
        "version": VERSION,
        "pid": os.getpid(),
        "uid": os.getuid(),
        "gid": os.getgid(),
        "started_at": timestamp(started_at),
        "generation": generation,
        "config": None if config is None else str(config),
        "workers": [_worker(one) for one in workers],
        "listeners": [{"address": one.address, "kind": one.kind} for one in listeners],
        "certificates": certificates,
        "unwanted": unwanted,
        "upstreams": upstreams(workers),
        "providers": providers,
        "cluster": cluster,
        "sites": [
            {"names": list(one.names), "source": one.origins.get("names", "")} for one in sites
        ],
    }


def _worker(child: Child) -> WorkerStatus:
    stats = child.stats
    return {
        "pid": child.pid,
        "generation": child.generation,
        "state": child.state,
        "connections": stats["connections"] if stats else 0,
        "streams": stats["streams"] if stats else 0,
        "requests": stats["requests"] if stats else 0,
    }


def upstreams(workers: Iterable[Child]) -> list[UpstreamStatus]:
    """Return one entry for each backend, over all workers: figures are added, and workers that have
    tried the backend vote on its health."""
    entries: dict[str, UpstreamStatus] = {}
    votes: dict[str, list[Health]] = {}
    for stats in (child.stats for child in workers if child.stats is not None):
        for one in stats["upstreams"]:
            votes.setdefault(one["url"], []).append(one["healthy"])
            entry = entries.get(one["url"])
            if entry is None:
                entries[one["url"]] = one.copy()
                continue
            entry["in_flight"] += one["in_flight"]
            entry["failures"] += one["failures"]
            entry["last_error"] = entry["last_error"] or one["last_error"]
    for url, entry in entries.items():
        entry["healthy"] = _vote(votes[url])
    return list(entries.values())


def _vote(votes: list[Health]) -> Health:
    """What most of the workers say that have tried the backend."""
    tried = [one for one in votes if one != "untried"]
    if not tried:
        return "untried"
    return "yes" if tried.count("yes") * 2 >= len(tried) else "no"
