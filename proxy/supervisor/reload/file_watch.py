"""Whether what the configuration leads to on disk is still what the running processes know.

Three things change without anybody touching the configuration's file. The entries of a sites
directory are configuration themselves. A name can come to lead elsewhere: a deployment turns the
link that a document root goes by, resolv.conf is replaced; a confined process keeps the directory
that it was given and may not open another (see `sandbox`). And a certificate that people bring
along is renewed by whoever looks after it. A new generation has to be born for any of them.

Where the configuration says ``watch``, its own file counts as well, with those that it names.

Files are written piece by piece, and a certificate and its key one after the other: they are told
when none has changed for one look, all of them once. What the reload makes of them is not asked: a
faulty file is told about once, and again when it has changed again.
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
    """`changed` is asked every second or so; `reread` tells which configuration is in force."""

    def __init__(self, config: Config) -> None:
        self._adopt(config)
        self._seen = self._look()
        self._files = self._files_before = self._marks()

    def reread(self, read: Callable[[], Config]) -> Config:
        """What ``read`` gives. What changes while it reads is still found afterwards."""
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
        """What has changed since the last time, None for nothing; each change is told once."""
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
