"""What these tests run on is made by `make test-matrix`; where that has not been done, they have
nothing to run on."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.program.chroot import Chroot


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and "trixie" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.program)


@pytest.fixture(scope="session")
def trixie() -> Chroot:
    """Debian 13, with the program in /opt/treehouse-proxy."""
    chroot = Chroot("trixie")
    if not chroot.has_program():
        pytest.skip("there is no Debian 13 here: make test-matrix")
    return chroot
