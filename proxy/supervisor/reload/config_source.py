"""Where the configuration comes from: the options of the command line and the files they name."""

from __future__ import annotations

from ...config.model import Config
from ...config.options import Options
from ...system import config_process
from ...system.certificate_files import OwnCertificates
from ...system.config_process import Found
from .file_watch import FileWatch


class ConfigSource:
    """``started_as``: the uid of the first supervisor, which decides on defaults. ``config``: what
    has been read from this source already, and is in force. ``own`` has the certificates that were
    read with it."""

    def __init__(
        self, options: Options, started_as: int, config: Config, own: OwnCertificates
    ) -> None:
        self._options = options
        self._started_as = started_as
        self._own = own
        self._watch = FileWatch(config)

    def read(self, present: Config) -> Found:
        """The configuration as it stands on disk now, and its certificates, whose bundles are the
        caller's. What is as it is in ``present`` takes no memory twice. Raises
        `ConfigurationFaults`, `ReadingEnded`, and `OSError`."""
        return config_process.read(self._options, self._started_as, self._own.present, present)

    def reread(self, present: Config) -> Found:
        """The same for a reload: `changed` compares with what was read here."""
        found: list[Found] = []

        def config() -> Config:
            found.append(self.read(present))
            return found[0].config

        self._watch.reread(config)
        return found[0]

    def changed(self) -> str | None:
        """What differs on disk from the configuration in force, for people; None for nothing. Each
        change is reported once."""
        return self._watch.changed()
