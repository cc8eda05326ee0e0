"""What a start would find out beyond the faults of the configuration, without a start.

`check` asks here after the configuration has been found valid: the order, the words and the exit
statuses are those of `serve`. Nothing is changed. A server that runs on the same state directory is
taken for the one that is checked: what it holds is no obstacle.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..config.model import Config
from ..exit_status import CANNOT_BIND, USAGE
from ..ipc.control_client import NotRunning, ask
from .listeners import CannotBind, Listener, try_listeners
from .state_directory import StateUnusable, prepare

_PATIENCE = 5.0  # seconds for the running server to say which processes it has


def obstacles(config: Config, present: tuple[Listener, ...]) -> Iterator[tuple[int, str]]:
    """Each with the exit status that a start would end with. ``present`` are sockets that were
    handed over."""
    try:
        try_listeners(config.listen, present, config.admin, _processes_of_server(config))
    except CannotBind as error:
        yield CANNOT_BIND, str(error)
    try:
        prepare(config.state, config.uid, config.gid, touch=False)
    except StateUnusable as error:
        yield USAGE, str(error)


def _processes_of_server(config: Config) -> frozenset[int]:
    """Those of the server that runs on this state directory, if there is one and it answers."""
    try:
        status = ask(config.state, {"command": "status"}, _PATIENCE)
    except (NotRunning, OSError, ValueError):
        return frozenset()
    workers = [one["pid"] for one in status.get("workers", ())]
    return frozenset({status.get("pid", 0), *workers})
