"""From what was read to a serving supervisor: the only code that does something as root.

bind → prepare the state → take what only root could read → DROP → supervise

A program that a running server starts to replace itself (`upgrade`) does the same with what it is
handed: it has no privileges to begin with, and takes the sockets instead of binding.

The order is the point. Nothing is bound before the whole configuration has been found valid;
nothing is read from the network at any moment; and after `privileges.drop` there is no way back,
which that function proves or ends the program. A fault up to there is explained and fatal: exit
status 2 for the configuration, 3 for what could not be bound or dropped.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from . import log as logs
from . import open_files
from .config.checks import descriptors
from .config.model import Config
from .config.options import Options
from .config.syntax.faults import ConfigurationFaults
from .containers.door import Door, opened
from .exit_status import CANNOT_BIND, USAGE
from .sandbox import SandboxUnavailable, describe, policies
from .sandbox import apply as confine
from .supervisor import wiring
from .supervisor.log_file import AccessLogFile, open_access_log
from .supervisor.reload.config_source import ConfigSource
from .supervisor.startup import Startup
from .supervisor.upgrade.handoff import Handoff, Program
from .system import config_process, preload, privileges, systemd
from .system.certificate_files import CertificateUnusable, OwnCertificates
from .system.config_process import Found
from .system.listeners import CannotBind, Listener, open_listeners
from .system.state_directory import StateUnusable, prepare
from .system.state_lock import StateLock

log = logging.getLogger("treehouse.boot")


def serve(
    found: Found,
    options: Options,
    own: OwnCertificates,
    program: Program,
    started_as: int,
    handoff: Handoff | None,
) -> int:
    """Serve until told to stop; returns the exit status. ``options`` are what ``found`` was read
    by; ``own`` keeps the certificates."""
    config = found.config
    logs.set_up("supervisor", config.log.format, config.log.level, starting=True)
    for notice in config.notices:
        log.warning("%s", logs.Composed(notice))
    door = _door(config, handoff)
    notifier = systemd.Notifier(handoff.manager if handoff else None)
    try:
        present = handoff.listeners if handoff else systemd.inherited_listeners()
        listeners = open_listeners(config.listen, present, config.admin)
        for listener in present:
            if listener not in listeners:
                listener.sock.close()
        for line in prepare(config.state, config.uid, config.gid):
            log.info("%s", line)
        certificates = own.take(found.own)
        access_log = open_access_log(config)
    except CannotBind as error:
        log.error("%s", logs.Composed(error))
        return CANNOT_BIND
    except (StateUnusable, CertificateUnusable, OSError) as error:
        log.error("%s", error)
        return USAGE
    open_files.raise_to(descriptors.wanted(config))  # the hard limit too, where we still may
    if os.geteuid() == 0:
        preload.while_root(
            config.uid, config.gid, lambda: _read_here(options, started_as), config.filter_code
        )
    _drop(config, listeners, handoff)
    try:
        lock = _lock(config, handoff)
    except StateUnusable as error:
        log.error("%s", error)
        return USAGE
    preload.everything()
    policy = policies(config)["supervisor"]
    sandbox = f"{config.sandbox}\n{describe({'supervisor': policy})}"
    try:
        if handoff is None or handoff.sandbox != sandbox:
            confined = confine(policy, config.sandbox)
            for what in (*confined.missing, *confined.skipped):
                log.warning("sandbox: %s", what)
    except SandboxUnavailable as error:
        log.error("%s", error)
        return CANNOT_BIND
    logs.set_up("supervisor", config.log.format, config.log.level)
    startup = Startup(
        config=config,
        source=ConfigSource(options, started_as, config, own),
        listeners=listeners,
        access_log=AccessLogFile(config, access_log, open_access_log),
        certificates=certificates,
        own=own,
        lock=lock,
        notifier=notifier,
        program=program,
        started_as=started_as,
        sandbox=sandbox,
        handoff=handoff,
        door=door,
    )
    return wiring.supervisor(startup).run()


def _read_here(options: Options, started_as: int) -> None:
    """Read the configuration once more, for the sake of what that imports."""
    with contextlib.suppress(ConfigurationFaults):  # it has just changed, and a reload will tell
        config_process.read_here(options, started_as, {}).own.release()


def _door(config: Config, handoff: Handoff | None) -> Door | None:
    """What opens Docker's socket, while it can still get the group for it."""
    docker = config.providers.docker
    path = docker.url.removeprefix("unix:") if docker else None
    if handoff is not None and handoff.door is not None:
        if handoff.door.path == path:
            return handoff.door
        handoff.door.close()
    if path is None or not path.startswith("/"):
        return None
    return opened(Path(path), config.uid, config.gid, config.sandbox)


def _lock(config: Config, handoff: Handoff | None) -> StateLock:
    """The state directory's lock, signed as this server's unless another one still serves. Raises
    `StateUnusable`."""
    if handoff is not None and handoff.lock is not None:
        return StateLock(handoff.lock)
    lock = StateLock.taken(config.state)
    lock.sign()
    return lock


def _drop(config: Config, listeners: tuple[Listener, ...], handoff: Handoff | None) -> None:
    was_root = os.geteuid() == 0
    privileges.drop(config.uid, config.gid)
    privileges.confine_process()
    ways = ", ".join(listener.address for listener in listeners)
    if handoff is not None:
        log.info("took over %s from the running server, as uid %d", ways, os.getuid())
    elif was_root:
        log.info("bound %s as root; now uid %d, gid %d for good", ways, os.getuid(), os.getgid())
    else:
        log.info("bound %s as uid %d, without root", ways, os.getuid())
