"""A process of its own that speaks with the interfaces of DNS providers.

dns-lexicon is eighty providers' worth of code that other people wrote, without time-outs, and it is
handed a key to somebody's zone. So it never runs where the account keys are: before the certifier
has any thread it forks this process, which loads what it needs, confines itself (`confine`), and
then answers one request after the other. For each it forks a child, which has a bounded time and
ends with all that it holds. A fork in a process with one thread is safe, and nothing has to be
executed, so that an interpreter which only root can run is no obstacle.

Requests and answers are lines of JSON over a socket pair. Secrets lie in this process's memory from
its start: they are in no request, no argument and no environment, and are taken out of whatever is
said for the log.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from ..errors import IssuanceError, NotSet
from ..late_dataclass import dataclass
from ..link import DnsApi
from ..readable import readable
from ..text import printable, signal_name
from . import api_calls
from .api_calls import Request
from .redaction import redacted

log = logging.getLogger("treehouse.certifier")

# Seconds within which the wait for an answer notices that the program ends.
_LOOK_EVERY = 0.5
# Seconds that the process needs beside a call's own time, to fork, kill and reap the child.
_MARGIN = 10.0
_LONGEST = 64 * 1024
_SAID = 600


@dataclass(frozen=True, slots=True)
class Reply:
    """The outcome of a request. ``error`` says why it failed; None: it is done. ``certain``:
    nothing was changed. ``stopped``: it was broken off because the program ends."""

    error: str | None = None
    certain: bool = False
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the server gives to the process. ``confine()`` takes every right from the process that
    it does not need; ``die_with_parent(pid)`` has the kernel end the process with that parent;
    ``become()`` closes the descriptors that the process must not keep, and sets its title;
    ``scratch`` is a folder for the process's own files."""

    confine: Callable[[], None]
    die_with_parent: Callable[[int], None]
    become: Callable[[], None]
    scratch: Path


