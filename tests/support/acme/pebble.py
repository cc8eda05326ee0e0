"""A real CA for tests: Debian's pebble with pebble-challtestsrv as its DNS, on ports of their own.

    with Pebble(http_port=responder.port) as ca:
        Authority(ca.directory, ca_pem=ca.ca_pem)

The ports, and so the directory's URL, are settled when the object is made, so that a test can name
a CA that is not there yet (`start` brings it up) or has gone (`stop`). Every start is a new CA:
pebble keeps nothing. `prefix` is put before the commands, for example ``ip netns exec NAME``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trustme

from ..program.peers import Peer
from ..program.ports import free_ports


class Pebble:
    """``http_port``, ``tls_port``: where it validates. ``dns``: names that resolve to another
    address than 127.0.0.1. ``nonce_reject``: percent. ``validity``: of its certificates, seconds.
    ``eab``: kid to base64url HMAC key; with any, accounts need one. ``blocked``: domains refused.
    ``dns_server``: "address:port" of another DNS than its own, for everything that it looks up.
    """

    def __init__(
        self,
        http_port: int = 5002,
        tls_port: int = 5001,
        *,
        nonce_reject: int = 5,
        validity: int | None = None,
        dns: Mapping[str, str] | None = None,
        eab: Mapping[str, str] | None = None,
        blocked: tuple[str, ...] = (),
        authz_reuse: int = 0,
        always_valid: bool = False,
        alternate_roots: int = 0,
        dns_server: str | None = None,
        prefix: tuple[str, ...] = (),
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pebble-"))
        self.port, self.management_port, self.dns_port, self._dns_management = free_ports(4)
        self.directory = f"https://127.0.0.1:{self.port}/dir"
        authority = trustme.CA()
        served = authority.issue_cert("127.0.0.1", "localhost")
        served.private_key_and_cert_chain_pem.write_to_path(self._folder / "tls.pem")
        self.ca_pem: bytes = authority.cert_pem.bytes()
        self.ca_file = self._folder / "tls-ca.pem"
        self.ca_file.write_bytes(self.ca_pem)
        os.chmod(self._folder, 0o755)  # ca_file is for programs that run as somebody else
        os.chmod(self._folder / "tls.pem", 0o600)

        self._dns = dict(dns or {})
        self._prefix = prefix
        self._dns_server = dns_server or f"127.0.0.1:{self.dns_port}"
        self._running: list[Peer] = []
        self._environment = {
            **os.environ,
            "PEBBLE_VA_NOSLEEP": "1",
            "PEBBLE_WFE_NONCEREJECT": str(nonce_reject),
            "PEBBLE_AUTHZREUSE": str(authz_reuse),
            "PEBBLE_ALTERNATE_ROOTS": str(alternate_roots),
            **({"PEBBLE_VA_ALWAYS_VALID": "1"} if always_valid else {}),
        }
        settings: dict[str, Any] = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management_port}",
            "certificate": str(self._folder / "tls.pem"),
            "privateKey": str(self._folder / "tls.pem"),
            "httpPort": http_port,
            "tlsPort": tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": bool(eab),
            "externalAccountMACKeys": dict(eab or {}),
            "domainBlocklist": list(blocked),
        }
        if validity is not None:
            settings["certificateValidityPeriod"] = validity
        (self._folder / "pebble.json").write_text(json.dumps({"pebble": settings}))

    def __enter__(self) -> Pebble:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Bring up DNS and CA; returns when both listen."""
        self._run(
            "pebble-challtestsrv",
            "-defaultIPv4=127.0.0.1",
            "-defaultIPv6=",
            f"-dns01=127.0.0.1:{self.dns_port}",
            f"-management=127.0.0.1:{self._dns_management}",
            "-http01=",
            "-https01=",
            "-tlsalpn01=",
            listens=(self.dns_port, self._dns_management),
        )
        for name, address in self._dns.items():
            self.resolve(name, address)
        self._run(
            "pebble",
            f"-config={self._folder / 'pebble.json'}",
            f"-dnsserver={self._dns_server}",
            "-strict",
            listens=(self.port, self.management_port),
        )

    def stop(self) -> None:
        """End both; the directory's URL stays, refused until the next `start`."""
        while self._running:
            self._running.pop().stop()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def resolve(self, name: str, address: str) -> None:
        """From now on, ``name`` has this one A record."""
        self._curl(
            f"http://127.0.0.1:{self._dns_management}/clear-a",
            "--data",
            json.dumps({"host": name + "."}),
        )
        self._curl(
            f"http://127.0.0.1:{self._dns_management}/add-a",
            "--data",
            json.dumps({"host": name + ".", "addresses": [address]}),
        )

    def resolve_aaaa(self, name: str, address: str) -> None:
        """From now on, ``name`` has this one AAAA record as well."""
        self._curl(
            f"http://127.0.0.1:{self._dns_management}/add-aaaa",
            "--data",
            json.dumps({"host": name + ".", "addresses": [address]}),
        )

    def allow(self, name: str, authority: str) -> None:
        """From now on, ``name`` has this one CAA record."""
        policies = [{"tag": "issue", "value": authority}]
        self._curl(
            f"http://127.0.0.1:{self._dns_management}/add-caa",
            "--data",
            json.dumps({"host": name + ".", "policies": policies}),
        )

    def root(self, number: int = 0) -> bytes:
        """The root that its certificates lead to, as PEM; one of several (``alternate_roots``)."""
        return self._curl(f"https://127.0.0.1:{self.management_port}/roots/{number}")

    def revoked(self, serial: int) -> int | None:
        """The reason by which it holds its certificate for revoked (RFC 5280 §5.3.1), or None."""
        told = self._curl(
            f"https://127.0.0.1:{self.management_port}/cert-status-by-serial/{serial:x}"
        )
        status = json.loads(told)
        # It leaves an unspecified one out.
        return int(status.get("Reason", 0)) if status["Status"] == "Revoked" else None

    def log(self) -> str:
        """What the CA has said so far."""
        return (self._folder / "pebble.log").read_text(errors="replace")

    def _curl(self, url: str, *options: str) -> bytes:
        return subprocess.run(
            [*self._prefix, "curl", "-sS", "--fail", "--cacert", self.ca_file, *options, url],
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout

    def _run(self, *command: str, listens: tuple[int, ...]) -> None:
        log = self._folder / f"{command[0]}.log"
        command = (*self._prefix, *command)
        self._running.append(
            Peer(command, log, lambda peer: peer.listens(*listens), self._environment)
        )
