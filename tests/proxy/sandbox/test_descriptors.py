"""What is said where the machine allows fewer descriptors than the limits come to."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from proxy.config.model import Config, Limits
from proxy.sandbox.descriptors import shortage


@pytest.mark.parametrize(
    ("connections", "hard", "said"),
    [
        (10_000, 524_288, None),
        (10_000, resource.RLIM_INFINITY, None),
        (100, 1024, None),
        (10_000, 4096, "enough for some 1920 connections"),
        (10_000, 256, "enough for some 0 connections"),
    ],
)
def test_a_shortage_is_told_with_the_way_out(connections: int, hard: int, said: str | None) -> None:
    config = Config((), Path("/s"), limits=Limits(connections=connections))
    found = shortage(config, hard)
    assert (found is None) == (said is None)
    if said is not None and found is not None:
        assert said in found
        assert "LimitNOFILE=" in found
