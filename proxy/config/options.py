"""What the command line said about the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from acme_client.late_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """None, or nothing, where the command line did not say."""

    config: Path | None = None
    domain: tuple[str, ...] = ()  # each may hold several, separated by commas
    root: Path | None = None
    backend: tuple[str, ...] = ()
    sites: Path | None = None
    email: str | None = None
    acme_directory: str | None = None
    acme_ca: Path | None = None
    state: Path | None = None
    user: str | None = None
    group: str | None = None
    http_port: int | None = None
    https_port: int | None = None
    bind: tuple[str, ...] = ()
    workers: str | None = None
    log_format: Literal["text", "json"] | None = None
    log_level: str | None = None
    sandbox: str | None = None
    fast_lane: bool | None = None
    uvloop: bool | None = None

    @property
    def give_a_site(self) -> bool:
        return bool(self.domain or self.root or self.backend or self.sites)
