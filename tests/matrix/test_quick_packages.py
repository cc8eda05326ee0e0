"""The quick environment has what the program needs, and of the rest what a run of tests needs."""

from __future__ import annotations

import re

from support.program import pythons
from support.program.server import REPOSITORY

REQUIREMENTS = REPOSITORY / "requirements"


def names(lock: str) -> set[str]:
    return set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))


def test_packages_come_with_what_they_need_and_nothing_else() -> None:
    everything = (REQUIREMENTS / "dev.txt").read_text()
    program = pythons.locked(everything, ["-r requirements/run.in"])
    assert names(program) == names((REQUIREMENTS / "run.txt").read_text())
    assert names(pythons.locked(everything, ["pytest-xdist"])) == {
        "execnet", "iniconfig", "packaging", "pluggy", "pygments", "pytest", "pytest-xdist",
    }  # fmt: skip
