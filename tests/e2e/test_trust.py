"""Whom the server believes, and how much anybody gets: PROXY headers, client certificates, rates."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from support.http.backend_app import Application, serving
from support.http.client import Answer, Talk, context, http, https
from support.program.server import Server

# With TLS 1.3 the alert comes after the client's side of the handshake is over.
REFUSED = (ssl.SSLError, ConnectionError)


class Echo(Application):
    """Answers with the head it got."""

    def do_GET(self) -> None:
        self.answers(str(self.headers).encode(), 500 if "/fails" in self.path else 200)


@pytest.fixture
def backend() -> Iterator[int]:
    with serving(Echo) as port:
        yield port


class People:
    """A CA for client certificates, with files as an operator would have them."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        made = self._certificate(self._name, self._key, ca=True)
        self.ca_file = folder / f"{name}.pem"
        self.ca_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, ca: bool
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def person(self, name: str) -> tuple[Path, bytes]:
        """A PEM file with certificate and key, and the certificate in DER."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        made = self._certificate(subject, key, ca=False)
        path = self._folder / f"{name}.pem"
        path.write_bytes(
            made.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return path, made.public_bytes(serialization.Encoding.DER)


# PROXY headers


@pytest.fixture
def behind(folder: Path, root: Path, ports: tuple[int, int]) -> Iterator[Server]:
    config = folder / "config.yaml"
    config.write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 1
state: {folder / "state"}
proxy_protocol: 127.0.0.1/32
limits: {{connections_per_address: 2, handshake_timeout: 3s}}
sites: [{{names: [a.test], root: {root}}}]
"""
    )
    with Server(["--config", str(config)], folder) as server:
        server.await_log("a.test: certificate obtained")
        yield server


V1 = b"PROXY TCP4 192.0.2.9 198.51.100.7 5555 443\r\n"
V2 = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x21"
    + struct.pack("!H", 36)
    + bytes.fromhex("20010db8000000000000000000000001")
    + bytes(16)
    + struct.pack("!HH", 7777, 443)
)


def introduced(port: int, header: bytes, ca: Path, slowly: bool = False) -> Talk:
    raw = socket.create_connection(("127.0.0.1", port), timeout=60)
    try:
        for piece in [header[i : i + 5] for i in range(0, len(header), 5)] if slowly else [header]:
            raw.sendall(piece)
        return Talk(context(ca).wrap_socket(raw, server_hostname="a.test"))
    except BaseException:
        raw.close()
        raise


@pytest.mark.parametrize("slowly", [False, True])
@pytest.mark.parametrize(("header", "peer"), [(V1, "192.0.2.9"), (V2, "2001:db8::1")])
def test_the_header_tells_the_client(
    behind: Server, folder: Path, ports: tuple[int, int], header: bytes, peer: str, slowly: bool
) -> None:
    ca = folder / "state/internal-ca/root.pem"
    with introduced(ports[1], header, ca, slowly) as talk:
        assert talk.asks("/", "a.test").status == 200
    assert behind.await_access(peer=peer)["status"] == 200
    raw = socket.create_connection(("127.0.0.1", ports[0]), timeout=60)
    with Talk(raw) as talk:
        talk.says(header + b"GET /plain HTTP/1.1\r\nHost: a.test\r\n\r\n")
        assert talk.hears().status == 308
    assert behind.await_access(target="/plain")["peer"] == peer


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", b"PROXY nonsense\r\n"]
)
def test_without_the_header_nobody_gets_in(
    behind: Server, ports: tuple[int, int], first: bytes
) -> None:
    for port in ports:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as raw:
            raw.sendall(first)
            assert ended(raw)
    with socket.create_connection(("127.0.0.1", ports[1]), timeout=60) as raw:
        assert ended(raw), "one that says nothing is given up"
    behind.await_log("127.0.0.1 was ended")


def ended(raw: socket.socket) -> bool:
    try:
        return raw.recv(1) == b""
    except ConnectionResetError:
        return True


def test_limits_hold_for_the_client_and_not_for_the_balancer(
    behind: Server, folder: Path, ports: tuple[int, int]
) -> None:
    ca = folder / "state/internal-ca/root.pem"
    with introduced(ports[1], V1, ca), introduced(ports[1], V1, ca):
        with pytest.raises(REFUSED):
            introduced(ports[1], V1, ca)
        for number in range(5):
            other = V1.replace(b"192.0.2.9", b"192.0.2.%d" % (20 + number))
            introduced(ports[1], other, ca).asks("/", "a.test")
    behind.await_log("the limit connections_per_address was reached by 192.0.2.9")


