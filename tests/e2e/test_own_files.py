"""Certificates and bundles that people bring along, as they come, with the real program: what can
be served is served, what cannot is named, and neither costs anything."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from proxy.ipc import control_client
from support.acme.chains import chain, joined, split
from support.http.client import https
from support.program.server import REPOSITORY, Server

pytestmark = pytest.mark.program

NAME = "shop.test"
CA = trustme.CA()
LOWER = CA.create_child_ca()


def fresh() -> tuple[bytes, bytes]:
    """Chain and key."""
    pair = chain(NAME, now=time.time(), ca=LOWER)
    return pair.chain_pem, pair.key_pem


def encrypted(pem: bytes) -> bytes:
    key = serialization.load_pem_private_key(pem, None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


def other_key(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


class Files:
    def __init__(self, folder: Path, root: Path, ports: tuple[int, int]) -> None:
        self.folder, self.ports = folder, ports
        self.chain, self.key, self.staff = folder / "c.pem", folder / "k.pem", folder / "staff.pem"
        self.ca_file = folder / "ca.pem"
        CA.cert_pem.write_to_path(self.ca_file)
        self.config = folder / "config.yaml"
        self.config.write_text(
            f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 1
state: {folder / "state"}
sites:
  - names: [{NAME}]
    root: {root}
    certificate: {{chain: {self.chain}, key: {self.key}}}
    tls: {{client_auth: {{ca_file: {self.staff}, mode: request}}}}
"""
        )
        self.put(*fresh())
        self.staff.write_bytes("# Személyzet\n".encode() + trustme.CA().cert_pem.bytes())

    def put(self, chain_text: bytes, key_text: bytes) -> None:
        for path, content in ((self.chain, chain_text), (self.key, key_text)):
            path.write_bytes(content)
            path.chmod(0o644)

    def is_served(self) -> bool:
        """By a client that believes this CA, and has one of the two names."""
        with https(self.ports[1], NAME, self.ca_file) as talk:
            return talk.asks("/", NAME).status == 200


@pytest.fixture
def files(folder: Path, root: Path, ports: tuple[int, int]) -> Files:
    return Files(folder, root, ports)


def descriptors(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))


def called(server: Server, name: str) -> list[int]:
    """The pids of its children of this name."""
    found = []
    for pid in server.children():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                found.append(pid)
    return found


def test_reloads_with_files_of_all_kinds(files: Files) -> None:
    """One server: what is good replaces what was there, what is not leaves it and no descriptor."""
    with Server(["--config", str(files.config)], files.folder) as server:
        assert files.is_served()

        def reload() -> dict[str, Any]:
            return control_client.ask(files.folder / "state", {"command": "reload"})

        chain_text, key_text = fresh()
        good = {
            "no last line end": (chain_text.rstrip(), key_text.rstrip()),
            "CR": (chain_text.replace(b"\n", b"\r"), key_text.replace(b"\n", b"\r")),
            "BOM": (b"\xef\xbb\xbf" + chain_text, b"\xef\xbb\xbf" + key_text),
            "upside down, with the root": (
                joined([CA.cert_pem.bytes(), *reversed(split(chain_text))]),
                key_text,
            ),
            "combined": (key_text + chain_text, key_text + chain_text),
        }
        for name, texts in good.items():
            files.put(*texts)
            answer = reload()
            assert answer["ok"], (name, answer)
            assert files.is_served(), name

        bad = {
            encrypted(key_text): "the key is encrypted with a passphrase.*openssl pkey -in",
            other_key(rsa.generate_private_key(65537, 2048)): "does not belong to the certificate",
            other_key(
                ec.generate_private_key(ec.SECP256R1())
            ): "does not belong to the certificate",
            chain_text: "there is no private key in it",
            b"": "is empty",
        }
        files.put(chain_text, next(iter(bad)))
        assert not reload()["ok"]  # once, so that whatever is made once is there
        before = descriptors(server)
        for text, words in [*bad.items(), *bad.items()]:
            files.put(chain_text, text)
            answer = reload()
            assert not answer["ok"]
            assert re.search(words, answer["error"]), answer
        # It may still be closing the connection on which it has answered, then as now.
        deadline = time.monotonic() + 60
        while (now := descriptors(server)) > before:
            assert time.monotonic() < deadline, (before, now)
            time.sleep(0.02)
        assert files.is_served()
        assert not [
            one for one in server.log if "exception" in one or "Traceback" in one["message"]
        ]


