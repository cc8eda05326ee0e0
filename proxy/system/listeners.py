"""The listening sockets: which to have, which to keep, and why one cannot be had.

`plan_listeners` decides and touches nothing; `open_listeners` does what the plan says, all of it or
nothing. A socket that is open is never closed and bound again: what a reload still wants, it keeps,
because closing would refuse connections and because a port below 1024 could not be bound again
without the privileges that are gone. Closing what is no longer wanted is the caller's, once nobody
accepts from it any more.

Sockets that were handed over (systemd) stand for all addresses of their kind: the unit file decides
then, and `listen` of the configuration is not looked at.

Three choices:

- "All addresses" is two sockets, 0.0.0.0 and [::] with IPV6_V6ONLY, so that an IPv4 client is seen
  under its IPv4 address, and a machine without IPv6 is served all the same.
- No TCP_DEFER_ACCEPT, although TLS clients always speak first: the silent ones would be
  held by the kernel, outside our limits and time-outs and in nobody's count. It would save one
  wake-up for each connection.
- No SO_REUSEPORT: with a socket per worker, connections queued at a worker that ends are lost.
  All workers accept from the same socket.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import socket
import sys
from collections.abc import Container
from dataclasses import replace
from typing import Literal

from acme_client.late_dataclass import dataclass

from ..config.model import Address, Admin, Listen
from .port_owner import Holder, find_holder

Kind = Literal["http", "https", "admin"]

# What the kernel takes of an answer beyond what it can send now. Two pieces are enough to keep it
# busy until we come again; megabytes (its own choice) go cold in its memory before they leave.
_UNSENT_MOST = 128 * 1024
# Connections that wait for a worker to accept them. The kernel lowers it to net.core.somaxconn,
# 4096 since Linux 5.4; asking for as much leaves the decision there.
_BACKLOG = 4096
_ALL = ("0.0.0.0", "::")  # noqa: S104 - "all addresses" is the documented default of a front door
# RFC 6761 §6.3: never a question for a name server.
_LOCALHOST = ("127.0.0.1", "::1")
# What a kernel without IPv6 (or IPv4) answers: none compiled in; disabled by sysctl.
_ABSENT = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address to bind, as the kernel takes it. ``optional``: one of several that a name stands
    for, and left out where the machine has no such addresses."""

    family: socket.AddressFamily
    host: str
    port: int
    optional: bool = False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Listener:
    """An open listening socket. ``address`` is for people and tells the port really bound;
    ``endpoint`` is what was asked for, None where the socket was handed over."""

    kind: Kind
    address: str
    sock: socket.socket
    endpoint: Endpoint | None = None


class CannotBind(Exception):
    """``reason`` in a few words; ``advice`` in lines, each a way out with its exact command."""

    def __init__(self, address: str, reason: str, advice: str = "") -> None:
        text = f"cannot listen on {address}: {reason}"
        super().__init__(f"{text}\n{advice}" if advice else text)
        self.address = address
        self.reason = reason
        self.advice = advice


# The decision


@dataclass(frozen=True, slots=True)
class ListenerPlan:
    """``closing`` are those of the present listeners that nobody wants any more."""

    kept: tuple[Listener, ...]
    opening: tuple[tuple[Kind, Endpoint], ...]
    closing: tuple[Listener, ...]


def plan_listeners(
    listen: Listen, present: tuple[Listener, ...], admin: Admin | None = None
) -> ListenerPlan:
    """What has to be opened, and what becomes of the present listeners.

    A kept socket may change its kind: the address stays, what is spoken there does not.
    Raises `CannotBind` for a host that is no address.
    """
    handed_over = [one for one in present if one.endpoint is None]
    open_now = {one.endpoint: one for one in present if one.endpoint is not None}
    kinds_handed_over = {one.kind for one in handed_over}
    kept, opening = list(handed_over), []
    for kind, endpoint in _wanted(listen, admin):
        if kind in kinds_handed_over:
            continue
        listener = open_now.pop(endpoint, None)
        if listener is None:
            opening.append((kind, endpoint))
        else:
            kept.append(replace(listener, kind=kind))
    return ListenerPlan(tuple(kept), tuple(opening), tuple(open_now.values()))


