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
# 713 by CPython 3.11.7, 714 by 3.11.2 when this was written. More is a start that is slower
# for everybody: import late what a configuration has to ask for (docs/decisions/late-imports.md).
MOST = 725


@pytest.fixture(scope="module")
def loaded() -> frozenset[str]:
    code = "import proxy.cli.main, proxy.boot, sys; print(*sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    return frozenset(said.stdout.split())


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_start_does_not_import_what_belongs_elsewhere(loaded, name) -> None:
    assert not [one for one in loaded if one == name or one.startswith(f"{name}.")]


def test_a_start_imports_no_more_than_it_did(loaded) -> None:
    assert len(loaded) <= MOST
