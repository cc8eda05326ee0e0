"""A second, independent CA for tests: Caddy's ``acme_server`` (smallstep's code under it).

    with CaddyCa() as ca:
        Authority(ca.directory, ca_pem=ca.ca_pem)

Other texts, other defaults and other strictness than pebble's: certificates of twelve hours by
default, with an intermediate of its own; no terms of service, no renewal information; requests must
be signed for exactly its URLs. It validates at ports 80 and 443 of the address that a name has in
/etc/hosts or DNS, and those cannot be changed; so tests take addresses of 127.0.0.0/8 as names.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trustme

from .pebble import free_ports

_STARTS_WITHIN = 20.0


class CaddyCa:
    """``lifetime``: of its certificates, as Caddy spells it."""

    def __init__(self, *, lifetime: str = "12h") -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="caddy-ca-"))
        (self.port,) = free_ports(1)
        self.directory = f"https://127.0.0.1:{self.port}/acme/local/directory"
        authority = trustme.CA()
        served = authority.issue_cert("127.0.0.1")
        served.private_key_and_cert_chain_pem.write_to_path(self._folder / "tls.pem")
        self.ca_pem: bytes = authority.cert_pem.bytes()
        (self._folder / "Caddyfile").write_text(
            f"""
{{
    admin off
    auto_https off
    skip_install_trust
    storage file_system {self._folder / "data"}
}}
https://127.0.0.1:{self.port} {{
    bind 127.0.0.1
    tls {self._folder / "tls.pem"} {self._folder / "tls.pem"}
    acme_server {{
        lifetime {lifetime}
    }}
}}
"""
        )

    def __enter__(self) -> CaddyCa:
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    str(Path(sys.executable).parent / "caddy"),
                    "run",
                    "--config",
                    str(self._folder / "Caddyfile"),
                    "--adapter",
                    "caddyfile",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "HOME": str(self._folder)},
            )
        deadline = time.monotonic() + _STARTS_WITHIN
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.__exit__()
                    raise AssertionError(f"caddy does not start: {self.log()}") from None
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def root(self) -> bytes:
        """The root that its certificates lead to, as PEM."""
        return (self._folder / "data/pki/authorities/local/root.crt").read_bytes()

    def log(self) -> str:
        path = self._folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""