def _wanted(listen: Listen, admin: Admin | None) -> list[tuple[Kind, Endpoint]]:
    addresses: list[tuple[Kind, Address]] = []
    addresses += [("http", address) for address in listen.http]
    addresses += [("https", address) for address in listen.https]
    if admin is not None:
        addresses.append(("admin", admin.listen))
    return [(kind, endpoint) for kind, address in addresses for endpoint in _endpoints(address)]


def _endpoints(address: Address) -> list[Endpoint]:
    several = {"": _ALL, "localhost": _LOCALHOST}.get(address.host)
    try:
        return [
            Endpoint(family, str(name[0]), address.port, optional=several is not None)
            for host in several or (address.host,)
            for family, _, _, _, name in socket.getaddrinfo(
                host,
                address.port,
                type=socket.SOCK_STREAM,
                flags=socket.AI_NUMERICHOST | socket.AI_PASSIVE,
            )
        ]
    except (socket.gaierror, UnicodeError):
        spelt = f"{address.host}:{address.port}"
        raise CannotBind(spelt, f"{address.host} is not an IP address") from None


# Doing it


def open_listeners(
    listen: Listen, present: tuple[Listener, ...], admin: Admin | None = None
) -> tuple[Listener, ...]:
    """All listeners that the configuration wants: those of ``present`` that it still wants, and
    new ones. Raises `CannotBind`, and then nothing has changed."""
    plan = plan_listeners(listen, present, admin)
    opened: list[Listener] = []
    try:
        for kind, endpoint in plan.opening:
            opened += _open(kind, endpoint)
        missing = _missing(plan.opening, opened)
        if missing is not None:
            raise CannotBind(str(missing), "this machine has neither IPv4 nor IPv6")
    except OSError as error:
        _close(opened)
        reloading = any(one.endpoint is not None for one in present)
        raise _explain(endpoint, error, reloading) from None
    except CannotBind:
        _close(opened)
        raise
    return plan.kept + tuple(opened)


def try_listeners(
    listen: Listen,
    present: tuple[Listener, ...] = (),
    admin: Admin | None = None,
    ours: Container[int] = (),
) -> None:
    """Whether `open_listeners` would open what is missing: each address is bound and let go of,
    and nobody is accepted meanwhile. ``ours`` are processes of a server whose place is taken.
    Raises `CannotBind`."""
    plan = plan_listeners(listen, present, admin)
    for _kind, endpoint in plan.opening:
        try:
            with socket.socket(endpoint.family, socket.SOCK_STREAM) as sock:
                _bind(sock, endpoint)
        except OSError as error:
            if endpoint.optional and error.errno in _ABSENT:
                continue
            if error.errno == errno.EADDRINUSE:
                holder = find_holder(endpoint.family, endpoint.host, endpoint.port)
                if holder is not None and (holder.pid in ours or _hands_over(holder)):
                    continue
            reloading = any(one.endpoint is not None for one in present)
            raise _explain(endpoint, error, reloading) from None


def _hands_over(holder: Holder) -> bool:
    """Whether it is systemd, which gives a service what its socket units listen on."""
    return holder.pid == 1 and "systemd" in holder.command


def _bind(sock: socket.socket, endpoint: Endpoint) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if endpoint.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((endpoint.host, endpoint.port))


def _open(kind: Kind, endpoint: Endpoint) -> list[Listener]:
    """The listener; none where the endpoint is optional and the machine has no such addresses."""
    with contextlib.ExitStack() as undo:
        try:
            sock = undo.enter_context(socket.socket(endpoint.family, socket.SOCK_STREAM))
            _bind(sock, endpoint)
            sock.listen(_BACKLOG)
            make_ready(sock)
        except OSError as error:
            if endpoint.optional and error.errno in _ABSENT:
                return []
            raise
        undo.pop_all()
    return [Listener(kind, display_address(sock), sock, endpoint)]


