"""Lists the programs whose files can be imported, and where each usually keeps them. A new
program is a reader and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ..late_dataclass import dataclass
from . import acme_sh, caddy, certbot, lego, traefik
from .directories import Directories
from .findings import Findings


@dataclass(frozen=True, slots=True)
class Source:
    """One program. ``read`` reads its files; ``usual`` gives the places to look at, from the
    environment; ``signatures``: entries by which its folder is recognised, none for a file."""

    read: Callable[[Path, Directories], Findings]
    usual: Callable[[Mapping[str, str]], tuple[Path, ...]]
    signatures: tuple[str, ...]


def _certbot(_environment: Mapping[str, str]) -> tuple[Path, ...]:
    return (Path("/etc/letsencrypt"),)


def _caddy(environment: Mapping[str, str]) -> tuple[Path, ...]:
    data = environment.get("XDG_DATA_HOME")
    home = environment.get("HOME", "/root")
    own = Path(data) if data else Path(home) / ".local/share"
    return own / "caddy", Path("/var/lib/caddy/.local/share/caddy")


def _traefik(_environment: Mapping[str, str]) -> tuple[Path, ...]:
    folders = (Path(), Path("/etc/traefik"), Path("/var/lib/traefik"), Path("/letsencrypt"))
    return tuple(folder / "acme.json" for folder in folders)


def _acme_sh(environment: Mapping[str, str]) -> tuple[Path, ...]:
    configured = environment.get("LE_CONFIG_HOME")
    return (Path(configured or f"{environment.get('HOME', '/root')}/.acme.sh"),)


def _lego(environment: Mapping[str, str]) -> tuple[Path, ...]:
    return Path(environment.get("LEGO_PATH") or ".lego"), Path("/var/lib/lego")


SOURCES: dict[str, Source] = {
    "certbot": Source(certbot.read, _certbot, ("live", "accounts")),
    "caddy": Source(caddy.read, _caddy, ("certificates", "acme")),
    "traefik": Source(traefik.read, _traefik, ()),
    "acme.sh": Source(acme_sh.read, _acme_sh, ("ca", "account.conf")),
    "lego": Source(lego.read, _lego, ("certificates", "accounts")),
}