class ApiProcess:
    """The certifier's end. Calls run one at a time: a provider that takes whole sets of records
    would lose what another call does meanwhile. May be used by several threads."""

    def __init__(self, sock: socket.socket, apis: Sequence[DnsApi]) -> None:
        self._sock = sock
        self._apis = tuple(apis)
        self._lock = threading.Lock()

    @classmethod
    def started(cls, apis: Sequence[DnsApi], surroundings: Surroundings) -> ApiProcess:
        """Fork the process; call this while the calling process has no other thread."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        parent = os.getpid()
        if os.fork() == 0:
            try:
                surroundings.die_with_parent(parent)
                ours.close()
                _Server(theirs, apis, surroundings).run()
            except BaseException:  # nothing may return from here into the certifier's code
                log.exception("the process for DNS providers ends")
            finally:
                os._exit(1)
        theirs.close()
        return cls(ours, apis)

    def call(
        self,
        api: DnsApi,
        request: Callable[[int], Request],
        stopping: threading.Event | None,
    ) -> Reply:
        """Have one request done, and return the outcome. ``stopping`` breaks the call off."""
        with self._lock:
            if stopping is not None and stopping.is_set():
                return Reply("the program is being stopped", certain=True, stopped=True)
            try:
                number = self._apis.index(api)
            except ValueError:
                return Reply("the process for DNS providers was started without it", certain=True)
            try:
                return self._exchange(request(number), api.timeout, stopping)
            except (OSError, ValueError) as error:
                self._ended(error)

    def _exchange(
        self, request: Request, patience: float, stopping: threading.Event | None
    ) -> Reply:
        self._sock.sendall(json.dumps(asdict(request)).encode() + b"\n")
        deadline = time.monotonic() + patience + _MARGIN
        received = b""
        told = False
        while not received.endswith(b"\n"):
            if stopping is not None and stopping.is_set() and not told:
                self._sock.sendall(b"stop\n")
                told = True
            if time.monotonic() > deadline:
                raise TimeoutError("it does not answer")
            if readable([self._sock], _LOOK_EVERY):
                data = self._sock.recv(_LONGEST)
                if not data:
                    raise ConnectionError("it has ended")
                received += data
        document = json.loads(received)
        return Reply(document["error"], document["certain"], document["stopped"])

    def _ended(self, why: Exception) -> NoReturn:
        """End the certifier with its process for DNS providers, because only a certifier that has
        no thread yet can fork another. The supervisor starts the certifier again, with what is on
        disk."""
        log.error("the process for DNS providers: %s; the certifier is started again with it", why)
        os._exit(1)


def outcome(reply: Reply, api: DnsApi) -> None:
    """Raise the error that a reply stands for, `NotSet` or another `IssuanceError`, if any."""
    if reply.error is None:
        return
    kind = "stopped" if reply.stopped else "hook"
    raise (NotSet if reply.certain else IssuanceError)(kind, f"{api.provider}: {reply.error}")


# The process itself


# The variables of our own environment that libraries written by others may see.
_KEPT = ("LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "TZ")


class _Server:
    def __init__(
        self, sock: socket.socket, apis: Sequence[DnsApi], surroundings: Surroundings
    ) -> None:
        self._sock = sock
        self._apis = tuple(apis)
        self._surroundings = surroundings
        self._faults: dict[str, str] = {}  # providers that cannot be loaded, with the reason
        self._nowhere = os.memfd_create("nowhere", os.MFD_CLOEXEC)  # /dev/null is out of reach

    def run(self) -> None:
        self._surroundings.become()
        for name in dict.fromkeys(one.provider for one in self._apis):
            fault = api_calls.load(name)
            if fault is not None:
                self._faults[name] = fault
        self._settle_in()
        self._surroundings.confine()
        received = b""
        while data := self._sock.recv(_LONGEST):
            received += data
            while b"\n" in received:
                line, _, received = received.partition(b"\n")
                if line == b"stop":  # of a call that has ended meanwhile, or was not begun
                    continue
                # Requests wait for replies: whatever comes along with one is the word to stop it.
                if received:
                    why = "was not begun, because the program is being stopped"
                    reply = Reply(why, certain=True, stopped=True)
                else:
                    reply = self._serve(Request(**json.loads(line)))
                self._sock.sendall(json.dumps(asdict(reply)).encode() + b"\n")
        os._exit(0)

    def _settle_in(self) -> None:
        scratch = str(self._surroundings.scratch)
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        os.environ.clear()
        os.environ.update({"HOME": scratch, "TMPDIR": scratch, **kept})
        os.chdir(scratch)

    def _serve(self, request: Request) -> Reply:
        api = self._apis[request.api]
        if api.provider in self._faults:
            return Reply(self._faults[api.provider], certain=True)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        parent, pid = os.getpid(), os.fork()
        if pid == 0:
            self._surroundings.die_with_parent(parent)
            os.close(reading)
            self._sock.close()
            for fd in (0, 1, 2):  # a library that prints would print what it is given
                os.dup2(self._nowhere, fd)
            logging.getLogger().handlers.clear()  # what libraries log may hold what they are given
            _perform(api, request, writing)
        os.close(writing)
        try:
            return self._attend(pid, reading, api.timeout)
        finally:
            os.close(reading)

    def _attend(self, pid: int, reading: int, patience: float) -> Reply:
        """Wait for the child's answer, and end it whatever it does."""
        deadline = time.monotonic() + patience
        said = b""
        failure: Reply | None = None
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                failure = Reply(f"took longer than {patience:g} s (acme.dns.hook_timeout)")
                break
            ready = readable([reading, self._sock.fileno()], left)
            if self._sock.fileno() in ready:  # to be stopped, or nobody waits any more
                self._sock.recv(_LONGEST)
                failure = Reply("was ended, because the program is being stopped", stopped=True)
                break
            if reading in ready:
                data = os.read(reading, _LONGEST)
                if not data:
                    break
                said += data
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if failure is not None:
            return failure
        try:
            document = json.loads(said)
            return Reply(document["error"], document["certain"])
        except (ValueError, KeyError, TypeError):
            how = os.waitstatus_to_exitcode(status)
            return Reply(f"its process ended with {signal_name(-how) if how < 0 else how}")


def _perform(api: DnsApi, request: Request, writing: int) -> NoReturn:
    """Do one call in the child, write the answer, and end the child."""
    reply = Reply()
    try:
        api_calls.perform(api, request)
    except api_calls.Refused as refused:
        reply = Reply(str(refused), certain=refused.certain)
    except BaseException as error:  # libraries of others: the answer says whatever happened
        reply = Reply(f"{type(error).__name__}: {error}")
    if reply.error is not None:
        secrets = [one.value for one in api.credentials if one.value]
        text = " ".join(printable(redacted(reply.error, secrets)).split())
        reply = Reply(text[:_SAID], reply.certain)
    with contextlib.suppress(OSError):
        os.write(writing, json.dumps(asdict(reply)).encode())
    os._exit(0)