def test_ipv4_clients_in_an_ipv6_header_are_as_many_as_they_are(
    behind: Server, folder: Path, ports: tuple[int, int]
) -> None:
    """As HAProxy names them for `bind :::443 v4v6`: not one /64, and IPv4 in the log."""
    ca = folder / "state/internal-ca/root.pem"
    with contextlib.ExitStack() as open_ones:
        for number in range(9):
            header = b"PROXY TCP6 ::ffff:203.0.113.%d ::ffff:198.51.100.1 4711 443\r\n" % number
            talk = open_ones.enter_context(introduced(ports[1], header, ca))
            assert talk.asks("/", "a.test").status == 200
    behind.await_access(peer="203.0.113.8")


def test_a_trusted_proxy_has_the_connections_of_all_its_clients(
    folder: Path, root: Path, ports: tuple[int, int]
) -> None:
    config = folder / "config.yaml"
    config.write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 1
state: {folder / "state"}
trusted_proxies: 127.0.0.1/32
limits: {{connections_per_address: 2}}
sites: [{{names: [a.test], root: {root}}}]
"""
    )
    with Server(["--config", str(config)], folder) as server, contextlib.ExitStack() as open_ones:
        server.await_log("a.test: certificate obtained")
        for _ in range(5):
            talk = open_ones.enter_context(http(ports[0]))
            assert talk.asks("/", "a.test").status == 308
        for number in range(3):  # who is none has two
            raw = socket.create_connection(
                ("127.0.0.1", ports[0]), timeout=60, source_address=("127.0.0.2", 0)
            )
            talk = open_ones.enter_context(Talk(raw))
            if number < 2:
                assert talk.asks("/", "a.test").status == 308
            else:
                with pytest.raises(REFUSED):
                    talk.asks("/", "a.test")


# Client certificates


@pytest.fixture
def people(folder: Path) -> People:
    return People(folder, "staff")


@pytest.fixture
def guarded(folder: Path, ports: tuple[int, int], backend: int, people: People) -> Iterator[Server]:
    others = People(folder, "others")
    config = folder / "config.yaml"
    asks = "tls: {client_auth: {ca_file: %s, mode: %s}}"
    config.write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 2
state: {folder / "state"}
sites:
  - {{names: [open.test], backend: "http://127.0.0.1:{backend}"}}
  - names: [staff.test]
    backend: "http://127.0.0.1:{backend}"
    {asks % (people.ca_file, "require")}
  - names: [others.test]
    backend: "http://127.0.0.1:{backend}"
    {asks % (others.ca_file, "require")}
  - names: [maybe.test]
    backend: "http://127.0.0.1:{backend}"
    {asks % (people.ca_file, "request")}
"""
    )
    with Server(["--config", str(config)], folder) as server:
        for name in ("open.test", "staff.test", "others.test", "maybe.test"):
            server.await_log(f"{name}: certificate obtained")
        yield server


class Visitor:
    """A client, with or without a certificate."""

    def __init__(
        self,
        folder: Path,
        port: int,
        person: Path | None = None,
        version: ssl.TLSVersion | None = None,
    ) -> None:
        self.using = context(folder / "state/internal-ca/root.pem")
        if person is not None:
            self.using.load_cert_chain(person)
        if version is not None:
            self.using.maximum_version = version
        self.port = port

    def visits(self, name: str, session: ssl.SSLSession | None = None) -> Talk:
        return https(self.port, name, None, using=self.using, session=session)

    def asks(self, name: str, fields: str = "") -> Answer:
        with self.visits(name) as talk:
            return talk.asks("/", name, fields=fields)


VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.mark.parametrize("version", VERSIONS)
def test_only_those_with_a_certificate_of_the_right_ca_get_in(
    guarded: Server, folder: Path, ports: tuple[int, int], people: People, version: ssl.TLSVersion
) -> None:
    ada, der = people.person("ada")
    eve, _ = People(folder, "strangers").person("eve")
    forged = "Client-Cert: :AAAA:\r\nClient_Cert: :BBBB:\r\nClient-Cert-Chain: :CCCC:\r\n"
    told = f"client-cert: :{base64.b64encode(der).decode()}:".encode()
    member = Visitor(folder, ports[1], ada, version)
    answer = member.asks("staff.test", forged)
    assert answer.status == 200
    assert told in answer.body.lower().replace(told.lower(), told)
    for lie in (b"AAAA", b"BBBB", b"CCCC"):
        assert lie not in answer.body
    assert b"client-cert" not in member.asks("open.test", forged).body.lower()
    for visitor in (
        Visitor(folder, ports[1], None, version),
        Visitor(folder, ports[1], eve, version),
    ):
        with pytest.raises(REFUSED):
            visitor.asks("staff.test")
        assert visitor.asks("open.test").status == 200
    with pytest.raises(REFUSED):
        member.asks("others.test")
    assert told in member.asks("maybe.test").body.lower().replace(told.lower(), told)
    answer = Visitor(folder, ports[1], None, version).asks("maybe.test", forged)
    assert answer.status == 200
    assert b"client-cert" not in answer.body.lower()