def _missing(opening: tuple[tuple[Kind, Endpoint], ...], opened: list[Listener]) -> Endpoint | None:
    """The endpoint all of whose alternatives were left out, if there is one."""
    there = {(one.kind, one.endpoint.port) for one in opened if one.endpoint is not None}
    for kind, endpoint in opening:
        if (kind, endpoint.port) not in there:
            return endpoint
    return None


def make_ready(sock: socket.socket) -> None:
    """What every listening socket of ours needs, also one that somebody else opened."""
    sock.setblocking(False)
    sock.set_inheritable(False)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        # Linux hands them on to each accepted connection, which saves system calls there.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_MOST)


def display_address(sock: socket.socket) -> str:
    """0.0.0.0:443, [::]:443 or unix:/path."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        path = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
        return "unix:" + path.replace("\0", "@", 1)
    return str(Endpoint(sock.family, name[0], name[1]))


def _close(listeners: list[Listener]) -> None:
    for listener in listeners:
        listener.sock.close()


# The explanation


def _explain(endpoint: Endpoint, error: OSError, reloading: bool) -> CannotBind:
    address = str(endpoint)
    match error.errno:
        case errno.EADDRINUSE:
            return CannotBind(address, *_in_use(endpoint))
        case errno.EACCES | errno.EPERM:
            reason = f"port {endpoint.port} needs a privilege that this process does not have"
            return CannotBind(address, reason, _ways_to_bind(endpoint.port, reloading))
        case errno.EADDRNOTAVAIL:
            return CannotBind(
                address,
                "no network interface has this address",
                "See the addresses there are: ip -brief address\n"
                "Or allow binding one that comes later: "
                "sudo sysctl -w net.ipv4.ip_nonlocal_bind=1 net.ipv6.ip_nonlocal_bind=1",
            )
        case _:
            return CannotBind(address, error.strerror or str(error))


def _in_use(endpoint: Endpoint) -> tuple[str, str]:
    holder = find_holder(endpoint.family, endpoint.host, endpoint.port)
    if holder is None:
        reason = "the port is in use by a process that this user cannot see"
        return reason, f"Find it: sudo ss -ltnp 'sport = :{endpoint.port}'"
    if holder.pid == os.getpid():
        return (
            "this server itself already listens on that port of an overlapping address",
            "A running server cannot exchange the one for the other; restart it instead",
        )
    advice = (
        f"End it (sudo kill {holder.pid}; a service: sudo systemctl stop NAME), "
        "or choose another port: --http-port, --https-port, --bind"
    )
    return f"the port is in use by {holder.command} (pid {holder.pid})", advice


def _ways_to_bind(port: int, reloading: bool) -> str:
    # A script names its interpreter itself; `python -m proxy` is no script.
    script = os.access(sys.argv[0], os.X_OK)
    words = sys.argv if script else [sys.executable, *sys.orig_argv[1:]]
    program = shlex.join("run" if word == "check" else word for word in words)
    interpreter = shlex.quote(os.path.realpath(sys.executable))
    first = "Any one of these will do:"
    if reloading:
        first = (
            "The running server has given its privileges up and cannot take them back for a "
            "reload; restart it in one of these ways:"
        )
    return f"""{first}
- as root, which is given up once the ports are bound:
    sudo {program}
- allow it to every program on this machine:
    sudo sysctl -w net.ipv4.ip_unprivileged_port_start={port}
- under systemd, in the service unit's [Service] section:
    AmbientCapabilities=CAP_NET_BIND_SERVICE
  or in a socket unit's [Socket] section:
    ListenStream={port}
    FileDescriptorName=http (or https)
- allow it to this interpreter, and so to every script that anybody runs with it:
    sudo setcap cap_net_bind_service=+ep {interpreter}
- ports from 1024 up:
    --http-port 8080 --https-port 8443"""
