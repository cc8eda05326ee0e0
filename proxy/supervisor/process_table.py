"""The process table: forking children, hearing from them, and learning how they ended.

This is mechanism only: who is started, and what follows from an end, is decided in `spawner` and
`supervisor`. A child gets one `Channel`, and keeps of the supervisor's descriptors only those that
its role inherits: every object that holds others is an `Owner`, which closes them in the child
before its first line of work. A listening socket that lives on in a child would keep a port open
from which nobody accepts.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from acme_client.late_dataclass import dataclass
from acme_client.text import signal_name

from ..ipc.channel import Channel, ChannelClosed
from ..ipc.codec import JsonObject, Malformed, encode
from ..ipc.documents import WorkerState, WorkerStats
from ..ipc.messages import Stop, ToCertifier, ToWorker
from ..ipc.reserve import Reserve
from ..system.privileges import die_with_parent
from ..system.process_title import set_title
from .roles import CERTIFIER, EXPORTER, WORKER, AnyRole, Role
from .signals import CAUGHT

log = logging.getLogger("treehouse.supervisor")

Init = TypeVar("Init")


@dataclass(slots=True, eq=False)
class Child:
    pid: int
    role: AnyRole
    generation: int
    number: int  # 1..N among the workers of a generation
    channel: Channel
    born: float  # monotonic
    # When its main loop last gave a sign of life; told by who understands what it says.
    heard: float
    state: WorkerState = "starting"
    served: float | None = None  # monotonic, when it first did its work
    stats: WorkerStats | None = None  # what it said last

    @property
    def title(self) -> str:
        return f"worker {self.number}" if self.role is WORKER else self.role.name

    @property
    def took_to_serve(self) -> float | None:
        """Seconds from its start until it did its work; None if it never did."""
        return None if self.served is None else self.served - self.born


def _set_title(role: Role[Init], number: int) -> None:
    which = f"{role.name} {number}" if number else role.name
    set_title(f"th-{which.replace(' ', '-')}", f"treehouse-proxy: {which}")


def describe_exit(status: int) -> str:
    """How a process ended, from its wait status, in words."""
    if os.WIFSIGNALED(status):
        return f"was ended by {signal_name(os.WTERMSIG(status))}"
    return f"ended with status {os.waitstatus_to_exitcode(status)}"


class Owner(Protocol):
    """Something that holds descriptors which not every child may keep."""

    def close_in_child(self, role: AnyRole, generation: int) -> None:
        """In a forked child: close what is not for a child of this role and generation."""
        ...


class Listener(Protocol):
    """What is told about children: the supervisor."""

    def hear(self, child: Child, said: JsonObject, fds: list[int]) -> None:
        """Take a message. Takes the descriptors that it keeps out of ``fds``; the others are closed
        afterwards. Raises `Malformed` for what is no message; then the child is ended."""
        ...

    def exited_elsewhere(self, pid: int, status: int) -> None:
        """A process that was not forked here has ended: a successor."""
        ...


class Processes:
    """All children. ``listener`` is set before the first one is forked; ``owners`` are asked in
    every child, before its first line of work, to close what is not for it."""

    listener: Listener

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._children: dict[int, Child] = {}
        self._reserve = Reserve()
        self.owners: list[Owner] = [self._reserve]

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._children.values()))

    def __len__(self) -> int:
        return len(self._children)

    def workers(self, generation: int | None = None) -> list[Child]:
        return [
            child
            for child in self
            if child.role is WORKER and generation in (None, child.generation)
        ]

    def certifier(self) -> Child | None:
        return next((child for child in self if child.role is CERTIFIER), None)

    def exporter(self) -> Child | None:
        return next((child for child in self if child.role is EXPORTER), None)

    def fork(self, role: Role[Init], init: Init, generation: int, number: int = 0) -> Child:
        """Start a child, which does ``role.entry(init, channel)`` and nothing else. Raises
        `OSError` where there is no room for another process, and then there is none."""
        ours, theirs = Channel.pair()
        parent = os.getpid()
        # Until the child has let go of the supervisor's signal socket, it must not write there.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, CAUGHT)
        try:
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    die_with_parent(parent)
                    _set_title(role, number)
                    self._become_child(ours, role, generation)
                    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                    status = role.entry(init, theirs)
                except BaseException:  # a child never returns into the supervisor's loop
                    log.exception("%s ends", role.name)
                finally:
                    os._exit(status)
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            theirs.close()
        now = time.monotonic()
        child = Child(pid, role, generation, number, ours, born=now, heard=now)
        self._children[pid] = child
        self._selector.register(ours, selectors.EVENT_READ, self._on_ready(child))
        return child

    def _become_child(self, ours: Channel, role: Role[Init], generation: int) -> None:
        signal.set_wakeup_fd(-1)
        for number in CAUGHT:
            signal.signal(number, signal.SIG_DFL)
        # A terminal's Ctrl-C reaches the whole group, and a service manager may send its SIGTERM to
        # every process; ending is the supervisor's to order.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._selector.close()
        ours.close()
        for child in self._children.values():
            child.channel.close()
        for owner in self.owners:
            owner.close_in_child(role, generation)

    def _on_ready(self, child: Child) -> Callable[[int], None]:
        def ready(events: int) -> None:
            if self._children.get(child.pid) is not child:
                return  # it has been reaped in this very turn of the loop
            try:
                if events & selectors.EVENT_WRITE:
                    child.channel.flush()
                    self._watch(child)
                if events & selectors.EVENT_READ:
                    self._read(child)
            except ChannelClosed:
                self._forget_channel(child)
            except Exception as why:
                # A child that has been taken over may say anything; it is not to take us along.
                log.error("%s (pid %d) is ended: what it says is not understood: %s",
                          child.title, child.pid, why,
                          exc_info=not isinstance(why, Malformed))  # fmt: skip
                self._forget_channel(child)
                self.kill(child)

        return ready

    def _read(self, child: Child) -> bool:
        """Hand on what a child has said. Whether it had said anything."""
        with self._reserve.lent():
            received = child.channel.receive()
            try:
                for message, fds in received:
                    self.listener.hear(child, message, fds)
            finally:
                for _message, fds in received:
                    for fd in fds:
                        os.close(fd)
        return bool(received)

    def tell_worker(self, child: Child, message: ToWorker, fds: tuple[int, ...] = ()) -> None:
        self._send(child, encode(message), fds)

    def tell_certifier(self, child: Child, message: ToCertifier) -> None:
        self._send(child, encode(message), ())

    def tell_exporter(self, child: Child, message: Stop) -> None:
        self._send(child, encode(message), ())

    def _send(self, child: Child, message: JsonObject, fds: tuple[int, ...]) -> None:
        try:
            try:
                child.channel.send(message, fds)
            except OSError:  # no descriptor is left to keep a copy of what is sent
                with self._reserve.lent():
                    child.channel.send(message, fds)
            self._watch(child)
        except (ChannelClosed, OSError, KeyError):
            # A child that cannot be told any more has died or hangs; its end is heard elsewhere.
            self._forget_channel(child)

    def _watch(self, child: Child) -> None:
        wanted = selectors.EVENT_READ
        if child.channel.waiting:
            wanted |= selectors.EVENT_WRITE
        key = self._selector.get_key(child.channel)
        if key.events != wanted:
            self._selector.modify(child.channel, wanted, key.data)

    def _forget_channel(self, child: Child) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(child.channel)

    def reap(self) -> list[tuple[Child, int]]:
        """All children that have ended since the last call, with their wait status."""
        ended: list[tuple[Child, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            child = self._children.pop(pid, None)
            if child is None:
                self.listener.exited_elsewhere(pid, status)
            else:
                self._last_words(child)
                self._forget_channel(child)
                child.channel.close()
                ended.append((child, status))

    def _last_words(self, child: Child) -> None:
        try:
            while self._read(child):
                pass
        except ChannelClosed:
            pass
        except Exception:  # a child that has been taken over may say anything, to the last
            log.exception("the last words of %s (pid %d)", child.title, child.pid)

    def kill(self, child: Child, number: signal.Signals = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, number)
