"""Positions in file systems, by tables as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config.checks.mounts import Mounts, Position

TABLE = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 8:2 / /srv rw - ext4 /dev/sdb1 rw
31 22 8:1 /var/lib/www/deep /mnt/bound rw - ext4 /dev/sda1 rw
32 22 8:1 /with\040space /mnt/a\040b rw - ext4 /dev/sda1 rw
33 30 0:40 / /srv/hidden rw - tmpfs tmpfs rw
34 30 8:1 /on\134top /srv/hidden rw - ext4 /dev/sda1 rw
nonsense
"""


def at(device: str, path: str) -> Position:
    return Position(device, path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", at("8:1", "/")),
        ("/var/lib/www", at("8:1", "/var/lib/www")),
        ("/srv/www", at("8:2", "/www")),
        ("/srvwww", at("8:1", "/srvwww")),
        ("/mnt/bound", at("8:1", "/var/lib/www/deep")),
        ("/mnt/bound/state/new", at("8:1", "/var/lib/www/deep/state/new")),
        ("/mnt/a b/x", at("8:1", "/with space/x")),
        ("/srv/hidden/x", at("8:1", "/on\\top/x")),
    ],
)
def test_where_a_path_is(path: str, expected: Position) -> None:
    assert Mounts(TABLE).position(Path(path)) == expected


def test_one_lies_in_another() -> None:
    mounts = Mounts(TABLE)
    state, root = mounts.position(Path("/mnt/bound/state")), mounts.position(Path("/var/lib/www"))
    assert state is not None
    assert root is not None
    assert state.lies_in(root)
    assert not root.lies_in(state)
    assert root.lies_in(root)
    assert not at("8:1", "/www-state").lies_in(at("8:1", "/www"))
    assert not at("8:2", "/www/x").lies_in(at("8:1", "/www"))


def test_without_a_table_nothing_is_known() -> None:
    assert Mounts("").position(Path("/srv")) is None


def test_the_kernels_own_table() -> None:
    mounts = Mounts()
    here, above = mounts.position(Path(__file__)), mounts.position(Path(__file__).parent)
    assert here is not None
    assert above is not None
    assert here.lies_in(above)
