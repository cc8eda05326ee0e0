"""Certificates and accounts of other programs, brought along: real trees, the real program, and the
CA that both have dealt with."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from acme_client.storage.directory import DirectoryStore
from support.acme.acme_clients import MOVERS
from support.acme.pebble import Pebble
from support.http.client import https
from support.program.ports import free_ports
from support.program.server import REPOSITORY, Server, packages, treehouse

from .test_acme import config, served


@pytest.fixture(scope="module")
def doors() -> tuple[int, int]:
    one, other = free_ports(2)
    return one, other


@pytest.fixture(scope="module")
def ca(doors: tuple[int, int]) -> Iterator[Pebble]:
    # The other clients do not all bear a refused nonce.
    with Pebble(*doors, nonce_reject=0) as pebble:
        yield pebble


def certificate(state: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(
        (state / "certificates" / name / "fullchain.pem").read_bytes()
    )


def accounts_made(ca: Pebble) -> int:
    return ca.log().count("accounts in memory")


@pytest.mark.parametrize("source", MOVERS)
def test_what_came_along_is_served_and_its_account_renews(
    source: str, folder: Path, root: Path, doors: tuple[int, int], ca: Pebble
) -> None:
    tree = MOVERS[source](ca, doors[0], folder, ("a.example",))
    state = folder / "state"
    path = config(folder, doors, ca, f"  - {{names: [a.example], root: {root}}}\n")
    done = treehouse("certs", "import", source, str(tree), "--config", str(path))
    assert done.returncode == 0, done.stderr
    assert f"taken account with {ca.directory}: https://127.0.0.1" in done.stdout
    assert "taken a.example: valid until" in done.stdout
    assert "a server that starts on this state directory uses them" in done.stdout
    for file in (state, *state.rglob("*")):
        info = file.lstat()
        assert (info.st_uid, info.st_gid) == (65534, 65534)
        if not stat.S_ISLNK(info.st_mode):
            assert stat.S_IMODE(info.st_mode) == (0o700 if file.is_dir() else 0o600), file
    account = json.loads((state / "accounts/127.0.0.1/account.json").read_text())
    key = (state / "accounts/127.0.0.1/key.pem").read_bytes()
    brought = certificate(state, "a.example").serial_number

    made = accounts_made(ca)
    with Server(["--config", str(path)], folder) as server:
        server.await_log("a.example: certificate at hand")
        assert served(doors[1], "a.example").serial_number == brought
        assert not any("order placed" in line["message"] for line in server.log)
        renewed = treehouse("certs", "renew", "a.example", "--config", str(path))
        assert renewed.returncode == 0, renewed.stderr + server.text()
        assert served(doors[1], "a.example").serial_number != brought
        with https(doors[1], "a.example", ca.root()) as talk:
            assert talk.asks("/", "a.example").status == 200
    assert accounts_made(ca) == made
    after = json.loads((state / "accounts/127.0.0.1/account.json").read_text())
    assert after["uri"] == account["uri"]
    assert after["contact"] == ["mailto:ops@example.org"]
    assert (state / "accounts/127.0.0.1/key.pem").read_bytes() == key
    meta = json.loads((state / "certificates/a.example/meta.json").read_text())
    assert [one["outcome"] for one in meta["history"]] == ["imported", "obtained"]


def test_a_rehearsal_writes_nothing_and_twice_is_once(
    folder: Path, doors: tuple[int, int], ca: Pebble
) -> None:
    tree = MOVERS["caddy"](ca, doors[0], folder, ("a.example",))
    state = folder / "state"
    words = ("certs", "import", "caddy", str(tree), "--state", str(state))
    rehearsal = treehouse(*words, "--dry-run", "--directory", ca.directory)
    assert rehearsal.returncode == 0, rehearsal.stderr
    assert "taken a.example: valid until" in rehearsal.stdout
    assert "this was a rehearsal" in rehearsal.stdout
    assert not state.exists()
    assert treehouse(*words).returncode == 0
    before = {file: file.lstat().st_mtime_ns for file in state.rglob("*.pem")}
    again = treehouse(*words)
    assert again.returncode == 0
    assert "kept  a.example: it is here already" in again.stdout
    assert f"kept  account with {ca.directory}: it is here already" in again.stdout
    assert "nothing was changed" in again.stdout
    assert {file: file.lstat().st_mtime_ns for file in state.rglob("*.pem")} == before


def test_a_running_server_uses_what_comes_at_once(
    folder: Path, root: Path, ports: tuple[int, int]
) -> None:
    """Its CA is down and it has no certificate; one comes, of which a site has only one name."""
    with Pebble(*ports, nonce_reject=0) as ca:
        tree = MOVERS["caddy"](ca, ports[0], folder, ("a.example", "b.example"))
        ca.stop()
        sites = (
            f"  - {{names: [www.a.example, a.example], root: {root}}}\n"
            f"  - {{names: [b.example], root: {root}}}\n"
        )
        path = config(folder, ports, ca, sites)
        with Server(["--config", str(path)], folder) as server:
            server.await_log("b.example: attempt 1 failed")
            # Found by its state directory: the names that go together are the running server's.
            state = str(folder / "state")
            done = treehouse("certs", "import", "caddy", str(tree), "--state", state)
            assert done.returncode == 0, done.stderr
            assert "the running server has been told, and uses them" in done.stdout
            assert "without www.a.example, so another one will be ordered" in done.stdout
            assert f"taken account with {ca.directory}" in done.stdout
            for name in ("a.example", "b.example"):
                assert served(ports[1], name).serial_number
            facts = {
                one["names"][0]: one for one in server.status(folder / "state")["certificates"]
            }
            assert facts["b.example"]["state"] == "fresh"
            assert facts["b.example"]["served"]


def test_an_account_is_replaced_when_that_is_asked_for(folder: Path, root: Path) -> None:
    with Pebble(always_valid=True, nonce_reject=0) as ca:
        (port,) = free_ports(1)
        state = folder / "state"
        for number in (1, 2):
            below = folder / str(number)
            below.mkdir()
            tree = str(MOVERS["caddy"](ca, port, below, ("a.example",)))
            words = ("certs", "import", "caddy", tree, "--state", str(state))
            first = treehouse(*words)
            assert first.returncode == 0, first.stderr
        key = (state / "accounts/127.0.0.1/key.pem").read_bytes()
        assert "kept  account" in first.stdout
        done = treehouse(*words, "--replace-account")
        assert "taken account" in done.stdout
        files = DirectoryStore(state).load("accounts/127.0.0.1")
        assert files["key-replaced.pem"] == key
        assert files["key.pem"] != key
        (location,) = (folder / "2/caddy").glob("acme/*/users/*/*.json")
        uri = json.loads(location.read_text())["location"]
        assert json.loads(files["account.json"])["uri"] == uri


def test_without_root_it_is_ones_own(
    folder: Path, doors: tuple[int, int], ca: Pebble, shared_python: str
) -> None:
    """What one may not read is told; what is one's own comes into a directory of one's own."""
    tree = MOVERS["caddy"](ca, doors[0], folder, ("a.example",))
    own = folder / "own"
    own.mkdir()
    os.chown(own, 12345, 12345)
    become = ("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups")

    def run() -> subprocess.CompletedProcess[str]:
        words = ("certs", "import", "caddy", str(tree), "--state", str(own / "state"))
        # The shell is for a second exec: the first is still made with root's capabilities.
        prefix = (*become, "sh", "-c", 'exec "$0" "$@"')
        environment = os.environ | packages(REPOSITORY)
        return treehouse(*words, prefix=prefix, python=shared_python, env=environment)

    tree.chmod(0o700)
    refused = run()
    assert refused.returncode == 1
    assert f"{tree}: permission denied (run it as root)" in refused.stderr
    assert not (own / "state").exists()
    for file in (tree, *tree.rglob("*")):
        os.chown(file, 12345, 12345)
    done = run()
    assert done.returncode == 0, done.stderr
    assert "taken a.example" in done.stdout
    for file in (own / "state").rglob("*"):
        assert file.lstat().st_uid == 12345


def test_mistakes_are_told(folder: Path, root: Path) -> None:
    state = str(folder / "state")
    empty = folder / "empty"
    empty.mkdir()

    def said(*words: str) -> str:
        done = treehouse("certs", "import", *words)
        assert done.returncode in (1, 2), done.stdout
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "no such file or directory" in said("certbot", str(folder / "no"), "--state", state)
    assert "neither live nor accounts" in said("certbot", str(empty), "--state", state)
    assert "no such file" in said("traefik", str(folder / "acme.json"), "--state", state)
    (folder / "acme.json").write_text("{broken")
    assert "acme.json: it is not JSON" in said(
        "traefik", str(folder / "acme.json"), "--state", state
    )
    (empty / "live").mkdir()
    assert "keeps no certificates and no accounts there" in said(
        "certbot", str(empty), "--state", state
    )
    broken = folder / "broken.yaml"
    broken.write_text("sites: 3\n")
    assert "broken.yaml:1" in said("certbot", str(empty), "--config", str(broken))
    assert not os.path.lexists(state)
