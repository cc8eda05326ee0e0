"""Where the configuration comes from: the options of the command line and the files they name."""

from __future__ import annotations

import gc

from ...config.load import Options, load
from ...config.model import Config
from . import unchanged
from .file_watch import FileWatch


class ConfigSource:
    """``started_as``: the uid of the first supervisor, which decides on defaults. ``config``: what
    has been read from this source already, and is in force."""

    def __init__(self, options: Options, started_as: int, config: Config) -> None:
        self._options = options
        self._started_as = started_as
        self._watch = FileWatch(config)

    def read(self) -> Config:
        """The configuration as it stands on disk now. Raises `ConfigurationFaults`."""
        # Of thousands of sites nearly all that is made stays: as at the start, it is not looked
        # through for garbage meanwhile.
        enabled = gc.isenabled()
        gc.disable()
        try:
            return load(self._options, now_uid=self._started_as)
        finally:
            if enabled:
                gc.enable()

    def reread(self, present: Config) -> Config:
        """The same for a reload: `changed` compares with what was read here. What is as it is in
        ``present`` takes no memory twice. Raises `ConfigurationFaults`."""
        return self._watch.reread(lambda: unchanged.shared(present, self.read()))

    def changed(self) -> str | None:
        """What differs on disk from the configuration in force, for people; None for nothing. Each
        change is reported once."""
        return self._watch.changed()