def test_a_start_with_an_encrypted_key_asks_nobody(files: Files) -> None:
    """Even with a terminal at hand, where OpenSSL would ask for the passphrase."""
    chain_text, key_text = fresh()
    files.put(chain_text, encrypted(key_text))
    command = [sys.executable, "-m", "proxy", "--config", str(files.config)]
    leader, follower = os.openpty()
    try:
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            stdin=follower,
            stdout=follower,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
            start_new_session=True,
        )
    finally:
        os.close(follower)
        os.set_blocking(leader, False)
        try:
            shown = os.read(leader, 4096)
        except OSError:  # nothing was written, and nobody has it open any more
            shown = b""
        os.close(leader)
    assert done.returncode == 2
    assert f"{files.key}: the key is encrypted with a passphrase" in done.stderr
    assert f"openssl pkey -in {files.key} -out" in done.stderr
    assert b"pass phrase" not in shown


@pytest.mark.parametrize(
    "staff",
    [
        "# Személyzet\n".encode(),
        b"# Personal f\xfcr alle\n",
        b"\xef\xbb\xbf",
    ],
    ids=["UTF-8", "Latin-1", "BOM"],
)
def test_a_bundle_for_clients_with_comments(files: Files, staff: bytes) -> None:
    files.staff.write_bytes(staff + CA.cert_pem.bytes())
    with Server(["--config", str(files.config)], files.folder) as server:
        assert files.is_served()
        context = ssl.create_default_context(cadata=CA.cert_pem.bytes().decode())
        assert context.cert_store_stats()["x509_ca"] == 1
        assert server.stop() == 0


def test_a_client_that_stops_in_its_handshake_stops_nobody(files: Files) -> None:
    """Also on a site that asks for certificates, whose connections begin anew after the hello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    half = context.wrap_bio(incoming, outgoing, server_hostname=NAME)
    with pytest.raises(ssl.SSLWantReadError):
        half.do_handshake()
    with Server(["--config", str(files.config)], files.folder) as server:
        with socket.create_connection(("127.0.0.1", files.ports[1]), timeout=60) as stopped:
            stopped.sendall(outgoing.read())
            assert stopped.recv(1)  # its answer has begun
            workers = called(server, "th-worker-1")
            assert files.is_served()
            assert called(server, "th-worker-1") == workers  # none was found to hang and replaced
        assert server.stop() == 0


def test_where_every_site_brings_its_certificate_the_certifier_rests(files: Files) -> None:
    """It ends, answers commands all the same, and stays where a reload gives it work."""
    config = files.config.read_text()
    with Server(["--config", str(files.config)], files.folder) as server:
        state = files.folder / "state"

        def certifiers() -> list[int]:
            return called(server, "th-certifier")

        def await_rest(times: int) -> None:
            deadline = time.monotonic() + 60
            while certifiers() or server.text().count("the certifier has nothing to do") < times:
                assert time.monotonic() < deadline, server.text()
                time.sleep(0.02)  # the end of the server's child has no event here

        await_rest(1)
        assert files.is_served()
        answer = control_client.ask(state, {"command": "renew", "value": NAME})
        assert not answer["ok"]
        assert "restarted" not in answer["error"]
        await_rest(2)
        assert "another starts" not in server.text()
        more = "  - {names: [managed.test], respond: {status: 200}}\n"
        files.config.write_text(f"{config}{more}")
        assert control_client.ask(state, {"command": "reload"})["ok"]
        server.await_log("managed.test: certificate obtained")
        assert len(certifiers()) == 1
        assert control_client.ask(state, {"command": "renew", "value": "managed.test"})["ok"]
        assert len(certifiers()) == 1
        files.config.write_text(config)
        assert control_client.ask(state, {"command": "reload"})["ok"]
        await_rest(3)
