"""Certificates from a real CA (pebble), over HTTP-01, seen from outside: the chain that is served, the
files on disk, and what goes on being served when the CA does not."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from acme_client.x509 import keys
from support.acme.ca_faults import Edit, Faults
from support.acme.pebble import Pebble
from support.http.client import Talk, context, http, https
from support.http.load_clients import Visitors, page
from support.program.server import Server, treehouse

PRIVATE_KEY = keys.to_pem(keys.generate(keys.DEFAULT))


def config(
    folder: Path, ports: tuple[int, int], ca: Pebble, sites: str, challenge: str = "http-01"
) -> Path:
    path = folder / "config.yaml"
    path.write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 2
state: {folder / "state"}
acme: {{directory: "{ca.directory}", ca_file: {ca.ca_file}, email: ops@example.org, challenges: [{challenge}]}}
sites:
{sites}
"""
    )
    return path


def served(port: int, name: str) -> x509.Certificate:
    """The leaf that is shown for a name, without a look at who signed it."""
    with https(port, name, None) as talk:
        assert isinstance(talk.sock, ssl.SSLSocket)
        leaf = talk.sock.getpeercert(binary_form=True)
    assert leaf is not None
    return x509.load_der_x509_certificate(leaf)


@pytest.mark.parametrize("nonce_reject", [5, 30])
def test_several_certificates_are_obtained_kept_and_used_again(
    folder: Path, root: Path, ports: tuple[int, int], nonce_reject: int
) -> None:
    state = folder / "state"
    with Pebble(ports[0], ports[1], nonce_reject=nonce_reject) as ca:
        path = config(
            folder, ports, ca,
            f"  - {{names: [one.example, www.one.example], root: {root}}}\n"
            f"  - {{names: [two.example], root: {root}}}\n"
            f"  - {{names: [three.example], root: {root}}}\n",
        )  # fmt: skip
        with Server(["--config", str(path)], folder) as server:
            for name in ("one.example", "two.example", "three.example"):
                server.await_log(f"{name}: certificate obtained", within=60)
            trusted = ca.root()
            for name in ("one.example", "www.one.example", "two.example", "three.example"):
                with https(ports[1], name, trusted) as talk:
                    assert talk.asks("/", name).body == b"<p>hello\n"
                assert (
                    http(ports[0]).asks("/x?y", name)["location"]
                    == f"https://{name}:{ports[1]}/x?y"
                )
            # The log tells each attempt in one line.
            obtained = "two.example: certificate obtained"
            (line,) = [one for one in server.log if one["message"].startswith(obtained)]
            assert re.fullmatch(
                r"two.example: certificate obtained from 127.0.0.1:\d+ by http-01 in [\d.]+ s, "
                r"valid \d+ days, renews about 20[\dTZ:-]+",
                line["message"],
            )
            document = server.status(state)
            facts = {one["names"][0]: one for one in document["certificates"]}
            assert facts["one.example"]["names"] == ["one.example", "www.one.example"]
            assert {one["state"] for one in facts.values()} == {"fresh"}
            assert all(one["served"] and one["source"] == "acme" for one in facts.values())
            serials = {name: served(ports[1], name).serial_number for name in facts}
            # Every file by its documented name, keys for the owner alone.
            for name in facts:
                for file in ("fullchain.pem", "privkey.pem", "meta.json"):
                    assert (state / "certificates" / name / file).stat().st_mode & 0o077 == 0
            (account,) = (state / "accounts").iterdir()
            assert (account / "key.pem").exists()
            assert (account / "account.json").exists()
            assert list((state / "challenges").glob("*")) == []
            # The token's path is closed again.
            assert http(ports[0]).asks("/.well-known/acme-challenge/x", "one.example").status == 404
            assert server.stop() == 0
        # The CA is gone; what is on disk is served, at once, and the account stays.
        key = (account / "key.pem").read_bytes()
        ca.stop()
        with Server(["--config", str(path)], folder) as server:
            for name, serial in serials.items():
                assert served(ports[1], name).serial_number == serial
            assert (account / "key.pem").read_bytes() == key
            assert not [line for line in server.log if "attempt" in line["message"]]


def test_tls_alpn_01_needs_port_443_alone_and_disturbs_nobody(
    folder: Path, root: Path, ports: tuple[int, int]
) -> None:
    """Renewed over the very port, and under the very name, that clients are being served on."""
    with Pebble(1, ports[1]) as ca:
        sites = f"  - {{names: [one.example, www.one.example, 127.0.0.1], root: {root}}}\n"
        path = config(folder, ports, ca, sites, "tls-alpn-01")
        with Server(["--config", str(path)], folder) as server:
            server.await_log("one.example: certificate obtained", within=60)
            trusted = ca.root()
            using, before = context(trusted), served(ports[1], "one.example").serial_number
            steps = [page("/", name, b"<p>hello\n") for name in ("one.example", "www.one.example")]

            def connect() -> Talk:
                return https(ports[1], "one.example", None, using=using)

            with (
                Visitors(connect, *steps) as staying,
                Visitors(connect, *steps, rounds=1) as coming,
            ):
                coming.await_rounds(1)
                done = treehouse("certs", "renew", "one.example", "--config", str(path))
                assert done.returncode == 0, done.stderr
                assert served(ports[1], "one.example").serial_number != before
                coming.await_rounds(10)
                staying.await_rounds(10)
            assert staying.failures == coming.failures == []
            # Whoever asks for the challenge when there is none is refused, and sees no certificate.
            using.set_alpn_protocols(["acme-tls/1"])
            with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
                https(ports[1], "one.example", None, using=using)


