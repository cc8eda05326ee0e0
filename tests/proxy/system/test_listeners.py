"""Which sockets are opened, kept and closed; and what is said where one cannot be had."""

import errno
import os
import socket
from pathlib import Path

import pytest

from proxy.config.model import Address, Admin, Listen
from proxy.system.listeners import (
    CannotBind,
    Listener,
    display_address,
    make_ready,
    open_listeners,
    plan_listeners,
)
from support.program.ports import free_ports


def free_port() -> int:
    return free_ports(1)[0]


def listen(http: str = "127.0.0.1", https: str = "127.0.0.1", ports: tuple[int, int] = (80, 443)):
    return Listen(http=(Address(http, ports[0]),), https=(Address(https, ports[1]),))


def opened(wanted: Listen, present: tuple[Listener, ...] = ()) -> tuple[Listener, ...]:
    return open_listeners(wanted, present)


def closed(listeners: tuple[Listener, ...]) -> None:
    for one in listeners:
        one.sock.close()


# The decision


def test_all_addresses_are_two_sockets() -> None:
    plan = plan_listeners(listen("", ""), ())
    assert [(kind, str(endpoint)) for kind, endpoint in plan.opening] == [
        ("http", "0.0.0.0:80"),
        ("http", "[::]:80"),
        ("https", "0.0.0.0:443"),
        ("https", "[::]:443"),
    ]
    assert all(endpoint.optional for _, endpoint in plan.opening), "a machine may lack IPv6"


def test_one_address_is_not_optional() -> None:
    plan = plan_listeners(listen(), ())
    assert not any(endpoint.optional for _, endpoint in plan.opening)


def test_the_admin_listener_is_one_more() -> None:
    plan = plan_listeners(listen(), (), Admin(Address("127.0.0.1", 2020)))
    assert [kind for kind, _ in plan.opening] == ["http", "https", "admin"]


def test_a_name_is_no_address() -> None:
    with pytest.raises(CannotBind, match=r"example\.org is not an IP address"):
        plan_listeners(listen("example.org"), ())


def test_what_is_handed_over_stands_for_all_of_its_kind() -> None:
    with socket.socket() as sock:
        given = Listener("http", "systemd", sock)
        plan = plan_listeners(listen("", ""), (given,))
        assert plan.kept == (given,)
        assert {kind for kind, _ in plan.opening} == {"https"}


def test_a_reload_keeps_what_it_still_wants() -> None:
    ports, other = (free_port(), free_port()), free_port()
    present = opened(listen(ports=ports))
    try:
        plan = plan_listeners(listen(ports=(ports[0], other)), present)
        assert plan.kept == present[:1]
        assert [(kind, endpoint.port) for kind, endpoint in plan.opening] == [("https", other)]
        assert plan.closing == present[1:]
    finally:
        closed(present)


def test_a_kept_socket_may_change_its_kind() -> None:
    ports = (free_port(), free_port())
    present = opened(listen(ports=ports))
    try:
        plan = plan_listeners(listen(ports=(ports[1], ports[0])), present)
        assert plan.opening == ()
        assert [(one.kind, one.sock) for one in plan.kept] == [
            ("http", present[1].sock),
            ("https", present[0].sock),
        ]
    finally:
        closed(present)


# Doing it


def test_sockets_do_not_block_are_not_inherited_and_send_at_once() -> None:
    present = opened(listen(ports=(free_port(), free_port())))
    try:
        for one in present:
            assert not one.sock.getblocking()
            assert not one.sock.get_inheritable()
            assert one.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert one.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 128 * 1024
    finally:
        closed(present)


def test_ipv6_is_not_ipv4() -> None:
    """An IPv4 client is seen under its IPv4 address."""
    port = free_port()
    present = opened(listen("::1", "127.0.0.1", (port, port)))
    try:
        assert present[0].sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    finally:
        closed(present)


def test_all_or_nothing() -> None:
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        with pytest.raises(CannotBind):
            opened(listen(ports=(free, taken)))
    closed(opened(listen(ports=(free, taken))))  # nothing was left open


def test_a_port_in_use_names_who_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        with pytest.raises(CannotBind) as caught:
            opened(listen(ports=(holder.getsockname()[1], free_port())))
        assert "this server itself" in caught.value.reason  # this very process


def test_an_address_of_no_interface_is_told_with_a_way_out() -> None:
    with pytest.raises(CannotBind) as caught:
        opened(listen("192.0.2.1", ports=(free_port(), free_port())))  # TEST-NET-1, RFC 5737
    assert "no network interface has this address" in caught.value.reason
    assert "ip -brief address" in caught.value.advice


@pytest.mark.parametrize("reloading", [False, True])
def test_a_missing_privilege_is_told_with_every_way_out(
    monkeypatch: pytest.MonkeyPatch, reloading: bool
) -> None:
    present = opened(listen(ports=(free_port(), free_port()))) if reloading else ()

    class Refused(socket.socket):
        def bind(self, _address: object) -> None:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(socket, "socket", Refused)
    with pytest.raises(CannotBind) as caught:
        opened(listen(ports=(80, 443)), present)
    closed(present)
    said = str(caught.value)
    for way in (
        "sudo ",
        "net.ipv4.ip_unprivileged_port_start=80",
        "CAP_NET_BIND_SERVICE",
        "FileDescriptorName=http",
        "--http-port 8080 --https-port 8443",
    ):
        assert way in said
    assert ("cannot take them back for a reload" in " ".join(said.split())) is reloading


# For people


def test_addresses_as_people_write_them(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        assert display_address(sock) == f"127.0.0.1:{sock.getsockname()[1]}"
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as sock:
        assert display_address(sock) == f"[::1]:{sock.getsockname()[1]}"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "a.sock"))
        make_ready(sock)
        assert display_address(sock) == f"unix:{tmp_path}/a.sock"
