"""The server as the certifier sees it: `acme_client.link.Link` over the channel to the supervisor.

Each verb of the link is a message. ``publish`` and ``present`` wait until every worker has
acknowledged what they sent, because the CA may be told to validate only when any worker can answer.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, assert_never

from acme_client.link import Challenge, Command, LinkBroken, Served, Taken
from acme_client.status import CertificateStatus, ClusterStatus
from acme_client.storage.etcd.figures import EngineFigures

from ..ipc.channel import Channel, ChannelClosed, sealed
from ..ipc.codec import JsonObject, Malformed, encode
from ..ipc.messages import (
    TO_CERTIFIER,
    Alive,
    CertificateFacts,
    CertifierAnswer,
    CertifierCommand,
    ChallengeFacts,
    Done,
    FromCertifier,
    Idle,
    Loaded,
    NotTaken,
    PackedCertificate,
    Present,
    Publish,
    Report,
    ReportCluster,
    ReportEngine,
    Retract,
    Warned,
)
from ..ipc.packs import packed
from ..system import mapped_code

log = logging.getLogger("treehouse.certifier")

# Seconds between two signs that the main loop runs. The supervisor replaces a certifier that gives
# none, and alerts can be sent about it.
_BEAT_EVERY = 5.0
# All workers acknowledge within a turn of their loops; one that does not is being replaced.
_ACKNOWLEDGED_WITHIN = 15.0


class ChannelLink:
    """`acme_client.link.Link` over a `Channel`. ``receive`` and everything else on the main thread
    may read the channel; issuing threads only write to it and wait."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._main = threading.get_ident()
        self._lock = threading.Lock()
        self._tickets = itertools.count(1)
        self._done: dict[int, threading.Event] = {}
        self._refused: dict[int, Callable[[], None]] = {}  # how to send once more
        self._refusals: dict[int, dict[str, str]] = {}  # what workers cannot serve, and why
        self._commands: list[Command] = []
        self._awoken = False
        self._beaten = float("-inf")
        self._rests = False
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wake, False)

    # Verbs

    def publish(self, several: Sequence[Served], *, new: bool) -> Taken:
        fd, places = packed(one.chain_pem + one.key_pem for one in several)
        certificates = tuple(
            PackedCertificate(_facts(one), *place)
            for one, place in zip(several, places, strict=True)
        )
        try:
            return self._tell(lambda ticket: Publish(certificates, ticket, new), (fd,))
        finally:
            os.close(fd)

    def present(self, challenge: Challenge) -> bool:
        facts = ChallengeFacts(
            challenge.kind, challenge.host, challenge.token, challenge.key_authorization
        )
        if not challenge.chain_pem:
            return self._tell(lambda ticket: Present(facts, ticket)).acknowledged
        bundle = sealed("challenge", challenge.chain_pem + challenge.key_pem)
        try:
            return self._tell(lambda ticket: Present(facts, ticket), (bundle,)).acknowledged
        finally:
            os.close(bundle)

    def retract(self, challenge: Challenge) -> None:
        self._send(Retract(challenge.kind, challenge.host, challenge.token))

    def report(self, name: str, status: CertificateStatus | None) -> None:
        self._beat()  # thousands of certificates are taken on in one go
        self._send(Report(name, status))

    def report_cluster(self, status: ClusterStatus) -> None:
        """Report how this machine stands in its cluster; any thread may."""
        with contextlib.suppress(LinkBroken):  # the main thread ends by it
            self._send(ReportCluster(status))

    def report_engine(self, figures: EngineFigures) -> None:
        """Report what was counted of the cluster's engine; any thread may."""
        with contextlib.suppress(LinkBroken):  # the main thread ends by it
            self._send(ReportEngine(figures))

    def warned(self, at: float, level: str, process: str, text: str) -> None:
        """Tell the supervisor of a line in the log; any thread may."""
        self._send(Warned({"at": at, "level": level, "process": process, "text": text}))

    def loaded(self) -> None:
        self._send(Loaded())

    def idle(self) -> None:
        self._send(Idle())

    def answer(self, ticket: int, value: dict[str, Any]) -> None:
        self._send(CertifierAnswer(ticket, value))

    # The mailbox

    def receive(self, timeout: float | None) -> list[Command]:
        deadline = None if timeout is None else time.monotonic() + timeout
        self._beat()
        while not self._commands and not self._awoken:
            left = _BEAT_EVERY if deadline is None else deadline - time.monotonic()
            if left <= 0:
                break
            still = not self._pump(min(left, _BEAT_EVERY))
            self._beat()
            if still and left >= _BEAT_EVERY:
                self._rest()
        self._rests = self._awoken = False
        commands, self._commands = self._commands, []
        return commands

    def _rest(self) -> None:
        """Give back code, of which cryptography's alone is 5 MiB: for a whole beat nothing has run
        here."""
        if not self._rests:
            self._rests = True
            mapped_code.let_go()

    def wake(self) -> None:
        self._awoken = True
        self._stir()

    def _stir(self) -> None:
        """End the main thread's wait for the channel."""
        with contextlib.suppress(BlockingIOError):  # the pipe is full of such bytes
            os.write(self._wake, b"\0")

    def _beat(self) -> None:
        """Say that the main loop runs. Another thread's call is no sign of that."""
        now = time.monotonic()
        if threading.get_ident() == self._main and now - self._beaten >= _BEAT_EVERY:
            self._beaten = now
            self._send(Alive())

    def _pump(self, timeout: float | None) -> bool:
        """Read what has come; wakes threads whose ticket is done. Whether anything has come."""
        # Not `select`, which takes descriptors below 1024 only: where there are thousands of
        # certificates, the supervisor that we are forked from has more open than that.
        channel = self._channel.fileno()
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        poll.register(channel, select.POLLIN | (select.POLLOUT if self._channel.waiting else 0))
        ready = dict(poll.poll(None if timeout is None else timeout * 1000))
        try:
            if self._woken in ready:
                os.read(self._woken, 4096)
            if ready.get(channel, 0) & select.POLLOUT:
                with self._lock:
                    self._channel.flush()
            if ready.get(channel, 0) & ~select.POLLOUT:  # also when the other side has gone
                for said, fds in self._channel.receive():
                    for fd in fds:
                        os.close(fd)
                    self._take(said)
        except ChannelClosed:
            raise LinkBroken from None
        return bool(ready)

    def _take(self, said: JsonObject) -> None:
        try:
            message = TO_CERTIFIER.decode(said)
        except Malformed as why:
            log.error("what the supervisor says is not understood: %s", why)
            return
        match message:
            case Done(ticket, refusals):
                if ticket in self._done:
                    self._refusals[ticket] = refusals
                waiting = self._done.pop(ticket, None)
                if waiting is not None:
                    waiting.set()
            case NotTaken(ticket):
                resend = self._refused.get(ticket)
                if resend is not None:
                    resend()
            case CertifierCommand(verb, value, ticket):
                self._commands.append(Command(verb, value, ticket))
            case _:
                assert_never(message)

    def _send(self, message: FromCertifier, fds: tuple[int, ...] = ()) -> None:
        try:
            with self._lock:
                self._channel.send(encode(message), fds)
        except (ChannelClosed, OSError):
            raise LinkBroken from None
        if self._channel.waiting and threading.get_ident() != self._main:
            self._stir()  # the main thread flushes what the kernel did not take

    def _tell(
        self, message: Callable[[int], Publish | Present], fds: tuple[int, ...] = ()
    ) -> Taken:
        """Send the message with a ticket, and wait until every worker has acknowledged, or for the
        bound."""
        ticket = next(self._tickets)
        done = self._done[ticket] = threading.Event()
        self._refused[ticket] = lambda: self._send(message(ticket), fds)
        self._send(message(ticket), fds)
        if threading.get_ident() != self._main:
            acknowledged = done.wait(_ACKNOWLEDGED_WITHIN)
        else:
            deadline = time.monotonic() + _ACKNOWLEDGED_WITHIN
            while not done.is_set() and time.monotonic() < deadline:
                self._pump(min(deadline - time.monotonic(), _BEAT_EVERY))
                self._beat()
            acknowledged = done.is_set()
        self._done.pop(ticket, None)
        self._refused.pop(ticket, None)
        return Taken(acknowledged, self._refusals.pop(ticket, {}))


def _facts(served: Served) -> CertificateFacts:
    return CertificateFacts(
        name=served.name,
        site=served.site,
        names=served.names,
        not_after=served.not_after,
        serial=served.serial,
        family=served.family,
        on_demand_for=served.on_demand_for,
        digest=served.digest,
    )
