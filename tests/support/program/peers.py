"""Other people's programs beside ours: started, awaited, ended, each with a log of its own."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from . import listening, log_capture

_STARTS_WITHIN = 60.0  # seconds; usually a tenth of one
_ENDS_WITHIN = 30.0
_PACE = 0.01


class Peer:
    """Running when it is made, and ``ready`` was true of it; else it has been ended, and that is a
    RuntimeError with its log."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        ready: Callable[[Peer], bool],
        environment: Mapping[str, str] | None = None,
        within: float = _STARTS_WITHIN,
    ) -> None:
        self.title = log.name.removesuffix(".log")
        self._log = log
        self._last_words = ""
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
            )
        log_capture.appear(self)
        deadline = time.monotonic() + within
        while not ready(self):
            if self.is_over() or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.title} is not ready: {self.text()}")
            # What another program has done has no event that could be awaited here.
            time.sleep(_PACE)

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._last_words = self.text()

    def is_over(self) -> bool:
        return self._process.poll() is not None

    def text(self) -> str:
        try:
            return self._log.read_text(errors="replace")
        except FileNotFoundError:  # the folder goes when all is over
            return self._last_words

    def listens(self, *ports: int) -> bool:
        """Whether it, or anybody in its network namespace, listens on all these TCP ports."""
        return listening.ports(self.pid).issuperset(ports)
