"""Whose request a connection of HTTP/2 may carry: names that share a certificate, sites that ask for client
certificates or have no HTTP/2, names on demand, and clients whom a PROXY header names."""

from __future__ import annotations

import contextlib
import shutil
import ssl
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from support.h2_peer import headers
from support.http.backend_app import serving
from support.http.client import https
from support.http.h2_talk import H2Talk, h2_context, request
from support.http.name_app import NameApp
from support.http.streaming_app import Witness, application
from support.program.ports import free_ports
from support.program.server import Server

REFUSED_STREAM = 7


@dataclass
class Running:
    server: Server
    port: int
    folder: Path
    clients: trustme.CA
    app: NameApp

    def using(self, certificate: bool = False) -> ssl.SSLContext:
        made = h2_context(self.folder / "state/internal-ca/root.pem")
        made.load_verify_locations(self.folder / "pair-ca.pem")
        if certificate:
            self.clients.issue_cert("me@pair.test").configure_cert(made)
        return made

    def talk(self, name: str, certificate: bool = False) -> H2Talk:
        return H2Talk(self.port, name, self.using(certificate))


@pytest.fixture(scope="module", params=["true", "false"], ids=["session", "authority"])
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    folder.chmod(0o755)
    (folder / "www").mkdir()
    (folder / "www/index.html").write_text("<p>hello\n")
    authority, clients = trustme.CA(), trustme.CA()
    names = ("pair.test", "guarded.pair.test", "plain.pair.test", "asking.pair.test")
    pair = authority.issue_cert(*names)
    pair.private_key_pem.write_to_path(folder / "pair.key")
    pair.cert_chain_pems[0].write_to_path(folder / "pair.pem")
    authority.cert_pem.write_to_path(folder / "pair-ca.pem")
    clients.cert_pem.write_to_path(folder / "clients.pem")
    plain, secure = free_ports(2)
    own = f"certificate: {{chain: {folder}/pair.pem, key: {folder}/pair.key}}"
    asks = f"tls: {{client_auth: {{ca_file: {folder}/clients.pem"
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        backend = stack.enter_context(serving(application(Witness())))
        app = stack.enter_context(NameApp())
        to = f'backend: "http://127.0.0.1:{backend}"'
        (folder / "config.yaml").write_text(
            f"""
listen: {{http: ["127.0.0.1:{plain}"], https: ["127.0.0.1:{secure}"]}}
workers: 1
fast_lane: {request.param}
state: {folder / "state"}
acme: {{directory: internal}}
sites:
  - {{names: [a.test, www.a.test], root: {folder}/www}}
  - {{names: [pair.test], {own}, {to}}}
  - {{names: [guarded.pair.test], {own}, {to}, {asks}}}}}}}
  - {{names: [asking.pair.test], {own}, {to}, {asks}, mode: request}}}}}}
  - {{names: [plain.pair.test], {own}, {to}, http2: off}}
  - {{names: [shops.test], root: {folder}/www, on_demand: {{ask: "{app.url}"}}}}
"""
        )
        server = stack.enter_context(Server(["--config", str(folder / "config.yaml")], folder))
        for name in ("a.test", "shops.test"):
            server.await_log(f"{name}: certificate obtained")
        yield Running(server, secure, folder, clients, app)
        assert server.stop() == 0
        assert "Traceback" not in server.text()


def statuses(talk: H2Talk, *hosts: str) -> list[int]:
    return [talk.status(talk.asks(request("/", host))) for host in hosts]


# One certificate for several sites


def test_a_name_of_the_certificate_is_answered_and_others_are_misdirected(running: Running) -> None:
    hosts = ["pair.test", "guarded.pair.test", "asking.pair.test", "plain.pair.test", "a.test"]
    hosts += ["nobody.test", "pair.test"]
    with running.talk("pair.test") as talk:
        assert statuses(talk, *hosts) == [200, 421, 421, 421, 421, 421, 200]


def test_host_in_another_spelling_is_no_way_around(running: Running) -> None:
    with running.talk("pair.test") as talk:
        for host in ("GUARDED.pair.test", "guarded.pair.test.", "guarded.pair.test:443"):
            assert talk.status(talk.asks(request("/", host))) in (421, 400), host
        fields = [one for one in request("/x", "") if one[0] != b":authority"]
        number = talk.asks([*fields, (b"host", b"guarded.pair.test")])
        assert talk.status(number) == 421


def test_a_client_certificate_is_asked_for_by_its_site_alone(running: Running) -> None:
    """Although both have the same certificate, whose rules could be either's."""
    with running.talk("pair.test") as talk:
        assert statuses(talk, "pair.test") == [200]
    with (
        pytest.raises((ssl.SSLError, AssertionError, ConnectionError)),
        running.talk("guarded.pair.test") as talk,
    ):
        statuses(talk, "guarded.pair.test")
    with running.talk("guarded.pair.test", certificate=True) as talk:
        number = talk.asks(request("/fields", "guarded.pair.test"))
        assert b"client-cert" in talk.body(number).lower()
        # And is told to no other's backend.
        assert statuses(talk, "pair.test", "asking.pair.test") == [421, 421]
        assert statuses(talk, "guarded.pair.test") == [200]


