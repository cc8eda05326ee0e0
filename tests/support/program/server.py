"""The real program, started as a user would start it, and looked at from outside.

    with Server(["--domain", "localhost", "--root", root], folder) as server:
        server.ports["https"]

Readiness is the program's own READY=1 to NOTIFY_SOCKET; log lines are awaited, never slept for.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from proxy.ipc import control_client

from . import log_capture

REPOSITORY = Path(__file__).resolve().parents[3]
# Deadlines here end a test that hangs. None says how fast anything is: a machine may be busy.
READY_WITHIN = 60.0
# `make test` runs what speaks HTTP a second time, with --no-fast-lane for every server, and without
# the accelerated lane.
EVERYWHERE = os.environ.get("TREEHOUSE_TEST_OPTIONS", "").split()
PURE = {name: os.environ[name] for name in ("TREEHOUSE_PURE_PYTHON",) if name in os.environ}
ENDED_WITHIN = 60.0
_STATUS_EVERY = 0.02
_TAKEN_OVER = re.compile(r".*process (\d+) has taken over; finishing what is under way")


def packages(program: Path) -> dict[str, str]:
    """For an interpreter that is not the virtual environment's: where everything is."""
    return {"PYTHONPATH": f"{program}:{sysconfig.get_path('platlib')}"}


def shorten(module: Path, **constants: object) -> None:
    """Constants of a copied program have other values: what takes a minute takes a second."""
    text = module.read_text()
    for name, value in constants.items():
        text, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value!r}", text)
        assert count == 1, name
    module.write_text(text)


class Server:
    """``folder`` is for the notification socket. ``user``: uid to start as; ``python``: another
    interpreter; ``environment`` is added to a clean one."""

    def __init__(
        self,
        options: list[str],
        folder: Path,
        *,
        prefix: tuple[str, ...] = (),
        user: int | None = None,
        python: str = sys.executable,
        environment: dict[str, str] | None = None,
        cwd: Path = REPOSITORY,
        stdout: Any = subprocess.PIPE,
    ) -> None:
        self._notify_path = folder / f"notify-{os.urandom(4).hex()}"
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(self._notify_path))
        os.chmod(self._notify_path, 0o666)
        self._changed = threading.Condition()
        self._readers: dict[IO[bytes], threading.Thread] = {}
        self.log: list[dict[str, Any]] = []
        self.access: list[dict[str, Any]] = []
        self.raw: list[bytes] = []
        self.told: list[str] = []
        environment = {
            "PATH": os.environ["PATH"],
            "NOTIFY_SOCKET": str(self._notify_path),
            "PYTHONPATH": str(cwd),
            **PURE,
            **(environment or {}),
        }
        self.command = [*prefix, python, "-m", "proxy", *options, *EVERYWHERE]
        self.process = subprocess.Popen(
            self.command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            start_new_session=True,
            **({"user": user, "group": user, "extra_groups": []} if user is not None else {}),
        )
        self.title = f"treehouse-proxy, process {self.pid}"
        log_capture.appear(self)
        self._read(self.process.stderr, self.log)
        if stdout == subprocess.PIPE:
            self._read(self.process.stdout, self.access)

    # Life

    def __enter__(self) -> Server:
        try:
            self.await_told("READY=1")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        """Wait for the end; the exit status. Everything that was logged has been read then."""
        status = self.process.wait(ENDED_WITHIN)
        with self._changed:
            self._changed.wait_for(lambda: not any(map(_unread, self._readers)), 60)
        # A successor goes on writing to the same pipes, whose end is no event then.
        successors = (_TAKEN_OVER.match(one["message"]) for one in self.log)
        if not any(alive(int(found[1])) for found in successors if found):
            for reader in self._readers.values():
                reader.join(60)
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(ENDED_WITHIN)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for reader in self._readers.values():
            reader.join(60)
        self._notify.close()
        self._notify_path.unlink(missing_ok=True)

    def is_over(self) -> bool:
        return self.process.poll() is not None

    # What it says

    def _read(self, stream: IO[bytes], into: list[dict[str, Any]]) -> None:
        def keep(line: bytes) -> None:
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {"message": line.decode(errors="replace")}
            self.raw.append(line)
            into.append(entry)

        def run() -> None:
            waiting = select.poll()
            waiting.register(stream, select.POLLIN)
            begun = b""
            while not stream.closed:
                waiting.poll()
                with self._changed:  # so that what is no longer in the pipe is in the list
                    piece = os.read(stream.fileno(), 1 << 16)
                    *lines, begun = (begun + piece).split(b"\n")
                    for line in lines:
                        keep(line + b"\n")
                    if not piece:
                        if begun:
                            keep(begun)
                        stream.close()
                    self._changed.notify_all()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._readers[stream] = thread

    def await_told(self, text: str, within: float = READY_WITHIN) -> None:
        """A notification to the service manager."""
        self._notify.settimeout(0.1)
        deadline = time.monotonic() + within
        while not any(text in one for one in self.told):
            try:
                self.told.append(self._notify.recv(4096).decode())
            except TimeoutError:
                if self.process.poll() is not None:
                    raise AssertionError(f"it ended: {self.text()}") from None
                if time.monotonic() > deadline:
                    raise AssertionError(f"{text} was not told: {self.text()}") from None

    def await_log(
        self, pattern: str, within: float = READY_WITHIN, since: int = 0
    ) -> dict[str, Any]:
        """The first operational line from number ``since`` on that matches."""
        return self._await(
            self.log, lambda one: bool(re.search(pattern, one["message"])), within, since, pattern
        )

    def await_access(
        self, within: float = READY_WITHIN, since: int = 0, **facts: Any
    ) -> dict[str, Any]:
        """The first access line with these facts."""
        return self._await(
            self.access,
            lambda one: all(one.get(key) == value for key, value in facts.items()),
            within,
            since,
            str(facts),
        )

    def _await(
        self,
        lines: list[dict[str, Any]],
        fits: Callable[[dict[str, Any]], bool],
        within: float,
        since: int,
        wanted: str,
    ) -> dict[str, Any]:
        deadline = time.monotonic() + within
        with self._changed:
            while True:
                for line in lines[since:]:
                    if fits(line):
                        return line
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"no line {wanted!r} in: {self.text()}")
                self._changed.wait(left)

    def text(self) -> str:
        return b"".join(self.raw).decode(errors="replace")

    # What it is

    def tree(self) -> list[int]:
        """All processes, the supervisor first."""
        return list(_tree(self.pid))

    def children(self) -> list[int]:
        return self.tree()[1:]

    def status(self, state: Path) -> dict[str, Any]:
        """What ``status --json`` prints."""
        return ask(state, "status")

    def await_status(
        self, state: Path, fits: Callable[[dict[str, Any]], bool], within: float = READY_WITHIN
    ) -> dict[str, Any]:
        """The first that fits. It is put together from what processes say at their own pace, and
        the log has no line for each of its changes."""
        deadline = time.monotonic() + within
        while not fits(document := self.status(state)):
            if time.monotonic() > deadline:
                raise AssertionError(f"it does not fit: {document}")
            time.sleep(_STATUS_EVERY)
        return document

    def await_certificates(self, state: Path, names: set[str]) -> None:
        """These, by their first names, and no others are in the status."""
        self.await_status(
            state, lambda document: {one["names"][0] for one in document["certificates"]} == names
        )


