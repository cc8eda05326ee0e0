"""What the watcher is told at its start. Apart from the watcher itself, which only its own process
loads."""

from __future__ import annotations

from acme_client.late_dataclass import dataclass

from ..config.model import Config
from .door import Door


@dataclass(frozen=True, slots=True)
class WatcherInit:
    """``door`` opens a unix socket; None where the engine is reached by TCP."""

    config: Config
    url: str
    door: Door | None
