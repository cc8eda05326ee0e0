"""The certifier's verbs as messages: waited for, sent again, and read whatever comes."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from acme_client.link import Challenge, LinkBroken, Served, Taken
from proxy.certifier import link as module
from proxy.certifier.link import ChannelLink
from proxy.ipc.channel import Channel, content
from proxy.ipc.codec import encode
from proxy.ipc.messages import (
    FROM_CERTIFIER,
    Alive,
    CertifierCommand,
    Done,
    FromCertifier,
    NotTaken,
    Present,
    Publish,
    Retract,
    ToCertifier,
)

SERVED = Served("a.test", "a.test", ("a.test",), b"CHAIN\n", b"KEY\n", "ff", 0.0, 2e9, "acme")
TOKEN = Challenge("http-01", "a.test", "token", "token.thumbprint")
ALPN = Challenge("tls-alpn-01", "a.test", "token", "x", b"CHAIN\n", b"KEY\n")


class Supervisor:
    """The other end, played by the test; ``bundles``: what the descriptors held, in order."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.bundles: list[bytes] = []
        self._heard: list[FromCertifier] = []

    def hears(self) -> FromCertifier:
        """The next message but signs of life."""
        deadline = time.monotonic() + 60
        while not self._heard and time.monotonic() < deadline:
            for said, fds in self.channel.receive():
                for fd in fds:
                    self.bundles.append(content(fd))
                    os.close(fd)
                message = FROM_CERTIFIER.decode(said, len(fds))
                if not isinstance(message, Alive):
                    self._heard.append(message)
            threading.Event().wait(0.005)
        assert self._heard, "nothing came"
        return self._heard.pop(0)

    def says(self, *messages: ToCertifier) -> None:
        for message in messages:
            self.channel.send(encode(message))


@pytest.fixture(params=[0, 1500], ids=["a low descriptor", "a descriptor over 1024"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[ChannelLink, Supervisor]]:
    ours, theirs = Channel.pair()
    if request.param:
        moved = fcntl.fcntl(ours.fileno(), fcntl.F_DUPFD_CLOEXEC, request.param)
        ours.close()
        ours = Channel(socket.socket(fileno=moved))
    yield ChannelLink(ours), Supervisor(theirs)
    ours.close()
    theirs.close()


Ends = tuple[ChannelLink, Supervisor]


def begun(work: object) -> tuple[threading.Thread, list[object]]:
    """A verb in a thread of its own, as issuing threads call it, and what it has returned."""
    returned: list[object] = []
    thread = threading.Thread(target=lambda: returned.append(work()))  # type: ignore[operator]
    thread.start()
    return thread, returned


def test_a_certificate_is_published_when_the_supervisor_says_that_it_is_done(ends: Ends) -> None:
    link, supervisor = ends
    thread, returned = begun(lambda: link.publish([SERVED], new=True))
    message = supervisor.hears()
    assert isinstance(message, Publish)
    (packed,) = message.certificates
    assert (packed.facts.name, packed.facts.names) == ("a.test", ("a.test",))
    assert (packed.offset, packed.length) == (0, 10)
    assert supervisor.bundles == [b"CHAIN\nKEY\n"]
    assert returned == []
    supervisor.says(Done(message.ticket))
    link.receive(0.2)
    thread.join(60)
    assert returned == [Taken(True)]


def test_a_certificate_that_a_worker_cannot_serve_is_told_with_the_reason(
    ends: Ends,
) -> None:
    link, supervisor = ends
    refusals = {"a.test": "OpenSSL does not take it: EE_KEY_TOO_SMALL"}
    supervisor.says(Done(1, refusals))  # its first ticket
    assert link.publish([SERVED], new=True) == Taken(True, refusals)


@pytest.mark.parametrize("challenge", [TOKEN, ALPN], ids=["http-01", "tls-alpn-01"])
def test_what_could_not_be_taken_is_sent_again_at_once(ends: Ends, challenge: Challenge) -> None:
    link, supervisor = ends
    thread, returned = begun(lambda: link.present(challenge))
    first = supervisor.hears()
    assert isinstance(first, Present)
    supervisor.says(NotTaken(first.ticket))
    link.receive(0.2)
    assert supervisor.hears() == first
    assert supervisor.bundles == ([] if challenge is TOKEN else [b"CHAIN\nKEY\n"] * 2)
    supervisor.says(Done(first.ticket))
    link.receive(0.2)
    thread.join(60)
    assert returned == [True]


def test_the_end_of_a_challenge_names_its_kind(ends: Ends) -> None:
    link, supervisor = ends
    link.retract(TOKEN)
    link.retract(ALPN)
    assert supervisor.hears() == Retract("http-01", "a.test", "token")
    assert supervisor.hears() == Retract("tls-alpn-01", "a.test", "token")


def test_without_an_acknowledgement_it_is_false_after_the_bound(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ACKNOWLEDGED_WITHIN", 0.1)
    link, _supervisor = ends
    assert link.publish([SERVED], new=True) == Taken(False)


def test_what_is_not_understood_is_an_error_in_the_log_and_the_rest_is_read(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    link, supervisor = ends
    supervisor.channel.send({"type": "done", "ticket": "seven"})
    supervisor.channel.send({"type": "dance"})
    supervisor.says(CertifierCommand("renew", {"name": "a.test"}, 3))
    (command,) = link.receive(5.0)
    assert (command.verb, command.value, command.ticket) == ("renew", {"name": "a.test"}, 3)
    said = [record.getMessage() for record in caplog.records]
    assert [text.partition(": ")[2] for text in said] == [
        "message done: ticket: int expected, not 'seven'",
        "unknown message 'dance'",
    ]


def test_a_supervisor_that_has_gone_breaks_the_link(ends: Ends) -> None:
    link, supervisor = ends
    supervisor.channel.close()
    with pytest.raises(LinkBroken):
        link.receive(5.0)


def test_code_is_given_back_when_nothing_has_run_for_a_beat(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, supervisor = ends
    monkeypatch.setattr(module, "_BEAT_EVERY", 0.02)
    given_back: list[bool] = []

    def let_go() -> None:
        given_back.append(True)
        link.wake()

    monkeypatch.setattr(module.mapped_code, "let_go", let_go)
    assert link.receive(60) == []
    assert given_back == [True]
    supervisor.says(CertifierCommand("status", None, 7))
    assert [one.ticket for one in link.receive(60)] == [7]
    assert given_back == [True], "something has run"
