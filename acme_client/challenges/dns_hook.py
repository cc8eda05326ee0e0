"""Runs the operator's program that sets and removes records, for providers without DNS updates.

    PROGRAM present|cleanup DOMAIN RECORD VALUE

and the same in TREEHOUSE_ACTION, _DOMAIN, _RECORD and _VALUE. No shell is involved, nothing of our
own environment is handed on, and no descriptor but the one for its output, which goes to the log.
Status 0 means done. It has a bounded time; then it is ended with all that it has started.

It is forked from a process with threads, so that what ``confine`` does between fork and exec has to
be no more than system calls.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from ..errors import IssuanceError, NotSet
from ..link import DnsHook
from ..text import printable, signal_name
from .dns_provider import ProviderContext, TxtRecord

if TYPE_CHECKING:
    from .dns_resolver import NameServer

log = logging.getLogger("treehouse.certifier")

Action = Literal["present", "cleanup"]

PATH = "/usr/local/bin:/usr/bin:/bin"
# Between SIGTERM and SIGKILL, in seconds.
_GRACE = 2.0
# How soon a hook under way notices that the program ends.
_LOOK_EVERY = 0.5
# Bytes of its output that are logged. A provider's answer in JSON fits; a runaway loop does not.
_MOST_OUTPUT = 16 * 1024
_LONGEST_LINE = 500

# Programs run one at a time, whatever zone they are for: a program that reads a provider's record
# set and writes it back would lose what another one does meanwhile.
_ONE_AT_A_TIME = threading.Lock()


class HookProvider:
    """`dns_provider.DnsProvider` by the operator's program."""

    needs_zone = False

    def __init__(self, hook: DnsHook, context: ProviderContext) -> None:
        self._hook = hook
        self._context = context

    def present(self, record: TxtRecord) -> None:
        with _ONE_AT_A_TIME:
            if self._context.stopping.is_set():
                raise IssuanceError("stopped", "the program is being stopped")
            self._run("present", record)

    def cleanup(self, record: TxtRecord) -> None:
        with _ONE_AT_A_TIME:
            self._run("cleanup", record)

    def name_servers(self) -> list[NameServer]:
        return []

    def _run(self, action: Action, record: TxtRecord) -> None:
        stopping, confine = self._context.stopping, self._context.confine
        run(self._hook, action, record.domain, record.name, record.value, stopping, confine)


def provider(settings: DnsHook, context: ProviderContext) -> HookProvider:
    return HookProvider(settings, context)


def run(
    hook: DnsHook,
    action: Action,
    domain: str,
    record: str,
    value: str,
    stopping: threading.Event,
    confine: Callable[[], None] | None = None,
) -> None:
    """Run the program, and return when it has succeeded; raises `IssuanceError` otherwise. A
    ``cleanup`` is not broken off when our program ends, only when its time is over. ``confine`` is
    what the child does first."""
    name = hook.program.name
    arguments = [str(hook.program), action, domain, record, value]
    environment = {
        "PATH": PATH,
        "HOME": str(hook.scratch),
        "TMPDIR": str(hook.scratch),
        "LANG": "C.UTF-8",
        "TREEHOUSE_ACTION": action,
        "TREEHOUSE_DOMAIN": domain,
        "TREEHOUSE_RECORD": record,
        "TREEHOUSE_VALUE": value,
    }
    try:
        hook.scratch.mkdir(mode=0o700, exist_ok=True)
        process = subprocess.Popen(  # noqa: S603 - the operator's own program, without a shell
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=hook.scratch,
            env=environment,
            start_new_session=True,
            umask=0o077,  # in the state directory, nothing is for others
            preexec_fn=confine,
        )
    except subprocess.SubprocessError:
        raise NotSet(
            "hook", f"{hook.program} cannot be confined (after many upgrades in place, restart)"
        ) from None
    except OSError as error:
        raise NotSet("hook", f"{hook.program} cannot be run: {_reason(error)}") from None
    with process:
        output, ending = _attend(process, hook.timeout, stopping if action == "present" else None)
        status = process.wait()
    lines = _lines(output)
    for line in lines:
        log.info("%s %s %s: %s", name, action, domain, line)
    if ending:
        raise IssuanceError("stopped" if ending == _STOPPED else "hook", f"{hook.program} {ending}")
    if status:
        how = f"status {status}" if status > 0 else signal_name(-status)
        last = f", and said: {lines[-1]}" if lines else " without a word"
        raise IssuanceError(
            "hook",
            f"{hook.program} {action} {domain} ended with {how}{last} (run it by hand as the "
            "server's user; treehouse-proxy sandbox shows what it may do)",
        )


_STOPPED = "was ended, because the program is being stopped"


def _attend(
    process: subprocess.Popen[bytes], patience: float, stopping: threading.Event | None
) -> tuple[bytes, str | None]:
    """Read its output until it ends, or end it. Returns the output, and why it was ended."""
    assert process.stdout is not None  # noqa: S101 - asked for above
    pipe = process.stdout.fileno()
    os.set_blocking(pipe, False)
    ended = os.pidfd_open(process.pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(pipe, select.POLLIN)
    output = bytearray()
    why: str | None = None
    deadline = time.monotonic() + patience
    try:
        while True:
            left = deadline - time.monotonic()
            if stopping is not None and stopping.is_set() and why is None:
                why, left = _STOPPED, 0.0
            if left <= 0:
                why = why or f"took longer than {patience:g} s (acme.dns.hook_timeout)"
                _signal(process.pid, signal.SIGTERM)
                poll.poll(_GRACE * 1000)
                break
            ready = [fd for fd, _events in poll.poll(min(left, _LOOK_EVERY) * 1000)]
            if pipe in ready and not _read(pipe, output):
                poll.unregister(pipe)  # it has closed its output, and may live on
            if ended in ready:
                break
        # End what it may have started. The process is not reaped yet, so that the number is still
        # that of its group.
        _signal(process.pid, signal.SIGKILL)
        _read(pipe, output)
    finally:
        os.close(ended)
    return bytes(output), why


def _read(pipe: int, output: bytearray) -> bool:
    """Read what there is; returns False at the end of the output."""
    try:
        while True:
            data = os.read(pipe, 4096)
            if not data:
                return False
            output += data[: max(_MOST_OUTPUT - len(output), 0)]
    except BlockingIOError:
        return True


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _lines(output: bytes) -> list[str]:
    """Make lines for the log, without control characters and of bounded length."""
    text = output.decode("utf-8", "replace")
    lines = map(printable, text.splitlines())
    return [line.strip()[:_LONGEST_LINE] for line in lines if line.strip()]


def _reason(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return (
            "permission denied (it must be executable for the server's user; a running server's "
            "sandbox cannot be widened, so after a hook was added by a reload, restart)"
        )
    if isinstance(error, FileNotFoundError):
        return "there is no such file, or its interpreter (the line that begins with #!) is missing"
    return (error.strerror or str(error)).lower()
