"""Other ACME clients at work, so that there is something to move in from.

certbot, lego and Caddy are run for real against pebble. Traefik (a program of 180 MB) and acme.sh
(no package has it) are not: theirs are laid out from what Caddy has obtained, in the form that
tests/acme_client/importers/ has from a real Traefik, and from acme.sh's own source. Each function
leaves files of the other program in ``folder`` and returns the path that ``certs import`` is given.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import serialization

from ..program.peers import Peer
from ..program.ports import free_ports
from .pebble import Pebble

EMAIL = "ops@example.org"
_WITHIN = 60.0

Mover = Callable[[Pebble, int, Path, tuple[str, ...]], Path]


def _run(*command: str | Path, **environment: str) -> None:
    done = subprocess.run(
        [*map(str, command)], env=os.environ | environment, capture_output=True, text=True,
        timeout=_WITHIN, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def certbot(ca: Pebble, http_port: int, folder: Path, names: tuple[str, ...]) -> Path:
    path = folder / "letsencrypt"
    _run(
        "certbot", "certonly", "--standalone", "--http-01-port", str(http_port),
        "--http-01-address", "127.0.0.1", "--server", ca.directory, "-n", "--agree-tos",
        "-m", EMAIL, "-d", ",".join(names), "--config-dir", path, "--work-dir", folder / "work",
        "--logs-dir", folder / "logs", REQUESTS_CA_BUNDLE=str(ca.ca_file),
    )  # fmt: skip
    return path


def lego(ca: Pebble, http_port: int, folder: Path, names: tuple[str, ...]) -> Path:
    path = folder / "lego"
    domains = [word for name in names for word in ("--domains", name)]
    _run(
        "lego", "--server", ca.directory, "--accept-tos", "--email", EMAIL, *domains, "--http",
        "--http.port", f"127.0.0.1:{http_port}", "--path", path, "run",
        LEGO_CA_CERTIFICATES=str(ca.ca_file),
    )  # fmt: skip
    return path


def caddy(ca: Pebble, http_port: int, folder: Path, names: tuple[str, ...]) -> Path:
    """One certificate for each name, as Caddy does it."""
    path, (https_port,) = folder / "caddy", free_ports(1)
    caddyfile = folder / "Caddyfile"
    caddyfile.write_text(
        f"""{{
            admin off
            persist_config off
            storage file_system {path}
            http_port {http_port}
            https_port {https_port}
            default_bind 127.0.0.1
            acme_ca {ca.directory}
            acme_ca_root {ca.ca_file}
            email {EMAIL}
        }}
        {", ".join(names)} {{
            respond hello
        }}
        """
    )
    running = Peer(
        [Path(sys.executable).parent / "caddy", "run", "--config", caddyfile],
        folder / "caddy.log",
        lambda _: len([*path.glob("certificates/*/*/*.json")]) >= len(names),
        os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder)},
        within=_WITHIN,
    )
    running.stop()
    return path


def traefik(ca: Pebble, http_port: int, folder: Path, names: tuple[str, ...]) -> Path:
    source = caddy(ca, http_port, folder, names)
    (account_file,) = source.glob("acme/*/users/*/*.json")
    account = json.loads(account_file.read_text())
    key = serialization.load_pem_private_key(account_file.with_suffix(".key").read_bytes(), None)
    der = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    stored = {
        "Account": {
            "Email": EMAIL,
            "Registration": {
                "body": {"status": "valid", "contact": account["contact"]},
                "uri": account["location"],
            },
            "PrivateKey": base64.b64encode(der).decode(),
            "KeyType": "EC256",
        },
        "Certificates": [
            {
                "domain": {"main": certificate.stem},
                "certificate": base64.b64encode(certificate.read_bytes()).decode(),
                "key": base64.b64encode(certificate.with_suffix(".key").read_bytes()).decode(),
                "Store": "default",
            }
            for certificate in source.glob("certificates/*/*/*.crt")
        ],
    }
    path = folder / "acme.json"
    path.write_text(json.dumps({"myresolver": stored}, indent=2))
    path.chmod(0o600)
    return path


def acme_sh(ca: Pebble, http_port: int, folder: Path, names: tuple[str, ...]) -> Path:
    source, path = caddy(ca, http_port, folder, names), folder / ".acme.sh"
    for certificate in source.glob("certificates/*/*/*.crt"):
        name = certificate.stem
        below = path / f"{name}_ecc"
        below.mkdir(parents=True)
        leaf, mark, issuers = certificate.read_text().partition("-----END CERTIFICATE-----\n")
        (below / f"{name}.cer").write_text(leaf + mark)
        (below / "ca.cer").write_text(issuers)
        (below / "fullchain.cer").write_text(leaf + mark + "\n" + issuers)
        (below / f"{name}.key").write_bytes(certificate.with_suffix(".key").read_bytes())
        (below / f"{name}.conf").write_text(
            f"Le_Domain='{name}'\nLe_Alt='no'\nLe_Webroot='no'\nLe_API='{ca.directory}'\n"
            "Le_Keylength='ec-256'\n"
        )
    (account_file,) = source.glob("acme/*/users/*/*.json")
    account = json.loads(account_file.read_text())
    parts = urlsplit(ca.directory)
    below = path / "ca" / str(parts.hostname) / parts.path.strip("/")
    below.mkdir(parents=True)
    (below / "account.key").write_bytes(account_file.with_suffix(".key").read_bytes())
    (below / "account.json").write_text(
        json.dumps({"status": "valid", "contact": account["contact"]})
    )
    (below / "ca.conf").write_text(f"ACCOUNT_URL='{account['location']}'\nCA_EMAIL='{EMAIL}'\n")
    return path


MOVERS: dict[str, Mover] = {
    "certbot": certbot,
    "caddy": caddy,
    "traefik": traefik,
    "acme.sh": acme_sh,
    "lego": lego,
}
