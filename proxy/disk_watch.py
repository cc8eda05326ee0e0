"""Whether what the configuration leads to on disk is still what the running processes know.

Two things change without anybody touching the configuration's file. The entries of a sites
directory are configuration themselves. And a name can come to lead elsewhere: a deployment turns
the link that a document root goes by, resolv.conf is replaced. A confined process keeps the
directory that it was given and may not open another (see `sandbox`), so that a new generation has
to be born for either.
"""

from __future__ import annotations

from collections.abc import Callable

from . import sandbox
from .config.model import Config
from .config.sites_dir import Signature, signature

_View = tuple[Signature | None, object]


class DiskWatch:
    """`changed` is asked every second or so; `rereading` tells which configuration is in force."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._seen = self._look()

    def rereading(self, read: Callable[[], Config]) -> Config:
        """What ``read`` gives. What changes while it reads is still found afterwards."""
        before = self._config.sites_dir
        sites, _footing = self._look()
        self._config = read()
        fresh, footing = self._look()
        self._seen = sites if self._config.sites_dir == before else fresh, footing
        return self._config

    def changed(self) -> str | None:
        """What has changed since the last time, None for nothing; each change is told once."""
        before, self._seen = self._seen, self._look()
        if self._seen[0] != before[0]:
            return f"{self._config.sites_dir} has changed"
        if self._seen[1] != before[1]:
            return "a directory or file that workers read leads elsewhere now"
        return None

    def _look(self) -> _View:
        config = self._config
        sites = signature(config.sites_dir) if config.sites_dir is not None else None
        return sites, sandbox.footing(sandbox.policies(config)["worker"])
