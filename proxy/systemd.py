"""Signatures; the work follows."""

from __future__ import annotations

from .listeners import Listener


def inherited_listeners() -> tuple[Listener, ...]:
    raise NotImplementedError


class Notifier:
    """``watchdog_interval``: seconds between `watchdog` calls that systemd is content with."""

    watchdog_interval: float | None

    def ready(self) -> None: ...
    def status(self, text: str) -> None: ...
    def reloading(self) -> None: ...
    def stopping(self) -> None: ...
    def main_pid(self, pid: int) -> None: ...
    def watchdog(self) -> None: ...
