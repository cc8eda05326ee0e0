"""From the client to the backend: `requests.CASES`, with the lane, with h11 alone, and to backends over
HTTP/2."""

from __future__ import annotations

import socket
import ssl

import pytest

from support.http.client import Talk
from support.http.strict_backend import echo

from .proxied import Proxied
from .requests import CASES

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"


def tagged(data: bytes, tag: int) -> bytes:
    return data.replace(b"@@", b"@%d@" % tag)


@pytest.mark.parametrize("name", CASES)
def test_a_request(proxied_anyhow: Proxied, name: str) -> None:
    proxied = proxied_anyhow
    case, tag = CASES[name], proxied.tag()
    says = tagged(case.says, tag)
    reaches = [tagged(one, tag) for one in case.reaches]
    bodies = [] if b"HEAD" in case.says[:4] else [echoed(one) for one in reaches]
    with proxied.secure() as talk:
        talk.says(says)
        if case.hangs_up:
            socket.socket.shutdown(talk.sock, socket.SHUT_WR)  # below TLS, which goes on
        elif not case.stays:
            talk.says(SMUGGLED)
        for status in case.answers:
            answer = talk.hears("HEAD" if case.says.startswith(b"HEAD") else "GET")
            assert answer.status == status, answer
            assert answer.status != 200 or not bodies or answer.body == bodies.pop(0)
        if case.stays:
            proxied.canary(talk)
        elif case.answers and not case.hangs_up:
            assert answer["connection"] == "close"
        if not case.stays:
            assert ends(talk), "something behind it was answered"
    with proxied.secure() as another:
        proxied.canary(another)
    assert proxied.heard(tag) == [proxied.spelt(one) for one in reaches]
    proxied.expect(tag, reaches, tagged(case.begins, tag))


def echoed(message: bytes) -> bytes:
    """The body of the backend's answer to a message, as `requests.onward` spells it."""
    head, _, wire = message.partition(b"\r\n\r\n")
    method, target, _ = head.split(b"\r\n")[0].split(b" ")
    body = wire
    if b"transfer-encoding" in head:
        body = b"" if wire.startswith(b"0\r\n") else wire.split(b"\r\n", 1)[1]
        body = body[: int(wire.split(b"\r\n")[0], 16)]
    return echo(method, target, body).partition(b"\r\n\r\n")[2]


def ends(talk: Talk) -> bool:
    """Whether nothing more comes: an end, a reset, or OpenSSL's word on an end without notice."""
    try:
        return talk.rest() == b""
    except (ConnectionResetError, ssl.SSLError):
        return True


def test_nothing_strayed(proxied_anyhow: Proxied) -> None:
    """Last of all, when every message has had the time to arrive."""
    proxied = proxied_anyhow
    assert proxied.backend.strays == []
    assert proxied.backend.ill_formed == []
    for tag, (reaches, begins) in proxied.expected.items():
        assert proxied.heard(tag) == [proxied.spelt(one) for one in reaches]
        allowed = [proxied.spelt(one).partition(b"\r\n\r\n")[0] for one in [*reaches, begins]]
        for head in proxied.backend.begun[tag]:
            assert proxied.spelt(head).partition(b"\r\n\r\n")[0] in allowed
    proxied.assert_sound()
