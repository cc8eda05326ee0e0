"""The state directory as root finds it: made, put right, or refused with what to do."""

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from acme_client.storage.store import FOLDERS
from proxy.system.state_directory import StateUnusable, prepare

NOBODY = 65534
SOMEBODY = 12345

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root's work; owners are changed")


@pytest.fixture
def ground() -> Iterator[Path]:
    """A folder of root's that everybody may enter, as /var/lib is."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def owner_and_mode(path: Path) -> tuple[int, int, int]:
    info = path.lstat()
    return info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)


def made(path: Path, owner: int = NOBODY, mode: int = 0o700) -> Path:
    path.mkdir(parents=True)
    os.chown(path, owner, owner)
    path.chmod(mode)
    return path


def written(path: Path, owner: int = NOBODY, mode: int = 0o600) -> Path:
    path.write_bytes(b"a key")
    os.chown(path, owner, owner)
    path.chmod(mode)
    return path


def test_what_is_missing_is_made_for_the_user_alone(ground: Path) -> None:
    state = ground / "lib" / "state"
    (said,) = prepare(state, NOBODY, NOBODY)
    assert str(state) in said
    assert owner_and_mode(state) == (NOBODY, NOBODY, 0o700)
    assert owner_and_mode(ground / "lib") == (0, 0, 0o755)


def test_what_is_right_is_left_in_silence(ground: Path) -> None:
    state = made(ground / "state")
    for folder in FOLDERS:
        written(made(state / folder) / "file")
    assert prepare(state, NOBODY, NOBODY) == []


def test_owners_and_modes_are_put_right(ground: Path) -> None:
    state = made(ground / "state", owner=0, mode=0o755)
    folder = made(state / "accounts" / "ca.test", owner=0, mode=0o755)
    key = written(folder / "key.pem", owner=0, mode=0o644)
    said = prepare(state, NOBODY, NOBODY)
    assert owner_and_mode(state) == (NOBODY, NOBODY, 0o700)
    assert owner_and_mode(folder) == (NOBODY, NOBODY, 0o700)
    assert owner_and_mode(key) == (NOBODY, NOBODY, 0o600)
    assert "corrected" in said[0]
    assert "renew it" in said[1], "it could be read by others until now"


def test_links_of_the_stores_own_kind_are_taken_along(ground: Path) -> None:
    state = made(ground / "state", owner=0)
    folder = made(state / "certificates" / "a.test", owner=0)
    written(made(folder / "versions" / "1", owner=0) / "privkey.pem", owner=0)
    (folder / "current").symlink_to("versions/1")
    prepare(state, NOBODY, NOBODY)
    assert owner_and_mode(folder / "current")[:2] == (NOBODY, NOBODY)
    assert os.readlink(folder / "current") == "versions/1"


def link_out(state: Path, ground: Path) -> None:
    (state / "accounts").symlink_to(ground / "precious")


def link_up(state: Path, _ground: Path) -> None:
    (state / "accounts").symlink_to("../precious")


def second_name(state: Path, ground: Path) -> None:
    made(state / "accounts")
    os.link(ground / "precious" / "shadow", state / "accounts" / "key.pem")


def pipe(state: Path, _ground: Path) -> None:
    made(state / "accounts")
    os.mkfifo(state / "accounts" / "key.pem")


def stranger(state: Path, _ground: Path) -> None:
    written(state / "passwd")


def too_deep(state: Path, _ground: Path) -> None:
    made(state / "accounts" / "/".join("123456789"))


@pytest.mark.parametrize(
    ("lay", "said"),
    [
        (link_out, "neither a file nor a directory"),
        (link_up, "neither a file nor a directory"),
        (second_name, "hard link"),
        (pipe, "neither a file nor a directory"),
        (stranger, "'passwd', which the server did not put there"),
        (too_deep, "deeper than anything"),
    ],
)
def test_what_may_be_somebody_elses_is_refused_and_not_given_away(
    ground: Path, lay: Callable[[Path, Path], None], said: str
) -> None:
    """Somebody who can write there has root meet something; it stays whose it was."""
    precious = made(ground / "precious", owner=0)
    shadow = written(precious / "shadow", owner=0)
    state = made(ground / "state", owner=SOMEBODY)
    lay(state, ground)
    with pytest.raises(StateUnusable, match=said):
        prepare(state, NOBODY, NOBODY)
    assert owner_and_mode(precious) == (0, 0, 0o700)
    assert owner_and_mode(shadow) == (0, 0, 0o600)


def test_what_somebody_has_put_into_the_servers_own_is_left_as_it_is(ground: Path) -> None:
    """A copy that an administrator has made there keeps no server from starting."""
    state = made(ground / "state")
    copy = written(made(state / "before-the-move", owner=0, mode=0o755) / "key.pem", owner=0)
    key = written(made(state / "accounts") / "key.pem", owner=0, mode=0o644)
    (said,) = prepare(state, NOBODY, NOBODY)
    assert str(key) in said
    assert owner_and_mode(key) == (NOBODY, NOBODY, 0o600)
    assert owner_and_mode(copy) == (0, 0, 0o600)
    assert owner_and_mode(copy.parent) == (0, 0, 0o755)
    assert prepare(state, NOBODY, NOBODY) == []


def test_a_directory_that_everybody_writes_to_is_not_taken_over(ground: Path) -> None:
    state = made(ground / "state", owner=0, mode=0o1777)
    with pytest.raises(StateUnusable, match="everybody may write"):
        prepare(state, NOBODY, NOBODY)
    assert owner_and_mode(state) == (0, 0, 0o1777)


def test_a_link_on_the_way_is_followed_only_if_it_is_roots(ground: Path) -> None:
    made(ground / "disk", owner=0, mode=0o755)
    (ground / "lib").symlink_to("disk")
    prepare(ground / "lib" / "state", NOBODY, NOBODY)
    assert owner_and_mode(ground / "disk" / "state") == (NOBODY, NOBODY, 0o700)
    os.lchown(ground / "lib", SOMEBODY, SOMEBODY)
    with pytest.raises(StateUnusable, match="symbolic link"):
        prepare(ground / "lib" / "state", NOBODY, NOBODY)


def test_a_way_that_the_user_cannot_go_is_told_with_the_command(ground: Path) -> None:
    made(ground / "private", owner=0, mode=0o700)
    with pytest.raises(StateUnusable, match=r"chmod o\+x"):
        prepare(ground / "private" / "state", NOBODY, NOBODY)


def test_a_file_in_its_place_is_told(ground: Path) -> None:
    written(ground / "state")
    with pytest.raises(StateUnusable, match="not a directory"):
        prepare(ground / "state", NOBODY, NOBODY)
