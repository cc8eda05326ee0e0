"""`check` finds what a start would find, in the same words and with the same exit status.

Each row is a configuration that cannot be started, run by the real program both ways, and the words
that both must say. `plan` and `reload` say them of a server that runs.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from support.program.ports import free_ports
from support.program.server import Server, treehouse

pytestmark = [
    pytest.mark.program,
    pytest.mark.skipif(os.geteuid() != 0, reason="starts the server as root"),
]

USAGE, CANNOT_BIND = 2, 3
OWN = "sites: [{{names: [a.test], root: www, certificate: {{chain: {}, key: {}}}}}]"
FILES = "sites: [{names: [a.test], root: www}]"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A document root and files that are wrong, each in its own way."""
    made = Path(tempfile.mkdtemp(dir="/var/tmp"))
    made.chmod(0o755)
    (made / "www").mkdir(mode=0o755)
    (made / "closed").mkdir(mode=0o700)
    ca = trustme.CA()
    for name in ("a.test", "other.test"):
        pair = ca.issue_cert(name)
        pair.private_key_and_cert_chain_pem.write_to_path(made / f"{name}.pem")
    (made / "der.pem").write_bytes(der_of(made / "a.test.pem"))
    (made / "encrypted.pem").write_bytes(encrypted(made / "a.test.pem"))
    os.mkfifo(made / "pipe.log")
    (made / "link.log").symlink_to("/dev/stdout")
    (made / "no-ca.pem").write_text("nothing\n")
    (made / "no-ca.pem").chmod(0o644)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(made / "app.sock"))
        (made / "app.sock").chmod(0o770)
        yield made
    shutil.rmtree(made)


def der_of(pem: Path) -> bytes:
    done = subprocess.run(
        ["openssl", "x509", "-in", pem, "-outform", "DER"], capture_output=True, check=True
    )
    return done.stdout


