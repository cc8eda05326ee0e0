"""What a scanner of TLS has to say: testssl.sh, every check of protocols, ciphers and known holes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from support.program.server import Server

# What the built-in CA's certificates are by design: of a root that only its installer trusts, and of
# a few days. What a site's own answers say of themselves is the site's.
OF_THE_CERTIFICATE = {
    "cert_chain_of_trust", "cert_expirationStatus", "cert_notAfter", "cert_revocation",
    "cert_trust", "DNS_CAArecord", "security_headers",
}  # fmt: skip


def test_testssl_finds_nothing_above_low(folder: Path, root: Path, ports: tuple[int, int]) -> None:
    found = folder / "findings.json"
    options = ["--domain", "a.test", "--root", str(root), "--state", str(folder / "state")]
    options += ["--http-port", str(ports[0]), "--https-port", str(ports[1])]
    with Server([*options, "--bind", "127.0.0.1", "--workers", "2"], folder) as server:
        server.await_log("certificate obtained")
        subprocess.run(
            ["testssl", "--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1",
             "-p", "-s", "-f", "-S", "-U", "--jsonfile", str(found), f"a.test:{ports[1]}"],
            capture_output=True, check=False, timeout=200,
        )  # fmt: skip
        assert server.stop() == 0
        assert "Traceback" not in server.text()
    findings = json.loads(found.read_text())
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
