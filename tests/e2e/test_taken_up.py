"""The certifier, or the whole program, is killed when the CA has issued and nothing is on disk yet, and the
disk is full in that moment: the next process goes on with the order, and the CA (pebble, whose log is the
witness) has issued one certificate."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.acme.ca_faults import Faults, Meanwhile
from support.acme.pebble import Pebble
from support.http.client import https
from support.program.server import Server, treehouse

pytestmark = [pytest.mark.program, pytest.mark.pebble]
NOBODY = 65534


@pytest.fixture
def state(folder: Path) -> Iterator[Path]:
    """A small disk."""
    place = folder / "state"
    place.mkdir()
    options = f"size=512k,uid={NOBODY},gid={NOBODY},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def issued(ca: Pebble) -> int:
    return len(re.findall("Issued certificate serial", ca.log()))


def certifier(server: Server) -> int:
    found = []
    for pid in server.children():
        with contextlib.suppress(OSError):  # a worker that drains has ended meanwhile
            if Path(f"/proc/{pid}/comm").read_text() == "th-certifier\n":
                found.append(pid)
    (one,) = found
    return one


def test_the_ca_issues_once_however_the_certificate_was_lost(
    folder: Path, root: Path, ports: tuple[int, int], state: Path
) -> None:
    with Pebble(ports[0], ports[1], nonce_reject=0) as ca, Faults(ca) as front:
        trust, path = folder / "front.pem", folder / "config.yaml"
        trust.write_bytes(front.ca_pem)
        trust.chmod(0o644)
        text = f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 1
state: {state}
acme: {{directory: "{front.directory}", ca_file: {trust}, challenges: [http-01]}}
sites:
  - {{names: [one.example], root: {root}}}
"""
        path.write_text(text)
        seen: list[os.stat_result] = []

        def kill() -> None:
            seen.extend(one.lstat() for one in (state / "orders").rglob("*"))
            os.kill(certifier(server), signal.SIGKILL)

        def fill() -> None:
            with (state / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * 512)

        with Server(["--config", str(path)], folder) as server:
            # Killed when the CA has the CSR, and its answer is on the way.
            front.add("finalize", Meanwhile(kill))
            server.await_log("one.example: the order of .* is taken up again", within=90)
            server.await_log("one.example: certificate obtained", within=60)
            assert (issued(ca), len(front.of("newOrder"))) == (1, 1)
            assert list((state / "orders").iterdir()) == []
            assert sorted(stat.filemode(one.st_mode) for one in seen) == [
                "-rw-------",
                "drwx------",
            ]
            assert {one.st_uid for one in seen} == {NOBODY}
            told = treehouse("why", "one.example", "--state", str(state))
            assert "was taken up again" in told.stdout

            # No room for the certificate, and then no memory of it.
            front.add("finalize", Meanwhile(fill))
            path.write_text(text + f"  - {{names: [two.example], root: {root}}}\n")
            assert treehouse("reload", "--state", str(state)).returncode == 0
            server.await_log("two.example: the certificate cannot be written", within=60)
            server.await_log("two.example: certificate obtained", within=60)
            os.kill(certifier(server), signal.SIGKILL)
            server.await_log("two.example: the order of .* is taken up again", within=90)
            server.signal(signal.SIGKILL)
            server.ended()

        (state / "filler").unlink()
        with Server(["--config", str(path)], folder) as server:
            server.await_log("two.example: the order of .* is taken up again", within=90)
            server.await_log("two.example: certificate obtained", within=60)
            with https(ports[1], "two.example", ca.root()) as talk:
                assert talk.asks("/", "two.example").status == 200
            assert (issued(ca), len(front.of("newOrder"))) == (2, 2)
            assert (state / "certificates/two.example/fullchain.pem").exists()
            assert list((state / "orders").iterdir()) == []
            assert server.stop() == 0
