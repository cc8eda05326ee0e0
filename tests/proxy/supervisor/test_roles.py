"""The process table: its rows agree with what they name."""

from __future__ import annotations

import os
import typing
from dataclasses import replace
from pathlib import Path

from proxy.config.load import Options, load
from proxy.config.model import Tracing
from proxy.ipc import messages
from proxy.sandbox import policies
from proxy.supervisor.roles import (
    CERTIFIER,
    DOCKER,
    EXPORTER,
    MESSENGER,
    ROLES,
    WORKER,
    Inherited,
    RoleName,
)


def test_every_kind_of_child_has_one_row() -> None:
    assert [role.name for role in ROLES] == list(typing.get_args(RoleName))
    assert all(callable(role.entry) for role in ROLES)
    assert all(role.starting_for >= role.silent_for for role in ROLES)


def test_what_is_inherited_is_for_workers() -> None:
    """Keys, and sockets that the network reaches, are nobody else's."""
    assert set(WORKER.inherits) == set(typing.get_args(Inherited)) - {"spans in", "docker_door"}
    assert EXPORTER.inherits == {"spans in"}
    assert DOCKER.inherits == {"docker_door"}
    assert CERTIFIER.inherits == MESSENGER.inherits == frozenset()


def test_every_row_names_a_policy_of_the_sandbox(tmp_path: Path) -> None:
    options = Options(domain=("a.test",), backend=("http://127.0.0.1:1",), state=tmp_path / "state")
    plain = load(options, now_uid=os.getuid())
    assert "exporter" not in policies(plain)
    known = policies(replace(plain, tracing=Tracing("http://127.0.0.1:4318")))
    for role in ROLES:
        # A messenger's is made for the one message that it carries (`alerts.policy`).
        # Docker is there where it is named.
        assert role.policy in known or role in (MESSENGER, DOCKER)


def test_whoever_is_listened_to_has_something_to_say() -> None:
    """A bound on silence needs messages that break it."""
    for role, says in (
        (WORKER, messages.Stats),
        (CERTIFIER, messages.Alive),
        (DOCKER, messages.Alive),
    ):
        assert role.silent_for < float("inf")
        vocabularies = (messages.FROM_WORKER, messages.FROM_CERTIFIER, messages.FROM_DOCKER)
        assert any(says in one.kinds for one in vocabularies)