@pytest.mark.parametrize("version", VERSIONS)
def test_no_way_around(
    guarded: Server, folder: Path, ports: tuple[int, int], people: People, version: ssl.TLSVersion
) -> None:
    """Neither a session of another site nor a Host on another site's connection."""
    ada, _ = people.person("ada")
    member = Visitor(folder, ports[1], ada, version)
    stranger = Visitor(folder, ports[1], None, version)
    with stranger.visits("open.test") as talk:
        assert talk.asks("/", "open.test").status == 200
        assert talk.asks("/", "staff.test").status == 421
        session = talk.sock.session  # type: ignore[attr-defined] # it is a TLS socket
    with pytest.raises(REFUSED), stranger.visits("staff.test", session) as talk:
        talk.asks("/", "staff.test")
    for name, other in (("staff.test", "others.test"), ("maybe.test", "staff.test")):
        with member.visits(name) as talk:
            assert talk.asks("/", name).status == 200
            session = talk.sock.session  # type: ignore[attr-defined] # it is a TLS socket
            assert talk.asks("/", other).status == 421
        with stranger.visits("open.test") as talk:
            assert talk.asks("/", other).status == 421
        with pytest.raises(REFUSED), member.visits("others.test", session) as talk:
            talk.asks("/", "others.test")


def test_a_certificate_that_covers_two_sites_opens_one(
    folder: Path, ports: tuple[int, int], backend: int, people: People
) -> None:
    """A wildcard's connection is no way into a site of its own below it."""
    config = folder / "config.yaml"
    config.write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 1
state: {folder / "state"}
acme: {{directory: internal}}
sites:
  - {{names: ["*.example.test"], backend: "http://127.0.0.1:{backend}"}}
  - names: [staff.example.test]
    backend: "http://127.0.0.1:{backend}"
    tls: {{client_auth: {{ca_file: {people.ca_file}}}}}
"""
    )
    with Server(["--config", str(config)], folder) as server:
        for name in (r"\*.example.test", "staff.example.test"):
            server.await_log(f"{name}: certificate obtained")
        stranger = Visitor(folder, ports[1])
        with stranger.visits("www.example.test") as talk:
            assert talk.asks("/", "www.example.test").status == 200
            assert talk.asks("/", "staff.example.test").status == 421
            assert talk.asks("/", "www.example.test").status == 200


# Certificates that people bring along


def test_a_certificate_of_ones_own_is_watched(
    folder: Path, root: Path, ports: tuple[int, int]
) -> None:
    """Renewed by somebody else, in two steps; a pair that does not match changes nothing."""
    own = folder / "own"
    own.mkdir()
    chain, key = own / "chain.pem", own / "key.pem"

    def renewed() -> tuple[bytes, bytes]:
        authority = trustme.CA()
        made = authority.issue_cert("shop.test")
        authority.cert_pem.write_to_path(own / "ca.pem")
        return made.cert_chain_pems[0].bytes(), made.private_key_pem.bytes()

    def put(path: Path, content: bytes) -> None:
        fresh = path.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.chmod(0o644)
        fresh.rename(path)

    for path, content in zip((chain, key), renewed(), strict=True):
        put(path, content)
    config = folder / "config.yaml"
    config.write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 1
state: {folder / "state"}
sites:
  - {{names: [shop.test], root: {root}, certificate: {{chain: {chain}, key: {key}}}}}
"""
    )
    with Server(["--config", str(config)], folder) as server:
        first = own / "first.pem"
        (own / "ca.pem").rename(first)
        assert https(ports[1], "shop.test", first).asks("/", "shop.test").status == 200
        fresh_chain, fresh_key = renewed()
        put(chain, fresh_chain)
        server.await_log("the key does not belong to the certificate")
        assert https(ports[1], "shop.test", first).asks("/", "shop.test").status == 200
        put(key, fresh_key)
        server.await_log("generation 1 has finished")
        assert https(ports[1], "shop.test", own / "ca.pem").asks("/", "shop.test").status == 200
        reloads = [one for one in server.log if "reloading: " in one["message"]]
        assert len(reloads) == 2


# Rates


def test_the_rate_holds_over_all_workers(folder: Path, root: Path, ports: tuple[int, int]) -> None:
    config = folder / "config.yaml"
    config.write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 4
state: {folder / "state"}
sites:
  - {{names: [a.test], root: {root}, rate_limit: {{rate: 20/h, burst: 20}}}}
  - {{names: [b.test], root: {root}}}
