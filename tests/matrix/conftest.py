"""What these tests run on is made by `make test-matrix`; where that has not been done, they have
nothing to run on."""

from __future__ import annotations

import pytest

from support.program.chroot import Chroot


def pytest_itemcollected(item: pytest.Item) -> None:
    if "trixie" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.program)


@pytest.fixture(scope="session")
def trixie() -> Chroot:
    """Debian 13, with the program in /opt/treehouse-proxy."""
    chroot = Chroot("trixie")
    if not chroot.has_program():
        pytest.skip("there is no Debian 13 here: make test-matrix")
    return chroot
