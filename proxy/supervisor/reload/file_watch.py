"""Notices when files on the disk differ from what the running processes have read.

Three things change without anybody touching the configuration's file. The entries of a sites
directory are configuration themselves. A name can come to lead elsewhere: a deployment turns the
link that a document root goes by, resolv.conf is replaced; a confined process keeps the directory
that it was given and may not open another (see `sandbox`). And a certificate of the operator's own
is renewed by another program. Each of them takes a new generation.

Where the configuration says ``watch``, its own file counts as well, with those that it names.

Files are written piece by piece, and a certificate and its key one after the other: a change is
reported when no file has changed since the look before, all files at once. A faulty file is
reported once, and again when it has changed again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ... import sandbox
from ...config.model import Config
from ...config.referenced_files import Mark, mark, referred
from ...config.sources.include import matches
from ...config.sources.sites_dir import Signature, signature

_View = tuple[Signature | None, dict[Path, tuple[int, int] | None]]


class FileWatch:
    """Call `changed` every second; `reread` sets the configuration that is compared."""

    def __init__(self, config: Config) -> None:
        self._adopt(config)
        self._seen = self._look()
        self._files = self._files_before = self._marks()

    def reread(self, read: Callable[[], Config]) -> Config:
        """Return what ``read`` returns. A file that changes meanwhile is noticed afterwards."""
        before = self._config.sites_dir
        known = self._marks()
        sites, _footing = self._look()
        self._adopt(read())
        present = self._marks()
        self._files = {path: known.get(path, now) for path, now in present.items()}
        fresh, footing = self._look()
        self._seen = sites if self._config.sites_dir == before else fresh, footing
        return self._config

    def changed(self) -> str | None:
        """What has changed since the last call, None for nothing; each change is reported once."""
        before, self._seen = self._seen, self._look()
        if self._seen[0] != before[0]:
            return f"{self._config.sites_dir} has changed"
        turned = sorted(map(str, dict(self._seen[1].items() ^ before[1].items())))
        if turned:
            return f"{', '.join(turned)}: leads elsewhere now"
        files, last = self._marks(), self._files_before
        self._files_before = files
        if files != self._files and files == last:
            changed = sorted(path for path, now in files.items() if now != self._files.get(path))
            self._files = files
            return f"{', '.join(map(str, changed))}: changed"
        return None

    def _adopt(self, config: Config) -> None:
        self._config = config
        self._readable = sandbox.policies(config)["worker"]
        self._named = _named(config)

    def _marks(self) -> dict[Path, Mark]:
        """What the files that matter are now."""
        further = matches(self._config.include) if self._config.watch else ()
        return {path: mark(path) for path in (*self._named, *further)}

    def _look(self) -> _View:
        sites_dir = self._config.sites_dir
        sites = signature(sites_dir) if sites_dir is not None else None
        return sites, sandbox.footing(self._readable)


def _named(config: Config) -> tuple[Path, ...]:
    """The files that matter and have a name; a walk through the whole configuration."""
    own = [one for site in config.sites for one in site.certificates]
    paths = [path for one in own for path in (one.chain, one.key)]
    if config.watch:
        paths += [*referred(config), *([config.source] if config.source else [])]
    return tuple(dict.fromkeys(paths))