"""
    )
    with Server(["--config", str(config)], folder) as server:
        for name in ("a.test", "b.test"):
            server.await_log(f"{name}: certificate obtained")
        visitor = Visitor(folder, ports[1])
        statuses = [visitor.asks("a.test").status for _ in range(40)]
        assert statuses == [200] * 20 + [429] * 20
        answer = visitor.asks("a.test")
        assert 0 < int(answer["retry-after"]) <= 180
        assert {visitor.asks("b.test").status for _ in range(40)} == {200}
        with visitor.visits("b.test") as talk:
            assert talk.asks("/", "b.test").status == 200
        assert http(ports[0]).asks("/", "a.test").status == 308
        assert server.await_access(status=429)["error"] == "rate_limited"


def test_an_open_breaker_answers_at_once_and_closes_again(
    folder: Path, ports: tuple[int, int], backend: int
) -> None:
    config = folder / "config.yaml"
    config.write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 1
state: {folder / "state"}
sites:
  - names: [a.test]
    backend: "http://127.0.0.1:{backend}"
    breaker: {{share: 50%, requests: 5, pause: 3s}}
"""
    )
    with Server(["--config", str(config)], folder) as server:
        server.await_log("a.test: certificate obtained")
        with Visitor(folder, ports[1]).visits("a.test") as talk:
            begun = time.monotonic()
            assert [talk.asks("/fails", "a.test").status for _ in range(5)] == [500] * 5
            answer = talk.asks("/", "a.test")
            assert answer.status == 503
            assert 3 - (time.monotonic() - begun) <= int(answer["retry-after"]) <= 3
            server.await_log("is left out for 3 s: 5 of 5 requests failed")
            while (status := talk.asks("/", "a.test").status) == 503:
                time.sleep(0.05)  # time itself is what is awaited
            assert status == 200


def test_a_backend_in_maintenance_gets_no_new_client(
    folder: Path, ports: tuple[int, int], backend: int
) -> None:
    config = folder / "config.yaml"
    text = f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 1
state: {folder / "state"}
sites:
  - names: [a.test]
    sticky_cookie: bound
    backend:
      - {{url: "http://127.0.0.1:{backend}"}}
      - {{url: "http://localhost:{backend}", drain: no}}
"""
    config.write_text(text)
    with Server(["--config", str(config)], folder) as server:
        server.await_log("a.test: certificate obtained")
        visitor = Visitor(folder, ports[1])
        cookies = {}
        while len(cookies) < 2:
            since = len(server.access)
            answer = visitor.asks("a.test")
            used = server.await_access(since=since)
            cookies[used["backend"]] = answer["set-cookie"].partition(";")[0]
        config.write_text(text.replace("drain: no", "drain: yes"))
        server.signal(1)
        server.await_log("generation 1 has finished")
        before = len(server.access)
        for _ in range(4):
            visitor.asks("a.test")
        visitor.asks("a.test", f"Cookie: {cookies[f'http://localhost:{backend}']}\r\n")
        server.await_access(since=before + 4, backend=f"http://localhost:{backend}")
        used = [line["backend"] for line in server.access[before:]]
        assert used == [f"http://127.0.0.1:{backend}"] * 4 + [f"http://localhost:{backend}"]


# Clients that are refused


@pytest.mark.parametrize("version", VERSIONS)
def test_a_refused_certificate_is_told_by_an_alert_and_in_the_log(
    guarded: Server, folder: Path, ports: tuple[int, int], version: ssl.TLSVersion
) -> None:
    """In TLS 1.3 the client has sent its request by then, and a reset would take the alert away."""
    eve, _ = People(folder, "strangers").person("eve")
    body = "X-Long: " + "x" * 20_000 + "\r\n"
    for person, word in ((None, "certificate required|handshake failure"), (eve, "unknown ca")):
        visitor = Visitor(folder, ports[1], person, version)
        for _ in range(5):
            with pytest.raises(ssl.SSLError, match=rf"(?i){word}"):
                visitor.asks("staff.test", body)
    guarded.await_log("the site asks for a client certificate; none was sent")
    guarded.await_log("the client's certificate is not accepted: ")
    assert Visitor(folder, ports[1]).asks("open.test").status == 200


def test_a_name_that_no_site_has_is_in_the_log(
    guarded: Server, folder: Path, ports: tuple[int, int]
) -> None:
    visitor = Visitor(folder, ports[1])
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        visitor.visits("typo.test")
    guarded.await_log("a TLS handshake of 127.0.0.1 was refused: no site is called typo.test")
    with pytest.raises(ssl.SSLError):
        visitor.visits("127.0.0.1")
    guarded.await_log("the client names no site, and no default site has a certificate")
    distrusting = ssl.create_default_context()
    with pytest.raises(ssl.SSLError):
        https(ports[1], "open.test", None, using=distrusting)
    guarded.await_log("the client refused it: unknown ca")