def test_a_site_that_asks_and_lets_in_others_asks_on_its_own_connection(running: Running) -> None:
    for certificate in (False, True):
        with running.talk("asking.pair.test", certificate) as talk:
            number = talk.asks(request("/fields", "asking.pair.test"))
            assert talk.status(number) == 200
            assert (b"client-cert" in talk.body(number).lower()) is certificate


def test_a_site_without_http2_has_its_own_handshake(running: Running) -> None:
    using = running.using()
    using.set_alpn_protocols(["h2", "http/1.1"])
    with https(running.port, "plain.pair.test", None, using=using) as talk:
        assert isinstance(talk.sock, ssl.SSLSocket)
        assert talk.sock.selected_alpn_protocol() == "http/1.1"
        assert talk.asks("/x", "plain.pair.test").status == 200


# Names on demand


def test_a_name_on_demand_gets_its_certificate_and_http2(running: Running) -> None:
    running.app.allowed |= {"one.shop.test", "two.shop.test"}
    with running.talk("one.shop.test") as talk:
        assert statuses(talk, "one.shop.test", "two.shop.test", "shops.test") == [200, 421, 421]
        with running.talk("two.shop.test") as other:
            assert statuses(other, "two.shop.test", "one.shop.test") == [200, 421]
        # Also now that both have come: the certificate is for one name.
        assert statuses(talk, "two.shop.test", "one.shop.test") == [421, 200]
    running.server.await_access(host="one.shop.test", status=200, protocol="HTTP/2.0")
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized"):
        running.talk("three.shop.test")


def test_nobody_is_asked_about_a_name_in_a_request(running: Running) -> None:
    before = len(running.app.asked)
    running.app.allowed.add("four.shop.test")
    with running.talk("shops.test") as talk:
        assert statuses(talk, "four.shop.test", "shops.test") == [421, 200]
    assert len(running.app.asked) == before


# Behind a proxy


def proxied(address: str, version: int) -> bytes:
    if version == 1:
        return f"PROXY TCP4 {address} 192.0.2.1 1234 443\r\n".encode()
    octets = bytes(map(int, address.split(".")))
    about = octets + bytes((192, 0, 2, 1)) + struct.pack(">HH", 1234, 443)
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(">H", len(about)) + about


def test_behind_a_proxy_header(folder: Path, root: Path, ports: tuple[int, int]) -> None:
    """The client is whom it names: in the log, for the backend, and where streams are counted."""
    with serving(application(Witness())) as backend:
        (folder / "config.yaml").write_text(
            f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 1
state: {folder / "state"}
proxy_protocol: ["127.0.0.0/8"]
limits: {{streams_per_address: 4}}
sites:
  - {{names: [a.test, www.a.test], backend: "http://127.0.0.1:{backend}"}}
"""
        )
        with Server(["--config", str(folder / "config.yaml")], folder) as server:
            server.await_log("a.test: certificate obtained")
            using = h2_context(folder / "state/internal-ca/root.pem")

            def talk(address: str, version: int) -> H2Talk:
                before = proxied(address, version)
                return H2Talk(ports[1], "a.test", using, before=before)

            for version in (1, 2):
                with talk(f"192.0.2.{version}", version) as one:
                    number = one.asks(request("/fields", "www.a.test"))
                    assert f"192.0.2.{version}".encode() in one.body(number)
                    assert statuses(one, "nobody.test") == [421]
                line = server.await_access(peer=f"192.0.2.{version}", status=200)
                assert (line["host"], line["protocol"]) == ("www.a.test", "HTTP/2.0")
            events = request("/events?count=100000&pause=0.1", "a.test")
            with talk("192.0.2.9", 1) as one, talk("192.0.2.9", 2) as same:
                for number in (1, 3):
                    one.says(headers(number, events))
                    same.says(headers(number, events))
                    one.hears(lambda frame, number=number: frame.stream_id == number)
                    same.hears(lambda frame, number=number: frame.stream_id == number)
                same.says(headers(5, events))
                same.hears_end_of(5)
                assert same.reset_with(5) == REFUSED_STREAM
                with talk("192.0.2.10", 2) as another:
                    assert statuses(another, "a.test") == [200]


def test_without_its_header_a_trusted_proxy_gets_nothing(
    folder: Path, root: Path, ports: tuple[int, int]
) -> None:
    (folder / "config.yaml").write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 1
state: {folder / "state"}
proxy_protocol: ["127.0.0.0/8"]
sites:
  - {{names: [a.test], root: {root}}}
"""
    )
    with Server(["--config", str(folder / "config.yaml")], folder) as server:
        server.await_log("a.test: certificate obtained")
        using = h2_context(folder / "state/internal-ca/root.pem")
        with pytest.raises((OSError, AssertionError)):
            H2Talk(ports[1], "a.test", using, within=5)
