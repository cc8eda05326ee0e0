"""What a start imports: time to the first answer, and memory of every process."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Each belongs to a feature, a command or another process, which imports it where it is asked for.
ELSEWHERE = (
    "acme", "josepy", "requests", "OpenSSL", "dns", "lexicon", "h2", "hpack", "opentelemetry",
    "crossplane", "prometheus_client", "pydantic", "argon2", "proxy.config_import", "proxy.doctor",
    "proxy.exporter", "proxy.cli.drill", "proxy.worker.admin.service", "acme_client.agent.agent",
    "acme_client.importers", "html.entities", "smtplib", "http.client", "urllib.request", "unittest", "pydoc",
)  # fmt: skip
# What only the process needs that reads the configuration, which ends (docs/decisions/weight.md).
READING = (
    "click", "yaml", "cryptography", "idna", "difflib", "zipfile", "tempfile", "importlib.metadata",
    "proxy.cli", "proxy.config.load", "proxy.config.checks.consistency", "proxy.config.resolve",
    "proxy.config.schema.parse", "proxy.config.syntax.yaml_reader", "proxy.system.certificate_reading",
    "acme_client.x509.verify",
)  # fmt: skip
# What only the processes need that serve.
SERVING = (
    "asyncio",
    "uvloop",
    "h11",
    "proxy.serve",
    "proxy.supervisor.wiring",
    "proxy.worker.worker",
)
# Modules by CPython 3.11.2 when this was written: 559 and 381. More is a start that is slower for
# everybody: import late what a configuration has to ask for (docs/decisions/late-imports.md).
MOST_SERVING, MOST_READING = 570, 395


def imported(*modules: str) -> frozenset[str]:
    code = f"import {', '.join(modules)}, sys; print(*sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    return frozenset(said.stdout.split())


@pytest.fixture(scope="module")
def server() -> frozenset[str]:
    return imported("proxy.boot", "proxy.serve")


@pytest.fixture(scope="module")
def reader() -> frozenset[str]:
    return imported(
        "proxy.cli.main", "proxy.config.load", "proxy.system.certificate_reading", "proxy.boot"
    )


def among(loaded: frozenset[str], name: str) -> list[str]:
    return [one for one in loaded if one == name or one.startswith(f"{name}.")]


@pytest.mark.parametrize("name", [*ELSEWHERE, *READING])
def test_the_server_does_not_import_what_belongs_elsewhere(
    server: frozenset[str], name: str
) -> None:
    assert not among(server, name)


@pytest.mark.parametrize("name", [*ELSEWHERE, *SERVING])
def test_what_reads_does_not_import_what_belongs_elsewhere(
    reader: frozenset[str], name: str
) -> None:
    assert not among(reader, name)


def test_a_start_imports_no_more_than_it_did(
    server: frozenset[str], reader: frozenset[str]
) -> None:
    assert len(server) <= MOST_SERVING
    assert len(reader) <= MOST_READING
