from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config.checks import consistency
from proxy.config.schema.parse import Parsed, validate
from proxy.config.syntax.faults import ConfigurationFaults, Fault
from proxy.config.syntax.yaml_reader import parse


def _read(text: str) -> tuple[Parsed, list[Fault]]:
    document = parse(text, "c.yaml")
    parsed, faults = validate(document.value, document.origins, base=Path("/etc/th"))
    return parsed, [*document.faults, *faults, *consistency.check(parsed)]


@pytest.fixture
def sections():
    """From text to sections, without a look at the disk; any fault fails the test."""

    def read(text: str) -> Parsed:
        parsed, faults = _read(text)
        assert not faults, "\n".join(map(str, faults))
        return parsed

    return read


@pytest.fixture
def told():
    """The faults of a text, as people see them, without a look at the disk."""

    def read(text: str) -> list[str]:
        _parsed, faults = _read(text)
        return [str(fault) for fault in ConfigurationFaults(faults).faults]

    return read
