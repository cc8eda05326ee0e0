"""Thousands of sites for a server: their certificates, the state directory that holds them, and how
treehouse-proxy, nginx and Caddy are told of them.

Every site has one name, one certificate by the same CA and one document root, the same for all. What
is on the disk is written without a sync: it only has to be there.
"""

from __future__ import annotations

import datetime
import json
import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from acme_client.certificates import ca_choice, transitions
from acme_client.certificates.record import Proof, Record, to_json
from acme_client.issuers import internal
from acme_client.link import INTERNAL, Authority
from acme_client.storage.atomic import Disk
from acme_client.storage.directory import DirectoryStore
from acme_client.storage.shared_sync import Durable
from acme_client.x509.verify import CertificateAndKey, read

from . import peers

PORT = 18643
_LIFETIME = 90 * 86400.0


class _Unsynced(Disk):
    """Writes at once: a state directory that is made for a measurement survives no power cut."""

    def _settle(self, several: list[Durable]) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Sites:
    """``work`` holds everything; ``pems`` a folder with chain and key of each name, for the peers;
    ``state`` the state directory."""

    work: Path
    names: tuple[str, ...]

    @property
    def pems(self) -> Path:
        return self.work / "pems"

    @property
    def state(self) -> Path:
        return self.work / "state"

    @property
    def root(self) -> Path:
        return self.work / "root"

    @property
    def ca(self) -> Path:
        return self.state / internal.FOLDER / internal.ROOT


def names(count: int) -> tuple[str, ...]:
    return tuple(f"s{number:06}.test" for number in range(count))


def prepare(work: Path, count: int, *, certified: bool) -> Sites:
    """Make what the servers read. ``certified``: with a certificate for each site in the state
    directory, as after the first start."""
    sites = Sites(work, names(count))
    for folder in (sites.root, sites.pems, sites.state):
        folder.mkdir(parents=True, exist_ok=True)
    work.chmod(0o755)
    sites.state.chmod(0o700)
    (sites.root / "index.html").write_bytes(b"x" * 100)
    if certified:
        _certify(sites)
    return sites


def _certify(sites: Sites) -> None:
    now = datetime.datetime.now(datetime.UTC).timestamp()
    store = DirectoryStore(sites.state, _Unsynced())
    ca = internal.InternalCa(store, _LIFETIME, lambda: now)
    rng = random.Random(1)
    terms = ca_choice.terms(Authority(INTERNAL))
    for name in sites.names:
        pair, facts = read(ca.issue((name,), "ecdsa-p256"))
        record = transitions.on_found(
            Record(
                names=(name,), key_type="ecdsa-p256", terms=terms, proof=Proof.of(pair, facts)
            ),
            facts, "internal", INTERNAL, now, rng,
        )  # fmt: skip
        folder = f"certificates/{name}"
        store.store(folder, {"fullchain.pem": pair.chain_pem, "privkey.pem": pair.key_pem})
        store.store(folder, {"meta.json": to_json(record)})
        _write_pems(sites, name, pair)


def _write_pems(sites: Sites, name: str, pair: CertificateAndKey) -> None:
    (sites.pems / f"{name}.crt").write_bytes(pair.chain_pem)
    (sites.pems / f"{name}.key").write_bytes(pair.key_pem)


# How each server is told


def treehouse(sites: Sites, port: int, workers: int) -> list[str]:
    config = sites.work / "config.yaml"
    lines = [
        f'listen: {{http: ["127.0.0.1:{port + 1}"], https: ["127.0.0.1:{port}"]}}',
        f"workers: {workers}",
        f"state: {sites.state}",
        "acme: {directory: internal}",
        f"log: {{format: text, level: warning, access: {sites.work}/access.log}}",
        "limits: {connections_per_address: 10000}",
        "sites:",
    ]
    lines += [f"  - {{names: [{name}], root: {sites.root}}}" for name in sites.names]
    config.write_text("\n".join(lines) + "\n")
    return [sys.executable, "-m", "proxy", "--config", str(config)]


def nginx(sites: Sites, port: int, workers: int) -> list[str]:
    config = sites.work / "nginx.conf"
    servers = [
        f"server {{ listen 127.0.0.1:{port} ssl; server_name {name}; root {sites.root};\n"
        f"ssl_certificate {sites.pems}/{name}.crt; ssl_certificate_key {sites.pems}/{name}.key; }}"
        for name in sites.names
    ]
    config.write_text(
        f"""
worker_processes {workers};
daemon off;
pid {sites.work}/nginx.pid;
error_log {sites.work}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log {sites.work}/access.log;
    server_names_hash_max_size 1048576; server_names_hash_bucket_size 128;
    ssl_protocols TLSv1.3; ssl_session_cache shared:s:10m;
    client_body_temp_path {sites.work}; proxy_temp_path {sites.work};
    fastcgi_temp_path {sites.work}; uwsgi_temp_path {sites.work}; scgi_temp_path {sites.work};
    {chr(10).join(servers)}
}}
"""
    )
    return ["nginx", "-c", str(config), "-p", str(sites.work)]


def caddy(sites: Sites, port: int, workers: int) -> list[str]:
    config = sites.work / "caddy.json"
    files = [
        {"certificate": f"{sites.pems}/{name}.crt", "key": f"{sites.pems}/{name}.key"}
        for name in sites.names
    ]
    routes = [
        {
            "match": [{"host": [name]}],
            "handle": [{"handler": "file_server", "root": str(sites.root)}],
            "terminal": True,
        }
        for name in sites.names
    ]
    server = {
        "listen": [f"127.0.0.1:{port}"],
        "routes": routes,
        "automatic_https": {"disable": True},
        "tls_connection_policies": [{}],
    }
    document = {
        "admin": {"listen": f"127.0.0.1:{port + 2}"},
        "apps": {
            "http": {"servers": {"one": server}},
            "tls": {"certificates": {"load_files": files}},
        },
    }
    config.write_text(json.dumps(document))
    return ["env", f"GOMAXPROCS={workers}", f"HOME={sites.work}", peers.caddy(), "run", "--config", str(config)]  # fmt: skip


COMMANDS: dict[str, Callable[[Sites, int, int], list[str]]] = {
    "treehouse-proxy": treehouse,
    "nginx": nginx,
    "caddy": caddy,
}


def own(sites: Sites, user: int = 65534) -> None:
    """Give the state directory to the server's user, where we are root."""
    if os.getuid() != 0:
        return
    for path in (sites.state, *sites.state.rglob("*")):
        os.chown(path, user, user, follow_symlinks=False)
