"""What `serve` hands to the supervisor: everything that took privileges, or that was left to it."""

from __future__ import annotations

from collections.abc import Sequence

from acme_client.late_dataclass import dataclass

from ..config.model import Config
from ..containers.door import Door
from ..system.certificate_files import LoadedCertificate, OwnCertificates
from ..system.listeners import Listener
from ..system.state_lock import StateLock
from ..system.systemd import Notifier
from .log_file import AccessLogFile
from .reload.config_source import ConfigSource
from .upgrade.handoff import Handoff, Program


@dataclass(frozen=True, slots=True)
class Startup:
    """``source`` is where ``config`` was read from. ``certificates`` were read by ``own``, which
    reads them again at a reload. ``program``: how to start what is on disk later. ``started_as``:
    the uid of the first supervisor. ``sandbox``: what this process is confined to, in words.
    ``handoff``: what a predecessor has left, None at an ordinary start. ``door``: what
    opens Docker's socket, where containers have sites."""

    config: Config
    source: ConfigSource
    listeners: tuple[Listener, ...]
    access_log: AccessLogFile
    certificates: Sequence[LoadedCertificate]
    own: OwnCertificates
    lock: StateLock
    notifier: Notifier
    program: Program
    started_as: int
    sandbox: str
    handoff: Handoff | None
    door: Door | None = None
