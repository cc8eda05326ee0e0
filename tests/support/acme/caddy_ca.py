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
import sys
import tempfile
from pathlib import Path

import trustme

from ..program.peers import Peer
from ..program.ports import free_ports


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
        try:
            self._start()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def _start(self) -> None:
        caddy, caddyfile = Path(sys.executable).parent / "caddy", self._folder / "Caddyfile"
        self._running = Peer(
            [caddy, "run", "--config", caddyfile, "--adapter", "caddyfile"],
            self._folder / "caddy.log",
            lambda peer: peer.listens(self.port),
            {**os.environ, "HOME": str(self._folder)},
        )

    def __exit__(self, *_: object) -> None:
        self._running.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def root(self) -> bytes:
        """The root that its certificates lead to, as PEM."""
        return (self._folder / "data/pki/authorities/local/root.crt").read_bytes()
