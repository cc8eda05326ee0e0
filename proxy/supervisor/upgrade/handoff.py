"""What one supervisor hands to the next: from the program that runs to the program now on disk.

The old supervisor starts the new program as any program is started, and sends it over a socket pair
the listening sockets as they are, the certificates that only root could read, and the connection to
the service manager. The new one reads the configuration, starts its workers on the
same sockets and says that it is ready; only then does the old one let go. Whatever happens before
that, a program that does not start, a faulty configuration, a time-out, leaves the old one serving
as if nothing had been.

It is hard because all this happens without privileges and inside the sandbox. Neither can be had
back, and neither has to be: sockets travel as descriptors, and a sandbox is inherited. A process
may stand under sixteen Landlock rulesets at most, so that a successor whose supervisor would be
confined in the same words does not add another.

What never travels: a session, a key that the new program can read for itself, anything that was
parsed. The handoff is plain facts and descriptors, so that versions may differ.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import assert_never

from acme_client.late_dataclass import dataclass
from acme_client.readable import readable

from ...config.model import OwnCertificate
from ...containers.door import Door
from ...ipc.channel import Channel, ChannelClosed, content, sealed
from ...ipc.codec import Malformed, encode
from ...ipc.handoff_messages import (
    TO_SUCCESSOR,
    HandedCertificate,
    HandedCertificates,
    HandedDoor,
    HandedFacts,
    HandedFiles,
    HandedForegroundParent,
    HandedHistory,
    HandedListener,
    HandedLock,
    HandedManager,
    ToSuccessor,
)
from ...ipc.packs import Bundle, Pack, repacked
from ...metrics import handed_history
from ...metrics.history import History
from ...system.listeners import Endpoint, Listener, make_ready

log = logging.getLogger("treehouse.supervisor")

_VARIABLE = "TREEHOUSE_ESTATE"
# Of the environment that we were started with, what was meant for that one process.
_OURS_ALONE = (
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    _VARIABLE,
)
# The predecessor has sent everything before the program starts; this is for a foreign one.
_RECEIVED_WITHIN = 5.0
# Certificates from files that are handed on one by one.
_SINGLY = 64


class CannotUpgrade(Exception):
    """The program on disk could not be started, or what was handed over is not understood."""


@dataclass(frozen=True, slots=True)
class Program:
    """How this program was started, so that the one on disk now can be started the same way."""

    executable: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]

    @classmethod
    def this(cls) -> Program:
        """Call it before anything is taken out of the environment."""
        kept = {name: value for name, value in os.environ.items() if name not in _OURS_ALONE}
        return cls(sys.executable, tuple(sys.orig_argv), kept)


@dataclass(frozen=True, slots=True)
class Handoff:
    """What one supervisor hands to the next.

    ``started_as``: the uid of the first of them, which decides on defaults. ``sandbox``: what the
    supervisor is confined to, in words. ``manager``: the service manager's socket.
    ``foreground_parent``: the channel to the process that was started first, where that process has
    to stay because a shell or a container waits for it. ``lock``: that on the state directory; an
    earlier version has none. ``door``: what opens Docker's socket. ``history``: what the charts of
    the admin page have. ``predecessor`` is where readiness is announced; only a handoff that was
    received has it.
    """

    generation: int
    started_as: int
    sandbox: str
    listeners: tuple[Listener, ...]
    certificates: Mapping[OwnCertificate, Bundle] = field(default_factory=dict)
    manager: socket.socket | None = None
    foreground_parent: Channel | None = None
    lock: int | None = None
    door: Door | None = None
    history: History | None = None
    predecessor: Channel | None = None


def start(program: Program, handoff: Handoff, *, own_group: bool) -> tuple[int, Channel]:
    """Start the program with what it inherits; its pid, and where it will say that it is ready.
    ``own_group``: in a process group of its own.

    Raises `CannotUpgrade`; then there is no such process.
    """
    ours, theirs = Channel.pair()
    try:
        for message, fds in _spelt(handoff):
            ours.send(encode(message), fds)
        os.set_inheritable(theirs.fileno(), True)
        environment = {**program.environment, _VARIABLE: str(theirs.fileno())}
        spawn = functools.partial(
            os.posix_spawn, program.executable, program.arguments, environment
        )
        pid = spawn(setpgroup=0) if own_group else spawn()
    except (OSError, ChannelClosed) as error:
        ours.close()
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CannotUpgrade(
            f"{program.executable} cannot be started as uid {os.geteuid()}: {reason} "
            "(restart the server instead)"
        ) from None
    finally:
        theirs.close()
    return pid, ours


_Spelt = tuple[ToSuccessor, tuple[int, ...]]


def _spelt(handoff: Handoff) -> Iterator[_Spelt]:
    """Yield the messages of a handoff with their descriptors, and the facts last. The descriptors
    of a message may be closed before the next."""
    messages: list[_Spelt] = []
    for one in handoff.listeners:
        at = one.endpoint
        endpoint = (int(at.family), at.host, at.port, at.optional) if at else None
        listener = HandedListener(one.kind, one.address, endpoint)
        messages.append((listener, (one.sock.fileno(),)))
    yield from messages
    yield from _certificates(handoff.certificates)
    messages.clear()
    if handoff.manager is not None:
        messages.append((HandedManager(), (handoff.manager.fileno(),)))
    if handoff.foreground_parent is not None:
        messages.append((HandedForegroundParent(), (handoff.foreground_parent.fileno(),)))
    if handoff.lock is not None:
        messages.append((HandedLock(), (handoff.lock,)))
    if handoff.door is not None:
        messages.append((HandedDoor(handoff.door.path), (handoff.door.fileno(),)))
    yield from messages
    if handoff.history is not None:
        yield from _history(handoff.history)
    yield HandedFacts(handoff.generation, handoff.started_as, handoff.sandbox), ()


def _history(history: History) -> Iterator[_Spelt]:
    fd = sealed("history", handed_history.written(history))
    try:
        yield HandedHistory(), (fd,)
    finally:
        os.close(fd)


def _certificates(certificates: Mapping[OwnCertificate, Bundle]) -> Iterator[_Spelt]:
    """Yield a message for each certificate where they are few, as every version reads them; else
    one for each pack."""
    if len(certificates) <= _SINGLY:
        for files, bundle in certificates.items():
            (alone,) = repacked([bundle])
            yield HandedCertificate(str(files.chain), str(files.key)), (alone.pack.fd,)
            alone.release()
        return
    packs: dict[Pack, list[HandedFiles]] = {}
    for files, bundle in certificates.items():
        packs.setdefault(bundle.pack, []).append(
            HandedFiles(str(files.chain), str(files.key), bundle.offset, bundle.length)
        )
    for pack, several in packs.items():
        yield HandedCertificates(tuple(several)), (pack.fd,)


def inherited() -> Handoff | None:
    """What a predecessor has handed to this process; None is the usual case. Raises
    `CannotUpgrade`."""
    number = os.environ.pop(_VARIABLE, "")
    if not number.isdecimal():
        return None
    try:
        channel = Channel(socket.socket(fileno=int(number)))
        os.set_inheritable(channel.fileno(), False)
        return _understood(channel, *_receive(channel))
    except (OSError, ChannelClosed, Malformed, TypeError, ValueError) as error:
        raise CannotUpgrade(f"what the running server left is not understood: {error!r}") from None


_Received = list[tuple[ToSuccessor, list[int]]]


def _receive(channel: Channel) -> tuple[_Received, HandedFacts]:
    """What comes before the facts, and the facts, which come last."""
    received: _Received = []
    deadline = time.monotonic() + _RECEIVED_WITHIN
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not readable([channel], left):
            raise TimeoutError("it is not complete")
        for said, fds in channel.receive():
            try:
                message = TO_SUCCESSOR.decode(said, len(fds))
            except Malformed as why:
                # Of a program that leaves more than we can use; what we need is looked for below.
                log.warning("something that the running server left is not used: %s", why)
                for fd in fds:
                    os.close(fd)
                continue
            if isinstance(message, HandedFacts):
                return received, message
            received.append((message, fds))


def _understood(channel: Channel, received: _Received, facts: HandedFacts) -> Handoff:
    listeners: list[Listener] = []
    certificates: dict[OwnCertificate, Bundle] = {}
    manager: socket.socket | None = None
    foreground_parent: Channel | None = None
    lock: int | None = None
    door: Door | None = None
    history: History | None = None
    for message, fds in received:
        match message:
            case HandedListener():
                listeners.append(_listener(message, fds[0]))
            case HandedCertificate(chain, key):
                pack = Pack(fds[0])
                files = OwnCertificate(Path(chain), Path(key))
                certificates[files] = pack.bundle(0, pack.size)
            case HandedCertificates(several):
                pack = Pack(fds[0])
                for one in several:
                    files = OwnCertificate(Path(one.chain), Path(one.key))
                    certificates[files] = pack.bundle(one.offset, one.length)
            case HandedManager():
                manager = socket.socket(fileno=fds[0])
            case HandedForegroundParent():
                foreground_parent = Channel(socket.socket(fileno=fds[0]))
            case HandedLock():
                lock = fds[0]
            case HandedDoor(path):
                door = Door(socket.socket(fileno=fds[0]), path)
            case HandedHistory():
                history = handed_history.read(content(fds[0]))
                os.close(fds[0])
            case HandedFacts():
                pass  # the last one: `_receive` has taken it
            case _:
                assert_never(message)
    return Handoff(
        generation=facts.generation,
        started_as=facts.started_as,
        sandbox=facts.sandbox,
        listeners=tuple(listeners),
        certificates=certificates,
        manager=manager,
        foreground_parent=foreground_parent,
        lock=lock,
        door=door,
        history=history,
        predecessor=channel,
    )


def _listener(message: HandedListener, fd: int) -> Listener:
    sock = socket.socket(fileno=fd)
    make_ready(sock)
    endpoint = None
    if message.endpoint is not None:
        family, host, port, optional = message.endpoint
        endpoint = Endpoint(socket.AddressFamily(int(family)), str(host), int(port), bool(optional))
    return Listener(message.kind, message.address, sock, endpoint)
