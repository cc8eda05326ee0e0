"""Key exchange: with whom, and by which groups, as OpenSSL's own command sees it."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.program.ports import free_ports
from support.program.server import Server

# OpenSSL has it from this version on, and then prefers it (RFC 9794, draft-ietf-tls-ecdhe-mlkem).
HYBRID = ssl.OPENSSL_VERSION_INFO >= (3, 5)
BOTH_KEY_SHARES = "X25519MLKEM768:X25519"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    folder.chmod(0o755)
    root = folder / "www"
    root.mkdir()
    (root / "index.html").write_text("<p>hello\n")
    http, https = free_ports(2)
    options = ["--domain", "localhost", "--root", str(root), "--state", str(folder / "state")]
    options += ["--http-port", str(http), "--https-port", str(https)]
    with Server(options, folder) as running:
        running.await_log("certificate obtained")
        yield https
    shutil.rmtree(folder)


def s_client(port: int, *options: str) -> str:
    """What a client says of its connection, and the answer to a request over it."""
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}",
         "-servername", "localhost", "-ign_eof", *options],
        input="GET / HTTP/1.0\r\nHost: localhost\r\n\r\n",
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def group(said: str) -> str:
    (found,) = re.findall(r"(?:Negotiated TLS1\.3 group|(?:Server|Peer) Temp Key): ([\w]+)", said)
    return found


def test_a_client_with_no_wishes_gets_the_best(port: int) -> None:
    said = s_client(port)
    assert group(said) == ("X25519MLKEM768" if HYBRID else "X25519")
    assert "<p>hello" in said


@pytest.mark.skipif(not HYBRID, reason="this OpenSSL has no ML-KEM")
@pytest.mark.parametrize("offer", ["X25519MLKEM768", BOTH_KEY_SHARES, "*X25519:X25519MLKEM768"])
def test_the_hybrid_is_taken_where_it_is_offered(port: int, offer: str) -> None:
    """Also from a ClientHello that is longer than a packet, and behind a HelloRetryRequest."""
    said = s_client(port, "-groups", offer)
    assert group(said) == "X25519MLKEM768"
    assert "<p>hello" in said


@pytest.mark.parametrize("only", ["X25519", "P-256", "P-384"])
def test_older_groups_are_taken_where_they_alone_are_offered(port: int, only: str) -> None:
    said = s_client(port, "-groups", only)
    assert group(said) == {"X25519": "X25519"}.get(only, "ECDH")
    assert {"P-256": "prime256v1", "P-384": "secp384r1"}.get(only, "X25519") in said
    assert "<p>hello" in said


def test_a_session_is_resumed_with_a_new_exchange(port: int, tmp_path: Path) -> None:
    kept = tmp_path / "session.pem"
    assert "<p>hello" in s_client(port, "-sess_out", str(kept))
    said = s_client(port, "-sess_in", str(kept))
    assert "Reused, TLSv1.3" in said
    assert group(said) == ("X25519MLKEM768" if HYBRID else "X25519")
    assert "<p>hello" in said
