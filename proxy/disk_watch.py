"""Whether what the configuration leads to on disk is still what the running processes know.

Three things change without anybody touching the configuration's file. The entries of a sites
directory are configuration themselves. A name can come to lead elsewhere: a deployment turns the
link that a document root goes by, resolv.conf is replaced; a confined process keeps the directory
that it was given and may not open another (see `sandbox`). And a certificate that people bring
along is renewed by whoever looks after it. A new generation has to be born for any of them.

A certificate and its key are two files, changed one after the other: they are told when they have
not changed for one look.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from . import sandbox
from .config.model import Config
from .config.sites_dir import Signature, signature

_View = tuple[Signature | None, object]


class DiskWatch:
    """`changed` is asked every second or so; `rereading` tells which configuration is in force."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._seen = self._look()
        self._files = self._files_before = _files(config)

    def rereading(self, read: Callable[[], Config]) -> Config:
        """What ``read`` gives. What changes while it reads is still found afterwards."""
        before = self._config.sites_dir
        known = _files(self._config)
        sites, _footing = self._look()
        self._config = read()
        present = _files(self._config)
        self._files = {path: known.get(path, now) for path, now in present.items()}
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
        files, last = _files(self._config), self._files_before
        self._files_before = files
        if files != self._files and files == last:
            self._files = files
            return "a certificate's file has changed"
        return None

    def _look(self) -> _View:
        config = self._config
        sites = signature(config.sites_dir) if config.sites_dir is not None else None
        return sites, sandbox.footing(sandbox.policies(config)["worker"])


def _files(config: Config) -> dict[Path, tuple[int, int, int] | None]:
    """What the files of people's own certificates are now; None for one that is out of sight."""
    found: dict[Path, tuple[int, int, int] | None] = {}
    for site in config.sites:
        if site.certificate is not None:
            for path in (site.certificate.chain, site.certificate.key):
                try:
                    info = os.stat(path)
                except OSError:
                    found[path] = None
                else:
                    found[path] = info.st_ino, info.st_size, info.st_mtime_ns
    return found
