"""``trust`` with the system's own store and a real NSS database: what it puts there is believed, and
what it takes out is not."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.http.client import https
from support.program.server import Server, treehouse

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the system's store is root's")


@pytest.fixture
def home(folder: Path) -> Iterator[Path]:
    """A user's home with a browser's database; and no root of ours is left behind."""
    made = Path("/root/.pki/nssdb")
    kept = made.parent.with_name(".pki-kept")
    if made.parent.exists():
        made.parent.rename(kept)
    made.mkdir(parents=True)
    subprocess.run(
        ["certutil", "-d", f"sql:{made}", "-N", "--empty-password"], check=True, timeout=60
    )
    yield made
    shutil.rmtree(made.parent)
    if kept.exists():
        kept.rename(made.parent)


def names(database: Path) -> str:
    done = subprocess.run(
        ["certutil", "-d", f"sql:{database}", "-L"], capture_output=True, text=True, check=True,
        timeout=60,
    )  # fmt: skip
    return done.stdout


def test_a_root_is_trusted_and_taken_out_again(
    folder: Path, root: Path, ports: tuple[int, int], home: Path
) -> None:
    state = folder / "state"
    options = ["--domain", "localhost", "--root", str(root), "--state", str(state)]
    options += ["--bind", "127.0.0.1", "--http-port", str(ports[0]), "--https-port", str(ports[1])]
    early = treehouse("trust", "--state", str(state))
    assert early.returncode == 1
    assert "is not there" in early.stderr
    with Server(options, folder) as server:
        server.await_log("localhost: certificate obtained")
        try:
            done = treehouse("trust", "--state", str(state))
            assert done.returncode == 0, done.stderr
            assert "system: trusted" in done.stdout
            assert f"browsers: trusted ({home})" in done.stdout
            assert "treehouse-internal-ca" in names(home)
            system = ssl.create_default_context()
            assert (
                https(ports[1], "localhost", None, using=system).asks("/", "localhost").status
                == 200
            )
        finally:
            gone = treehouse("trust", "--remove", "--state", str(state))
        assert gone.returncode == 0, gone.stderr
        assert "system: removed" in gone.stdout
        assert f"browsers: removed ({home})" in gone.stdout
        again = treehouse("trust", "--remove", "--state", str(state))
        assert again.returncode == 0, again.stderr
        assert "system: was not trusted" in again.stdout
        assert f"browsers: was not trusted ({home})" in again.stdout
        assert "treehouse-internal-ca" not in names(home)
        with pytest.raises(ssl.SSLCertVerificationError):
            https(ports[1], "localhost", None, using=ssl.create_default_context())
