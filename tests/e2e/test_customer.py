"""Being the customer of two CAs through the whole program: whose turn it is, and what people ask for:
certificates revoked, accounts with another key, another contact. One server for all of it."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from support.acme.ca_faults import Faults, Refuse
from support.acme.pebble import Pebble
from support.http.client import https
from support.program.ports import free_ports
from support.program.server import Server, treehouse

NAME = "a.example"


@dataclass(frozen=True, slots=True)
class Running:
    server: Server
    front: Faults  # before the first CA
    first: Pebble
    second: Pebble
    config: Path
    ports: list[int]

    def served(self) -> x509.Certificate:
        """What a worker shows, verified as clients do."""
        roots = self.first.root() + self.second.root()
        with https(self.ports[1], NAME, roots) as talk:
            assert talk.asks("/", NAME).status == 200
            assert isinstance(talk.sock, ssl.SSLSocket)
            leaf = talk.sock.getpeercert(binary_form=True)
        assert leaf is not None
        return x509.load_der_x509_certificate(leaf)

    def accounts(self) -> dict[str, tuple[dict[str, object], bytes]]:
        """Document and key, by directory."""
        found = {}
        for folder in (self.config.parent / "state" / "accounts").iterdir():
            document = json.loads((folder / "account.json").read_text())
            found[document["directory"]] = (document, (folder / "key.pem").read_bytes())
        return found

    def run(self, *command: str) -> str:
        done = treehouse(*command, "--state", str(self.config.parent / "state"))
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    folder.chmod(0o755)
    (folder / "www").mkdir()
    (folder / "www" / "index.html").write_text("<p>hello\n")
    ports = free_ports(2)
    with (
        Pebble(*ports, nonce_reject=0) as first,
        Faults(first) as front,
        # What the second one gives lives for seconds, so that its successor is soon due.
        Pebble(*ports, nonce_reject=0, validity=12) as second,
    ):
        # "Not now", in so many seconds.
        front.add("newOrder", Refuse(503, headers={"Retry-After": "8"}, detail="maintenance"))
        (folder / "front.pem").write_bytes(front.ca_pem)
        config = folder / "config.yaml"
        config.write_text(
            f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 1
state: {folder / "state"}
acme:
  directory: "{front.directory}"
  ca_file: {folder / "front.pem"}
  email: ops@example.org
  challenges: [http-01]
  fallback: [{{directory: "{second.directory}", ca_file: {second.ca_file}}}]
sites: [{{names: [{NAME}, www.{NAME}], root: {folder / "www"}}}]
"""
        )
        with Server(["--config", str(config)], folder) as server:
            yield Running(server, front, first, second, config, ports)
    shutil.rmtree(folder)


def test_another_ca_is_asked_and_the_first_again_when_its_time_is_over(running: Running) -> None:
    first, second = (f"127.0.0.1:{one}" for one in (_port(running.front), running.second.port))
    server = running.server
    server.await_log(f"{NAME}: attempt 1 failed at {first} in .*maintenance.*; next attempt at 20")
    server.await_log(f"{NAME}: certificate obtained from {second} by http-01", within=60)
    kept = https(running.ports[1], NAME, running.second.root())
    server.await_log(f"{NAME}: certificate obtained from {first} by http-01", within=60)
    # Before the other one had ended, and without disturbing anybody.
    assert kept.asks("/", NAME).status == 200
    running.served()
    kept.sock.close()
    accounts = running.accounts()
    assert accounts.keys() == {running.front.directory, running.second.directory}
    (one, key), (other, another) = accounts.values()
    assert one["uri"] != other["uri"]
    assert key != another
    page = running.run("why", NAME)
    lines = [line.split("Z  ")[1] for line in page.splitlines() if re.match(r"  20\d\d-", line)]
    events = [re.split(r" by | in ", line)[0] for line in lines]
    # Pebble 2.6 suggests a time of renewal, when the first CA's pause may not be over.
    assert [one for one in events if one != f"limits at {first}"] == [
        f"obtained at {first}",
        f"obtained at {second}",
        f"unavailable at {first}",
    ]


def test_a_certificate_is_revoked_and_another_one_served(running: Running) -> None:
    running.server.await_log(f"obtained from 127.0.0.1:{_port(running.front)} ", within=60)
    before, since = running.served(), len(running.server.log)
    said = running.run("certs", "revoke", f"www.{NAME}", "--reason", "keyCompromise")
    assert said == "revoked; another one is being ordered\n"
    assert running.first.revoked(before.serial_number) == 1
    running.server.await_log(f"{NAME}: certificate {before.serial_number:x} was revoked")
    running.server.await_log(f"{NAME}: certificate obtained", since=since)
    after = running.served()
    assert after.serial_number != before.serial_number
    assert after.public_key() != before.public_key()
    assert running.first.revoked(after.serial_number) is None
    refused = treehouse("certs", "revoke", NAME, "--reason", "boredom")
    assert refused.returncode == 2
    assert "keyCompromise" in refused.stderr
    stranger = treehouse("certs", "revoke", "b.example", "--config", str(running.config))
    assert stranger.returncode == 1
    assert f"no certificate for b.example is wanted here; wanted are: {NAME}" in stranger.stderr


def test_accounts_get_other_keys_and_another_contact_and_stay_the_accounts(
    running: Running,
) -> None:
    running.server.await_log(f"obtained from 127.0.0.1:{_port(running.front)} ", within=60)
    before = running.accounts()
    said = running.run("certs", "roll-account-key")
    both = sorted(before)
    assert said == f"new account keys at {both[0]}, {both[1]}\n"
    after = running.accounts()
    for directory, (document, key) in before.items():
        assert after[directory][0] == document
        assert after[directory][1] != key
    # The CA takes orders by the new key, and is told of another contact with the next one.
    since = len(running.front.seen)
    text = running.config.read_text()
    running.config.write_text(text.replace("ops@example.org", "new@example.org"))
    assert treehouse("reload", "--config", str(running.config)).returncode == 0
    serial = running.served().serial_number
    assert running.run("certs", "renew", NAME) == f"renewed: {NAME}\n"
    assert running.served().serial_number != serial
    told = [one.payload for one in running.front.seen[since:] if one.kind == "account"]
    assert told == [{"contact": ["mailto:new@example.org"]}]
    made = [one for one in running.front.of("newAccount") if "contact" in (one.payload or {})]
    assert [(one.payload or {}).get("onlyReturnExisting", False) for one in made[1:]] == [
        True
    ] * len(made[1:]), "no other account"
    document, _key = running.accounts()[running.front.directory]
    assert document["contact"] == ["mailto:new@example.org"]


def _port(front: Faults) -> str:
    return front.directory.split(":")[2].partition("/")[0]
