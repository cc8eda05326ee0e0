"""From the backend to the client: `answers.CASES`, with the lane and with h11 alone."""

from __future__ import annotations

import contextlib
import ssl

import pytest

from support.http.strict_backend import Says

from .answers import CASES
from .proxied import Proxied

NAMES = list(CASES)


def script(_method: bytes, target: bytes) -> Says | None:
    _, _tag, asked = target.split(b"@", 2)
    if not asked.isdigit():
        return None
    case = CASES[NAMES[int(asked)]]
    return Says(case.says, case.then, case.early)


@pytest.mark.parametrize("name", CASES)
def test_an_answer(proxied: Proxied, name: str) -> None:
    case, tag = CASES[name], proxied.tag()
    target = b"/@%d@%d" % (tag, NAMES.index(name))
    lines = list(case.lines)
    if case.sends:
        lines.append(b"Content-Length: %d" % len(case.sends))
    fields = b"".join(line + b"\r\n" for line in lines)
    with proxied.secure() as talk:
        talk.says(b"%b %b HTTP/1.1\r\nHost: a.test\r\n%b\r\n" % (case.method, target, fields))
        with contextlib.suppress(OSError):  # it may have had enough of us
            talk.says(case.sends)
        if not case.status:
            with pytest.raises((ConnectionError, ssl.SSLError)):
                talk.hears()
        else:
            answer = talk.hears(case.method.decode())
            assert answer.status == case.status, answer
            assert case.status == 502 or answer.body == case.body
            assert len(answer.interim) == case.interim
            assert all(b"\r\n" + field + b"\r\n" in answer.head for field in case.fields)
            assert b"evil" not in answer.head.lower()
        if case.stays:
            proxied.canary(talk)
    for _ in range(2):
        with proxied.secure() as another:
            proxied.canary(another)
    assert 1 <= len(proxied.backend.begun[tag]) <= case.times


def test_nothing_strayed(proxied: Proxied) -> None:
    assert proxied.backend.strays == []
    assert proxied.backend.ill_formed == []
    proxied.assert_sound()