def test_a_name_without_certificate_is_refused_and_told_to_come_back(
    folder: Path, root: Path, ports: tuple[int, int]
) -> None:
    """The CA is down at start; the site that has a certificate is served, the other comes when the
    CA does."""
    with Pebble(ports[0], ports[1]) as ca:
        have = f"  - {{names: [have.example], root: {root}}}\n"
        path = config(folder, ports, ca, have)
        with Server(["--config", str(path)], folder) as server:
            server.await_log("have.example: certificate obtained", within=60)
        ca.stop()
        path = config(folder, ports, ca, have + f"  - {{names: [new.example], root: {root}}}\n")
        with Server(["--config", str(path)], folder) as server:
            server.await_log(
                r"new.example: attempt 1 failed at 127.0.0.1:\d+ in [\d.]+ s: .*; next attempt at 20"
            )
            assert https(ports[1], "have.example", None).asks("/", "have.example").status == 200
            with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized"):
                https(ports[1], "new.example", None)
            refused = http(ports[0]).asks("/", "new.example")
            assert refused.status == 503
            assert int(refused["retry-after"]) > 0
            state = {
                one["names"][0]: one for one in server.status(folder / "state")["certificates"]
            }
            assert state["new.example"]["state"] == "failed"
            assert state["new.example"]["attempts"] == 1
            assert state["new.example"]["next_attempt"]
            assert state["new.example"]["last_error"]
            assert not state["new.example"]["served"]


def test_the_ca_asks_any_worker_and_gets_exactly_the_key_authorization(
    folder: Path, root: Path, ports: tuple[int, int]
) -> None:
    """Pebble validates from several connections; here the test stands in for it: a CA whose
    validation never comes leaves the token open to be asked for."""
    with Pebble(ports[0], ports[1], dns={"slow.example": "127.0.0.9"}) as ca:
        path = config(folder, ports, ca, f"  - {{names: [slow.example], root: {root}}}\n")
        with socket.create_server(("127.0.0.9", ports[0])) as silent, Server(
            ["--config", str(path)], folder
        ) as server:  # fmt: skip
            # The CA asks, so all workers have the challenge. It waits for an answer meanwhile.
            asked = _await_visitor(silent, server)
            (token,) = (folder / "state" / "challenges").glob("[!.]*")
            target = f"/.well-known/acme-challenge/{token.name}"
            for _ in range(20):  # any worker
                answer = http(ports[0]).asks(target, "slow.example")
                assert answer.status == 200
                assert answer.body.decode().split(".")[0] == token.name
            assert http(ports[0]).asks(target, "other.example").status == 404
            assert http(ports[0]).asks(target + "x", "slow.example").status == 404
            assert http(ports[0]).asks(target + "?x", "slow.example").status == 404
            assert http(ports[0]).asks(target, "slow.example", "POST").status in (404, 405)
            server.signal(signal.SIGTERM)
            server.signal(signal.SIGTERM)
            server.ended()
            asked.close()


def _await_visitor(listener: socket.socket, server: Server) -> socket.socket:
    """The first connection to ``listener``."""
    listener.settimeout(60)
    try:
        return listener.accept()[0]
    except TimeoutError:
        raise AssertionError(server.text()) from None


def test_meta_is_json_that_a_person_can_read(
    folder: Path, root: Path, ports: tuple[int, int]
) -> None:
    with Pebble(ports[0], ports[1]) as ca:
        path = config(folder, ports, ca, f"  - {{names: [one.example], root: {root}}}\n")
        with Server(["--config", str(path)], folder) as server:
            server.await_log("one.example: certificate obtained", within=60)
        meta = json.loads((folder / "state/certificates/one.example/meta.json").read_text())
    assert meta["version"]


def test_what_a_ca_sends_badly_is_served_well_or_not_at_all(
    folder: Path, root: Path, ports: tuple[int, int]
) -> None:
    """A chain that ends without a line end, in front of nothing and then of a good certificate; and
    one with a private key in it, which leaves the good one in service."""
    state = folder / "state"
    with Pebble(ports[0], ports[1], nonce_reject=0) as ca, Faults(ca) as front:
        front.add("certificate", Edit(bytes.rstrip), times=2)
        path = config(folder, ports, ca, f"  - {{names: [one.example], root: {root}}}\n")
        trust = folder / "front.pem"
        trust.write_bytes("# a CA of ours, főtanúsítvány\r\n".encode() + front.ca_pem)
        trust.chmod(0o644)
        text = path.read_text().replace(str(ca.ca_file), str(trust))
        path.write_text(text.replace(ca.directory, front.directory))
        with Server(["--config", str(path)], folder) as server:
            server.await_log("one.example: certificate obtained", within=60)
            first = served(ports[1], "one.example")
            assert treehouse("certs", "renew", "one.example", "--state", str(state)).returncode == 0
            second = served(ports[1], "one.example")
            assert second != first
            workers = server.children()

            front.add("certificate", Edit(lambda body: body + PRIVATE_KEY))
            done = treehouse("certs", "renew", "one.example", "--state", str(state))
            assert done.returncode != 0
            assert "something else than certificates: PRIVATE KEY" in done.stderr
            assert served(ports[1], "one.example") == second
            (status,) = server.status(state)["certificates"]
            assert (status["serial"], status["served"]) == (f"{second.serial_number:x}", True)
            assert server.children() == workers
            assert server.stop() == 0
        with Server(["--config", str(path)], folder) as server:
            with https(ports[1], "one.example", ca.root()) as talk:
                assert talk.asks("/", "one.example").status == 200
            assert served(ports[1], "one.example") == second
