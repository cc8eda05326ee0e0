"""Signatures; the work follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .config.model import Config

Role = Literal["supervisor", "worker", "certifier"]
Mode = Literal["require", "auto", "off"]


class SandboxUnavailable(Exception):
    """``sandbox: require`` and this kernel cannot."""


@dataclass(frozen=True, slots=True)
class Policy:
    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    execute: tuple[Path, ...] = ()
    connect: tuple[int, ...] | None = ()  # None: any TCP port
    bind: tuple[int, ...] | None = ()


@dataclass(frozen=True, slots=True)
class Applied:
    abi: int
    missing: tuple[str, ...]
    skipped: tuple[str, ...]


def policies(config: Config) -> Mapping[Role, Policy]:
    raise NotImplementedError


def describe(by_role: Mapping[Role, Policy]) -> str:
    raise NotImplementedError


def apply(policy: Policy, mode: Mode) -> Applied:
    raise NotImplementedError
