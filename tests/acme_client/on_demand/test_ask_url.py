"""The question that is put to the operator's app, against a server that says any bytes; and where names
lead, against a DNS server of the test's own."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trustme

from acme_client.on_demand import dns_check
from acme_client.on_demand.ask_url import CannotTell, ask
from acme_client.on_demand.dns_check import leads_here


class Peer:
    """Answers each connection with these bytes; ``heard`` has what was asked. ``pieces`` are sent
    one after the other, and then the connection is held until the test ends."""

    def __init__(self, *pieces: bytes) -> None:
        self.heard: list[bytes] = []
        self._pieces = pieces
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Peer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock:
                try:
                    self.heard.append(sock.recv(65536))
                    for piece in self._pieces:
                        sock.sendall(piece)
                        self._over.wait(0.02)
                    if not self._pieces:
                        self._over.wait(10)
                except OSError:
                    continue

    def url(self, rest: str = "/allowed") -> str:
        return f"http://127.0.0.1:{self.port}{rest}"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", None),
        (b"HTTP/1.0 200 \r\n\r\n", None),
        (b"HTTP/1.1 200\r\n\r\n", None),
        (b"HTTP/1.1 204 No Content\r\n\r\n", None),
        (b"HTTP/1.1 202 Accepted\r\n\r\n", None),
        (b"HTTP/1.1 299 \r\n\r\n", None),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", None),
        (
            b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n" * 30
            + b"HTTP/1.1 404 No\r\n\r\n",
            "the ask URL says 404",
        ),
        (b"HTTP/1.1 103 Early Hints\n\nHTTP/1.1 204 \n\n", None),
        (b"HTTP/1.1 600 Odd\r\n\r\n", "the ask URL says 600"),
        (b"HTTP/1.1 302 Found\r\nLocation: /yes\r\n\r\n", "the ask URL says 302"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "the ask URL says 404"),
        (b"HTTP/1.1 500 Oops\r\n\r\n", "the ask URL says 500"),
    ],
)
def test_any_2xx_is_yes(answer: bytes, why: str | None) -> None:
    with Peer(answer) as peer:
        assert ask(peer.url(), "a.example") == why
        assert len(peer.heard) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/2 200\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 31 + b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nX: " + b"x" * 100_000 + b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 099 Odd\r\n\r\n",
        b"x" * 5000,
        b"HTTP/1.1 200",
    ],
)
def test_what_is_no_answer_is_neither_yes_nor_no(answer: bytes) -> None:
    with Peer(answer) as peer, pytest.raises(CannotTell):
        ask(peer.url(), "a.example", within=0.5)


def test_the_question() -> None:
    with Peer(b"HTTP/1.1 200 OK\r\n\r\n") as peer:
        ask(peer.url("/x?y=1"), "xn--bcher-kva.example")
        ask(peer.url(""), "a.example")
    head = peer.heard[0].decode().split("\r\n")
    assert head[0] == "GET /x?y=1&domain=xn--bcher-kva.example HTTP/1.1"
    assert f"Host: 127.0.0.1:{peer.port}" in head
    assert peer.heard[0].endswith(b"\r\n\r\n")
    assert peer.heard[1].startswith(b"GET /?domain=a.example HTTP/1.1\r\n")


def test_an_interim_response_may_come_in_pieces() -> None:
    whole = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 201 Made\r\n\r\n"
    with Peer(*(whole[at : at + 7] for at in range(0, len(whole), 7))) as peer:
        assert ask(peer.url(), "a.example") is None


def test_an_answer_that_trickles_is_given_up_in_time() -> None:
    with Peer(*[b"H"] * 3000) as peer, pytest.raises(CannotTell, match="no answer in time"):
        ask(peer.url(), "a.example", within=0.3)


def test_nobody_there() -> None:
    with pytest.raises(CannotTell, match="refused"):
        ask("http://127.0.0.1:9/", "a.example")


def test_tls_is_verified(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(2):
            raw, _address = listener.accept()
            try:
                with context.wrap_socket(raw, server_side=True) as tls:
                    tls.recv(65536)
                    tls.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            except OSError:
                raw.close()

    thread = threading.Thread(target=serve)
    thread.start()
    url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
    with pytest.raises(CannotTell, match="its TLS certificate is not trusted"):
        ask(url, "a.example")
    file = f"{tmp_path}/ca.pem"
    authority.cert_pem.write_to_path(file)
    monkeypatch.setenv("SSL_CERT_FILE", file)
    assert ask(url, "a.example") is None
    thread.join()
    listener.close()


# DNS


class Names:
    """A DNS server; ``records`` maps a name to its addresses, None to silence, "refuse" to that."""

    def __init__(self) -> None:
        self.records: dict[str, list[str] | str | None] = {}
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self._address = self._sock.getsockname()
        self.resolvers = (("127.0.0.1", int(self._address[1])),)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Names:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.sendto(b"", self._address)
        self._thread.join()
        self._sock.close()

    def _run(self) -> None:
        while True:
            data, peer = self._sock.recvfrom(4096)
            if not data:
                return
            question = dns.message.from_wire(data)
            name = question.question[0].name.to_text(omit_final_dot=True)
            kind = question.question[0].rdtype
            answer = dns.message.make_response(question)
            answer.flags |= dns.flags.RA
            found = self.records.get(name, [])
            if found is None:
                continue
            if found == "refuse":
                answer.set_rcode(dns.rcode.REFUSED)
            elif not found:
                answer.set_rcode(dns.rcode.NXDOMAIN)
            else:
                wanted = [one for one in found if (":" in one) == (kind == 28)]
                if wanted:
                    answer.answer.append(
                        dns.rrset.from_text(
                            name + ".", 1, "IN", dns.rdatatype.to_text(kind), *wanted
                        )
                    )
            self._sock.sendto(answer.to_wire(), peer)


@pytest.fixture(scope="module")
def names() -> Iterator[Names]:
    with Names() as made:
        yield made


OURS = frozenset({"192.0.2.1", "2001:db8::1"})


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (["192.0.2.1"], None),
        (["2001:db8::1"], None),
        (["192.0.2.1", "2001:0db8::1"], None),
        (["192.0.2.1", "192.0.2.2"], "its DNS leads to 192.0.2.2"),
        (["192.0.2.1", "2001:db8::2"], "its DNS leads to 2001:db8::2"),
        (["198.51.100.1"], "its DNS leads to 198.51.100.1"),
        ([], "its DNS has no address"),
    ],
)
def test_where_a_name_leads(names: Names, found: list[str], why: str | None) -> None:
    names.records["a.example"] = found
    assert leads_here("a.example", OURS, names.resolvers) == why


@pytest.mark.parametrize(
    ("record", "within", "why"), [(None, 0.6, "in time"), ("refuse", 60.0, "cannot be asked")]
)
def test_a_name_server_that_does_not_tell(
    names: Names, record: str | None, within: float, why: str
) -> None:
    names.records["b.example"] = record
    with pytest.raises(CannotTell, match=why):
        leads_here("b.example", OURS, names.resolvers, within=within)


def test_a_machine_without_a_public_address_must_be_told_which_are_its_own(names: Names) -> None:
    with pytest.raises(CannotTell, match="name the addresses"):
        leads_here("a.example", frozenset(), names.resolvers)


FIB = """Main:
  +-- 0.0.0.0/0 3 0 5
     +-- 127.0.0.0/8 2 0 2
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
           |-- 203.0.113.0
              /24 link UNICAST
           |-- 8.8.4.4
              /32 host LOCAL
Local:
           |-- 8.8.4.4
              /32 host LOCAL
"""
IF_INET6 = """00000000000000000000000000000001 01 80 10 80       lo
26064700470000000000000000001111 02 40 00 80     eth0
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
"""


def test_the_machines_own_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fib_trie").write_text(FIB)
    monkeypatch.setattr(dns_check, "_FOLDER", tmp_path)
    assert {str(one) for one in dns_check.interface_addresses()} == {"127.0.0.1", "8.8.4.4"}
    (tmp_path / "if_inet6").write_text(IF_INET6)
    assert dns_check.public_addresses() == {"8.8.4.4", "2606:4700:4700::1111"}


def test_the_addresses_of_this_machine() -> None:
    assert ip_address("127.0.0.1") in set(dns_check.interface_addresses())
