"""Runs the operator's program that sets and removes records, for providers without DNS updates.

    PROGRAM present|cleanup DOMAIN RECORD VALUE

and the same in TREEHOUSE_ACTION, _DOMAIN, _RECORD and _VALUE; or as other ACME clients call theirs
(`hook_styles`). Nothing of our own environment is handed on but what the configuration gives as
credentials, and no descriptor but those for its output, which goes to the log without them. Status
0 means done. It has a bounded time; then it is ended with all that it has started.

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
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import IssuanceError, NotSet
from ..link import Credential, DnsHook
from ..text import printable, signal_name
from .dns_provider import ProviderContext, TxtRecord
from .hook_styles import Action, Invocation, invocation
from .redaction import redacted

if TYPE_CHECKING:
    from .dns_resolver import NameServer

log = logging.getLogger("treehouse.certifier")

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
ONE_AT_A_TIME = threading.Lock()


class HookProvider:
    """`dns_provider.DnsProvider` by the operator's program."""

    needs_zone = False

    def __init__(self, hook: DnsHook, context: ProviderContext) -> None:
        self._hook = hook
        self._context = context

    def present(self, record: TxtRecord) -> None:
        with ONE_AT_A_TIME:
            if self._context.stopping.is_set():
                raise IssuanceError("stopped", "the program is being stopped")
            self._run("present", record)

    def cleanup(self, record: TxtRecord) -> None:
        with ONE_AT_A_TIME:
            self._run("cleanup", record)

    def name_servers(self) -> list[NameServer]:
        return []

    def _run(self, action: Action, record: TxtRecord) -> None:
        context = self._context
        run(self._hook, action, record, context.stopping, context.outside.confine_hook)


def provider(settings: DnsHook, context: ProviderContext) -> HookProvider:
    return HookProvider(settings, context)


def run(
    hook: DnsHook,
    action: Action,
    record: TxtRecord,
    stopping: threading.Event,
    confine: Callable[[], None] | None = None,
) -> None:
    """Run the program, and return when it has succeeded; raises `IssuanceError` otherwise. A
    ``cleanup`` is not broken off when our program ends, only when its time is over. ``confine`` is
    what the child does first."""
    kept = _Kept(hook, record)
    call = invocation(hook, action, record, kept.read() if action == "cleanup" else "")
    if call is None:
        return
    process = _started(hook, call, confine)
    with process:
        said, ending = _attend(process, hook.timeout, stopping if action == "present" else None)
        status = process.wait()
    if action == "present":
        kept.write(said[0])
    output = said[1] + said[0]
    lines = [redacted(line, _secrets(hook)) for line in _lines(output)]
    for line in lines:
        log.info("%s %s %s: %s", call.program.name, action, record.domain, line)
    if ending:
        raise IssuanceError("stopped" if ending == _STOPPED else "hook", f"{call.program} {ending}")
    if status:
        how = f"status {status}" if status > 0 else signal_name(-status)
        last = f", and said: {lines[-1]}" if lines else " without a word"
        raise IssuanceError(
            "hook",
            f"{call.program} {action} {record.domain} ended with {how}{last} (run it by hand as "
            "the server's user; treehouse-proxy sandbox shows what it may do)",
        )
    if action == "cleanup":
        kept.forget()


def _started(
    hook: DnsHook, call: Invocation, confine: Callable[[], None] | None
) -> subprocess.Popen[bytes]:
    """Start the program. Raises `NotSet` where it cannot be run."""
    environment = {
        "PATH": PATH,
        "HOME": str(hook.scratch),
        "TMPDIR": str(hook.scratch),
        "LANG": "C.UTF-8",
        **_given(hook.environment),
        **call.environment,
    }
    try:
        hook.scratch.mkdir(mode=0o700, exist_ok=True)
        return subprocess.Popen(  # noqa: S603 - the operator's own program
            call.arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # For certbot's hooks standard output has a meaning of its own.
            stderr=subprocess.PIPE if hook.style == "certbot" else subprocess.STDOUT,
            cwd=hook.scratch,
            env=environment,
            start_new_session=True,
            umask=0o077,  # in the state directory, nothing is for others
            preexec_fn=confine,
        )
    except subprocess.SubprocessError:
        raise NotSet(
            "hook", f"{call.program} cannot be confined (after many upgrades in place, restart)"
        ) from None
    except OSError as error:
        raise NotSet("hook", f"{call.program} cannot be run: {_reason(error)}") from None


def _given(credentials: tuple[Credential, ...]) -> dict[str, str]:
    """Return the variables that the configuration gives. Raises `NotSet` where a file with a secret
    cannot be read."""
    given = {}
    for one in credentials:
        if one.value is None:
            raise NotSet("settings", f"{one.file}, which holds {one.name}, cannot be read")
        given[one.name] = one.value
    return given


def _secrets(hook: DnsHook) -> list[str]:
    return [one.value for one in hook.environment if one.value]


class _Kept:
    """Keeps what a hook in certbot's style wrote to its standard output when it set the record: the
    hook's cleanup gets it, perhaps from a later certifier. For other styles nothing is kept."""

    def __init__(self, hook: DnsHook, record: TxtRecord) -> None:
        self._path: Path | None = None
        if hook.style == "certbot" and record.token and "/" not in record.token:
            self._path = hook.scratch / f"said.{record.token}"

    def write(self, said: bytes) -> None:
        if self._path is not None:
            try:
                self._path.write_bytes(said)
            except OSError as error:
                log.warning("%s cannot be written: %s", self._path, error.strerror)

    def read(self) -> str:
        if self._path is None:
            return ""
        try:
            with self._path.open("rb") as file:
                return file.read(_MOST_OUTPUT).decode("utf-8", "replace").replace("\0", "").strip()
        except OSError:
            return ""

    def forget(self) -> None:
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()


_STOPPED = "was ended, because the program is being stopped"


def _attend(
    process: subprocess.Popen[bytes], patience: float, stopping: threading.Event | None
) -> tuple[tuple[bytes, bytes], str | None]:
    """Read the program's output until the program ends, or end it. Returns its standard output, its
    standard error where that has a pipe of its own, and why the program was ended."""
    pipes = [stream.fileno() for stream in (process.stdout, process.stderr) if stream is not None]
    ended = os.pidfd_open(process.pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    outputs = {pipe: bytearray() for pipe in pipes}
    for pipe in pipes:
        os.set_blocking(pipe, False)
        poll.register(pipe, select.POLLIN)
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
            for pipe in outputs.keys() & set(ready):
                if not _read(pipe, outputs[pipe]):
                    poll.unregister(pipe)  # it has closed its output, and may live on
            if ended in ready:
                break
        # End what it may have started. The process is not reaped yet, so that the number is still
        # that of its group.
        _signal(process.pid, signal.SIGKILL)
        for pipe, output in outputs.items():
            _read(pipe, output)
    finally:
        os.close(ended)
    first, *rest = outputs.values()
    return (bytes(first), bytes(rest[0]) if rest else b""), why


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
