"""Signatures; the work follows."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Literal

from .config.model import Admin, Listen

Kind = Literal["http", "https", "admin"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address to bind, in the kernel's spelling."""

    family: socket.AddressFamily
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Listener:
    """``endpoint`` is what was asked for; None where the socket was handed over (systemd)."""

    kind: Kind
    address: str
    sock: socket.socket
    endpoint: Endpoint | None = None


class CannotBind(Exception):
    def __init__(self, address: str, reason: str, advice: str) -> None:
        super().__init__(f"cannot listen on {address}: {reason}\n{advice}" if advice else reason)
        self.address, self.reason, self.advice = address, reason, advice


@dataclass(frozen=True, slots=True)
class ListenerPlan:
    kept: tuple[Listener, ...]
    opened: tuple[tuple[Kind, Endpoint], ...]
    closed: tuple[Listener, ...]


def plan_listeners(
    listen: Listen, present: tuple[Listener, ...], admin: Admin | None = None
) -> ListenerPlan:
    raise NotImplementedError


def open_listeners(
    listen: Listen, inherited: tuple[Listener, ...], admin: Admin | None = None
) -> tuple[Listener, ...]:
    raise NotImplementedError
