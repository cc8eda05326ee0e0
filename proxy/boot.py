"""The beginning of a server: the configuration is read while the server is imported.

Both take most of a start, and neither needs the other: a child reads (`config_process`), and this
process, which has the ports and the workers later, imports `serve` meanwhile. What both of them
need, this module imports first, before there are two.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys

from . import log as logs
from .config.syntax.faults import ConfigurationFaults
from .exit_status import FAILED, USAGE
from .supervisor.upgrade.handoff import CannotUpgrade, Program, inherited
from .system.certificate_files import OwnCertificates
from .system.config_process import ConfigProcess, ReadingEnded, Work
from .system.process_title import set_title

log = logging.getLogger("treehouse.boot")


def run(command_line: Work) -> int:
    """Serve until told to stop; returns the exit status. ``command_line`` finds out with which
    options, in the child."""
    for fd in (1, 2):
        logs.unblock(fd)
    logs.set_up("supervisor", None, "info", starting=True)
    program = Program.this()
    try:
        handoff = inherited()
    except CannotUpgrade as error:
        log.error("%s", error)
        return FAILED
    started_as = handoff.started_as if handoff else os.geteuid()
    own = OwnCertificates(handoff.certificates if handoff else None)
    reading = ConfigProcess.start(command_line, started_as, own.present)
    set_title("treehouse-proxy", f"treehouse-proxy: supervisor {shlex.join(sys.argv[1:])}".rstrip())
    from .serve import serve

    try:
        found = reading.result()
    except ReadingEnded as ended:
        return ended.status  # people have been told why
    except ConfigurationFaults as faults:
        options = reading.options
        if options is not None:
            level = options.log_level or "info"
            logs.set_up("supervisor", options.log_format, level, starting=True)
        for line in str(faults).splitlines():
            log.error("%s", logs.Composed(line))
        return USAGE
    except OSError as error:
        log.error("%s", error)
        return USAGE
    if reading.options is None:
        return FAILED
    return serve(found, reading.options, own, program, started_as, handoff)