def ask(state: Path, command: str) -> dict[str, Any]:
    """Whoever serves now answers it on the control socket, and not with a refusal. The program's own
    commands say no more there, but each costs a start of Python."""
    answer = control_client.ask(state, {"command": command})
    assert answer.get("ok") is not False, answer
    return answer


def _unread(stream: IO[bytes]) -> int:
    """How many bytes are in the pipe."""
    if stream.closed:
        return 0
    (count,) = struct.unpack("i", fcntl.ioctl(stream, termios.FIONREAD, bytes(4)))
    return int(count)


def _tree(root: int) -> Iterator[int]:
    yield root
    for task in Path(f"/proc/{root}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                yield from _tree(int(child))


def proc_status(pid: int) -> dict[str, str]:
    """/proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def started(pid: int) -> int:
    """When the process was made, by the kernel's clock: proc(5), starttime."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return proc_status(pid)["State"][0] not in "ZX"
    except OSError:
        return False


def await_gone(pids: list[int], within: float = ENDED_WITHIN) -> None:
    """Return when none of the processes exists any more: each is waited for by its pidfd."""
    deadline = time.monotonic() + within
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            ready, _, _ = select.select([fd], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                raise AssertionError(f"process {pid} is still there")
        finally:
            os.close(fd)


def treehouse(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    return subprocess.run(
        [*options.pop("prefix", ()), options.pop("python", sys.executable), "-m", "proxy", *arguments],
        cwd=options.pop("cwd", REPOSITORY), capture_output=True, text=True, timeout=120, **options,
    )  # fmt: skip
