"""Names as people type them, in every command that takes one: one server, one line for a case."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.program.ports import free_ports
from support.program.server import Server, treehouse

pytestmark = pytest.mark.program

TYPED = [
    "bücher.test",
    "BÜCHER.test",
    "bücher.test.",
    "xn--bcher-kva.test",
    "XN--BCHER-KVA.TEST",
    "https://bücher.test/regal?x=1",
    "bücher.test/ecdsa",
]


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    os.chmod(folder, 0o755)
    (folder / "www").mkdir()
    ports = free_ports(2)
    config = folder / "config.yaml"
    config.write_text(
        f"state: {folder}/state\n"
        f"listen: {{http: '127.0.0.1:{ports[0]}', https: '127.0.0.1:{ports[1]}'}}\n"
        f"sites:\n  - {{names: ['bücher.test'], root: {folder}/www}}\n"
    )
    with Server(["--config", str(config)], folder) as server:
        server.await_certificates(folder / "state", {"xn--bcher-kva.test"})
        yield folder / "state"
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", TYPED)
def test_why(state: Path, name: str) -> None:
    done = treehouse("why", name, "--state", str(state))
    assert done.returncode == 0, done.stderr
    assert "xn--bcher-kva.test" in done.stdout


@pytest.mark.parametrize("name", TYPED[:2])
def test_renew(state: Path, name: str) -> None:
    done = treehouse("certs", "renew", name, "--state", str(state))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "renewed: xn--bcher-kva.test\n"


@pytest.mark.parametrize("name", TYPED[:1])
def test_export_and_what_speaks_to_cas(state: Path, name: str) -> None:
    done = treehouse(
        "certs", "export", name, "--out", str(state.parent / "out.pem"), "--state", str(state)
    )
    assert done.returncode == 0, done.stderr
    for verb in ("revoke", "dns-persist"):
        said = treehouse("certs", verb, name, "--state", str(state))
        assert "is wanted here" not in said.stderr + said.stdout


def test_a_name_that_is_not_wanted_is_named(state: Path) -> None:
    done = treehouse("why", "käse.test", "--state", str(state))
    assert done.returncode != 0
    assert "xn--ksa-qla.test" in done.stderr or "xn--kse-qla.test" in done.stderr
    assert "xn--bcher-kva.test" in done.stderr
