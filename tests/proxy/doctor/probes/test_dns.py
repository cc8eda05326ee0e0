"""A resolver that says nothing is waited for once."""

from __future__ import annotations

import itertools
import socket

import pytest

from proxy.doctor.probes import dns
from proxy.doctor.probes.dns import Names


def test_a_silent_resolver_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "_ASKED_WITHIN", 0.1)
    monkeypatch.setattr(dns, "_RESOLVED_WITHIN", 0.2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.setblocking(False)
        names = Names(("127.0.0.1", silent.getsockname()[1]))
        assert names.name("a.test", authoritative=True).error
        assert asked(silent)
        assert names.name("b.test", authoritative=True).error
        assert names.caa("a.test").unasked
        assert not asked(silent)


def asked(listener: socket.socket) -> int:
    """How many questions have come since the last call."""
    for count in itertools.count():
        try:
            listener.recv(4096)
        except BlockingIOError:
            return count
    raise AssertionError