def encrypted(pem: Path) -> bytes:
    key = serialization.load_pem_private_key(pem.read_bytes(), None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


ROWS = [
    (OWN.format("a.test.pem", "other.test.pem"), USAGE, "the key does not belong to the certificate"),
    (OWN.format("other.test.pem", "other.test.pem"), USAGE, "names that the certificate does not cover: a.test"),
    (OWN.format("a.test.pem", "encrypted.pem"), USAGE, "encrypted"),
    (OWN.format("der.pem", "a.test.pem"), USAGE, "DER"),
    (OWN.format("nowhere.pem", "a.test.pem"), USAGE, "nowhere.pem does not exist"),
    (f"log: {{access: nowhere/access.log}}\n{FILES}", USAGE, "sudo install -d -o 65534"),
    (f"log: {{access: pipe.log}}\n{FILES}", USAGE, "log.access: "),
    (f"log: {{access: link.log}}\n{FILES}", USAGE, "write stdout"),
    (f"log: {{access: www}}\n{FILES}", USAGE, "www is a directory"),
    (FILES.replace("www", "closed"), USAGE, "uid 65534 may not enter"),
    (FILES.replace("root: www", "backend: 'unix:{folder}/app.sock'"), USAGE, "may not connect to"),
    (f"acme: {{ca_file: no-ca.pem}}\n{FILES}", USAGE, "acme.ca_file: "),
    (FILES.replace("www", "www, tls: {client_auth: {ca_file: no-ca.pem}}"), USAGE, "client_auth.ca_file: "),
    (FILES.replace("www", "www, rot: x"), USAGE, "did you mean root?"),
    (FILES + "\nstate: www/state", USAGE, "its keys would be served"),
    (FILES + "\nuser: nobody-of-this-name", USAGE, "there is no user"),
    (FILES + "\nlisten: {http: [\"192.0.2.99:80\"], https: [\":{port}\"]}", CANNOT_BIND, "no network interface has this address"),
    (FILES + "\nlisten: {http: [\"127.0.0.1:{taken}\"], https: [\":{port}\"]}", CANNOT_BIND, "the port is in use by"),
    (FILES + "\nstate: a.test.pem", USAGE, "a.test.pem is not a directory"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "status", "words"), ROWS, ids=[words for _, _, words in ROWS])
def test_check_and_start_say_the_same(folder: Path, text: str, status: int, words: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port, other = free_ports(2)
        said = {
            "{folder}": str(folder), "{taken}": str(taken.getsockname()[1]), "{port}": str(port),
        }  # fmt: skip
        for name, value in said.items():
            text = text.replace(name, value)
        if "listen:" not in text:
            text += f'\nlisten: {{http: ["127.0.0.1:{port}"], https: ["127.0.0.1:{other}"]}}'
        if "\nstate:" not in text:
            text += f"\nstate: {folder}/state"
        (folder / "c.yaml").write_text(text + "\n")
        told = [
            treehouse(command, "--config", str(folder / "c.yaml"), stdin=subprocess.DEVNULL)
            for command in ("check", "run")
        ]
    for done in told:
        assert done.returncode == status, done.stderr
        assert words in done.stderr
        assert "\\n" not in done.stderr
        assert "{" not in done.stderr.splitlines()[0][:1], "text, and not JSON"
        assert "Errno" not in done.stderr
        assert "valid" not in done.stdout
    assert not (folder / "state").exists(), "nothing was touched"


def test_json_is_written_where_it_is_asked_for(folder: Path) -> None:
    (folder / "c.yaml").write_text(FILES.replace("www", "nowhere"))
    done = treehouse("run", "--config", str(folder / "c.yaml"), "--log-format", "json")
    assert done.returncode == USAGE
    assert done.stderr.startswith('{"time"')


def test_a_locale_without_unicode_is_shown_ascii(folder: Path) -> None:
    (folder / "c.yaml").write_text(FILES.replace("a.test", "bücher!").replace("www", "nowhere"))
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    for command in ("check", "run"):
        done = treehouse(command, "--config", str(folder / "c.yaml"), env=environment)
        assert done.returncode == USAGE
        assert done.stderr.isascii()
        assert "b\\xfccher!" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_plan_and_reload_say_the_same_of_a_server_that_runs(folder: Path, tmp_path: Path) -> None:
    http, https, taken = free_ports(3)
    config, state = tmp_path / "c.yaml", folder / "running"
    listen = (
        f'\nlisten: {{http: ["127.0.0.1:{http}"], https: ["127.0.0.1:{https}"]}}\nstate: {state}\n'
    )
    tmp_path.chmod(0o755)
    (folder / "c.yaml").write_text(FILES + listen)
    config = folder / "c.yaml"
    with Server(["--config", str(config)], tmp_path), socket.socket() as other:
        done = treehouse("check", "--config", str(config))
        assert (done.returncode, done.stderr) == (0, ""), "its ports are no obstacle to itself"
        config.write_text(FILES + listen + "queue: 9\n")
        for command in ("check", "plan", "reload"):
            done = treehouse(command, "--config", str(config))
            assert done.returncode == 0, done.stderr
            assert "warning: " in done.stderr
            assert "queue: this key is called max_queued now" in done.stderr
        other.bind(("127.0.0.1", taken))
        other.listen()
        for text, status, words in (
            (
                OWN.format("other.test.pem", "other.test.pem") + listen,
                USAGE,
                "does not cover: a.test",
            ),
            (FILES.replace("www", "closed") + listen, USAGE, "may not enter"),
            (f"log: {{access: www}}\n{FILES}" + listen, USAGE, "www is a directory"),
            (FILES.replace("www", "www, rot: x") + listen, USAGE, "did you mean root?"),
            (FILES + listen.replace(str(http), str(taken)), CANNOT_BIND, "the port is in use by"),
        ):
            config.write_text(text)
            for command in ("check", "plan", "reload"):
                done = treehouse(command, "--config", str(config))
                assert done.returncode == status, (command, done.stderr)
                assert words in done.stderr, command
                assert "\\n" not in done.stderr
