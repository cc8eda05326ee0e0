"""What a scanner of TLS has to say: testssl.sh, every check of protocols, ciphers and known holes."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.program.server import Server

WITHIN = 900.0  # seconds until it hangs; on a quiet machine it takes forty

# What the built-in CA's certificates are by design: of a root that only its installer trusts, and of
# a few days. What a site's own answers say of themselves is the site's.
OF_THE_CERTIFICATE = {
    "cert_chain_of_trust", "cert_expirationStatus", "cert_notAfter", "cert_revocation",
    "cert_trust", "DNS_CAArecord", "security_headers",
}  # fmt: skip


# Protocols, ciphers, forward secrecy; what the server says of itself, and known holes.
CHECKS = (("-p", "-s", "-f"), ("-S", "-U"))


def scan(folder: Path, port: int, checks: tuple[str, ...]) -> list[dict[str, str]]:
    """What testssl.sh finds."""
    found = folder / f"findings{checks[0]}.json"
    subprocess.run(
        ["testssl", "--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1",
         *checks, "--jsonfile", str(found), f"a.test:{port}"],
        capture_output=True, check=False, timeout=WITHIN,
    )  # fmt: skip
    findings: list[dict[str, str]] = json.loads(found.read_text())
    return findings


@pytest.mark.timeout(WITHIN + 120)
def test_testssl_finds_nothing_above_low(folder: Path, root: Path, ports: tuple[int, int]) -> None:
    options = ["--domain", "a.test", "--root", str(root), "--state", str(folder / "state")]
    options += ["--http-port", str(ports[0]), "--https-port", str(ports[1])]
    with Server([*options, "--bind", "127.0.0.1", "--workers", "2"], folder) as server:
        server.await_log("certificate obtained")
        # Two at a time: each waits for most of its life.
        with ThreadPoolExecutor(len(CHECKS)) as scanners:
            scans = scanners.map(lambda checks: scan(folder, ports[1], checks), CHECKS)
            findings = [one for scanned in scans for one in scanned]
        assert server.stop() == 0
        assert "Traceback" not in server.text()
    seen = {one["id"] for one in findings}
    assert {"TLS1_3", "TLS1_2", "heartbleed", "ROBOT", "BEAST", "SWEET32"} <= seen
    assert [
        one
        for one in findings
        if one["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL")
        and one["id"] not in OF_THE_CERTIFICATE
    ] == []
    offered = {one["id"]: one["finding"] for one in findings}
    assert all("not offered" in offered[old] for old in ("SSLv2", "SSLv3", "TLS1", "TLS1_1"))
