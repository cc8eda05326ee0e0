"""What only a restart changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from proxy.config.model import Config
from proxy.supervisor.reload.immutable import differences, kept

PRESENT = Config((), Path("/state"), uid=65534, gid=65534)


def test_what_cannot_be_changed_stays_and_is_told() -> None:
    wanted = replace(PRESENT, state=Path("/elsewhere"), uid=1000, workers=7)
    assert list(differences(PRESENT, wanted)) == [
        "state: /state → /elsewhere needs a restart",
        "uid: 65534 → 1000 needs a restart",
    ]
    assert kept(PRESENT, wanted) == replace(PRESENT, workers=7)


def test_nothing_is_told_of_what_stays() -> None:
    assert list(differences(PRESENT, PRESENT)) == []
