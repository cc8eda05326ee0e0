"""A store on a disk that ends the process, fills up or fails at every step."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from acme_client.storage import directory
from acme_client.storage.atomic import Disk
from acme_client.storage.directory import DirectoryStore, open_store

FOLDER = "certificates/example.org"
OLD = {"fullchain.pem": b"old chain", "privkey.pem": b"old key"}
NEW = {"fullchain.pem": b"new chain", "privkey.pem": b"new key"}
REPOSITORY = Path(__file__).parents[3]


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


# On a disk


def test_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    DirectoryStore(tmp_path / "state").store(FOLDER, OLD)
    found = list((tmp_path / "state").rglob("*"))
    assert len(found) > len(OLD)
    for path in found:
        mode = path.lstat().st_mode & 0o777
        if not path.is_symlink():
            assert mode == (0o700 if path.is_dir() else 0o600), path


def test_people_find_them_under_their_plain_names(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.store(FOLDER, OLD)
    store.store(FOLDER, NEW)
    assert (tmp_path / FOLDER / "fullchain.pem").read_bytes() == b"new chain"
    assert (tmp_path / FOLDER / "privkey.pem").read_bytes() == b"new key"


def test_files_put_there_by_hand_count_and_become_the_previous_ones(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    for name, data in OLD.items():
        (folder / name).write_bytes(data)
    store = DirectoryStore(tmp_path)
    assert store.load(FOLDER) == OLD
    store.store(FOLDER, NEW)
    assert store.load(FOLDER) == NEW
    assert store.previous(FOLDER) == OLD


def test_links_that_lead_elsewhere_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    folder = tmp_path / "state" / FOLDER
    folder.mkdir(parents=True)
    (folder / "fullchain.pem").symlink_to(tmp_path / "secret")
    (folder / "current").symlink_to("../../..")
    assert DirectoryStore(tmp_path / "state").load(FOLDER) == {}


def test_what_interrupted_writers_left_is_swept_and_what_is_being_written_is_not(
    tmp_path: Path,
) -> None:
    store = DirectoryStore(tmp_path)
    store.store(FOLDER, OLD)
    written, old, made = (tmp_path / FOLDER / f".meta.json.{one}.new" for one in "abc")
    link = tmp_path / FOLDER / ".current.d.new"
    now = time.time()
    for path, age in ((written, 7200), (old, 1), (made, -3600)):
        path.write_bytes(b"x")
        os.utime(path, (now - age, now - age))
    link.symlink_to("versions/0001")
    os.utime(link, (now - 1, now - 1), follow_symlinks=False)
    with written.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        store.tidy()
    assert written.exists()
    assert not old.exists()
    assert not made.exists()
    assert not link.is_symlink()
    assert store.load(FOLDER) == OLD
    store.tidy()
    assert not written.exists()


def test_a_file_is_locked_while_it_is_written(tmp_path: Path) -> None:
    """So that another process, which starts at this moment, does not sweep it away."""
    swept: list[str] = []

    def before(step: str, path: Path) -> None:
        if step == "rename" and not swept:
            swept.append(step)
            for one in tmp_path.rglob(".*.new"):
                os.utime(one, (1, 1))
            DirectoryStore(tmp_path).tidy()

    DirectoryStore(tmp_path, Disk(before)).store(FOLDER, {"meta.json": b"{}"})
    assert swept
    assert DirectoryStore(tmp_path).load(FOLDER) == {"meta.json": b"{}"}


def test_a_store_is_opened_by_its_location(tmp_path: Path) -> None:
    for location in (tmp_path, str(tmp_path)):
        open_store(location).store(FOLDER, OLD)
        assert DirectoryStore(tmp_path).load(FOLDER) == OLD
    with pytest.raises(ValueError, match="no store is known for etcd"):
        open_store("etcd://127.0.0.1:2379/treehouse")


# A disk that fails, and a process that dies

Work = Callable[[DirectoryStore], None]


def first(store: DirectoryStore) -> None:
    store.store(FOLDER, NEW)


def again(store: DirectoryStore) -> None:
    store.store(FOLDER, NEW)


def alone(store: DirectoryStore) -> None:
    store.store(FOLDER, {"meta.json": b"new"})


def away(store: DirectoryStore) -> None:
    store.delete("challenges", "token")


# What is there before, what is done, and what may be found afterwards.
META = {"meta.json": b"old"}
CASES: dict[str, tuple[dict[str, dict[str, bytes]], Work, str, list[dict[str, bytes]]]] = {
    "first": ({}, first, FOLDER, [{}, NEW]),
    "again": ({FOLDER: OLD}, again, FOLDER, [OLD, NEW]),
    "alone": ({FOLDER: META}, alone, FOLDER, [META, {"meta.json": b"new"}]),
    "away": ({"challenges": {"token": b"x"}}, away, "challenges", [{"token": b"x"}, {}]),
}


def by_hand(root: Path, files: dict[str, bytes]) -> None:
    (root / FOLDER).mkdir(parents=True)
    for name, data in files.items():
        (root / FOLDER / name).write_bytes(data)


def steps(root: Path, work: Work) -> int:
    """How many steps the disk takes for it."""
    taken = 0

    def count(_step: str, _path: Path) -> None:
        nonlocal taken
        taken += 1

    work(DirectoryStore(root, Disk(count)))
    return taken


def failing(at: int, act: Callable[[], None]) -> Disk:
    taken = 0

    def before(_step: str, _path: Path) -> None:
        nonlocal taken
        taken += 1
        if taken == at:
            act()

    return Disk(before)


def full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


class Power(BaseException):
    """The end of the process, as the code under test sees it: nothing catches it."""


def cut() -> None:
    raise Power


def prepare(root: Path, files: dict[str, dict[str, bytes]]) -> None:
    for folder, held in files.items():
        DirectoryStore(root).store(folder, held)


@pytest.mark.parametrize("case", CASES)
def test_a_full_disk_at_any_step_leaves_the_old_or_the_new(case: str, tmp_path: Path) -> None:
    held, work, folder, allowed = CASES[case]
    (tmp_path / "count").mkdir()
    prepare(tmp_path / "count", held)
    total = steps(tmp_path / "count", work)
    assert total > 0
    for at in range(1, total + 1):
        root = tmp_path / str(at)
        root.mkdir()
        prepare(root, held)
        with contextlib.suppress(OSError):  # what only tidies up may fail in silence
            work(DirectoryStore(root, failing(at, full)))
        assert DirectoryStore(root).load(folder) in allowed, at
        work(DirectoryStore(root))  # and when there is room again, it works
        assert DirectoryStore(root).load(folder) == allowed[1], at
        assert list(root.rglob(".*.new")) == [], at


@pytest.mark.parametrize("case", CASES)
def test_power_cut_at_any_step_leaves_the_old_or_the_new(case: str, tmp_path: Path) -> None:
    held, work, folder, allowed = CASES[case]
    (tmp_path / "count").mkdir()
    prepare(tmp_path / "count", held)
    total = steps(tmp_path / "count", work)
    for at in range(1, total + 1):
        root = tmp_path / str(at)
        root.mkdir()
        prepare(root, held)
        with pytest.raises(Power):
            work(DirectoryStore(root, failing(at, cut)))
        assert DirectoryStore(root).load(folder) in allowed, at
        work(DirectoryStore(root))
        assert DirectoryStore(root).load(folder) == allowed[1], at


def test_taking_over_files_put_there_by_hand_is_as_safe(tmp_path: Path) -> None:
    by_hand(tmp_path / "count", OLD)
    total = steps(tmp_path / "count", again)
    for at in range(1, total + 1):
        root = tmp_path / str(at)
        by_hand(root, OLD)
        with pytest.raises(Power):
            again(DirectoryStore(root, failing(at, cut)))
        assert DirectoryStore(root).load(FOLDER) in (OLD, NEW), at
        again(DirectoryStore(root))
        assert DirectoryStore(root).load(FOLDER) == NEW, at


KILLED = """
import os, signal, sys
from pathlib import Path
from acme_client.storage.atomic import Disk
from acme_client.storage.directory import DirectoryStore

left = int(sys.argv[2])

def before(step, path):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

store = DirectoryStore(Path(sys.argv[1]), Disk(before))
store.store("certificates/example.org", {"fullchain.pem": b"new chain", "privkey.pem": b"new key"})
"""


def test_kill_9_at_each_step_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    """As above, with a real process and a real signal."""
    prepare(tmp_path / "count", {FOLDER: OLD})
    total = steps(tmp_path / "count", again)
    seen = []
    for at in range(1, total + 1):
        root = tmp_path / str(at)
        prepare(root, {FOLDER: OLD})
        ended = subprocess.run([sys.executable, "-c", KILLED, str(root), str(at)], cwd=REPOSITORY)
        assert ended.returncode == -9
        seen.append(DirectoryStore(root).load(FOLDER))
        assert seen[-1] in (OLD, NEW), at
        assert DirectoryStore(root).lock(FOLDER, 60) is not None
    assert OLD in seen
    assert NEW in seen


HOLDS = """
import sys
from pathlib import Path
from acme_client.storage.directory import DirectoryStore

lock = DirectoryStore(Path(sys.argv[1])).lock(sys.argv[2], 1800)
print("held" if lock else "not held", flush=True)
sys.stdin.read()
"""


def test_a_holder_that_was_killed_keeps_nobody_waiting(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path), FOLDER],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert store.lock(FOLDER, 60) is None
        holder.kill()
        holder.wait()
        mine = store.lock(FOLDER, 60)
        assert mine is not None
        assert store.lock(FOLDER, 60) is None


MARKS = """
import sys
from pathlib import Path
from acme_client.storage.directory import DirectoryStore

store = DirectoryStore(Path(sys.argv[1]))
print(store.session(), flush=True)
sys.stdin.read()
"""


def test_the_session_of_a_process_that_was_killed_is_over(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", MARKS, str(tmp_path)],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with holder:
        assert holder.stdout is not None
        mark = holder.stdout.readline().strip()
        assert mark.endswith("-held")
        assert not store.is_over(mark)
        holder.kill()
        holder.wait()
    assert store.is_over(mark)


def test_a_session_of_which_no_more_is_known_lasts_for_its_lease(
    tmp_path: Path, clock: Clock
) -> None:
    """Where the file system knows no locks."""
    store = DirectoryStore(tmp_path, now=clock)
    mark = f"00000000000beef-{clock.now + 60:.0f}"
    assert not store.is_over(mark)
    clock.now += 61
    assert store.is_over(mark)
    clock.now -= 365 * 86400
    assert store.is_over(mark), "made by a clock that ran ahead"


def test_a_lease_of_which_no_more_is_known_lasts(tmp_path: Path) -> None:
    """Of an earlier version, or where the file system knows no such locks."""
    now = [1000.0]
    store = DirectoryStore(tmp_path, now=lambda: now[0])
    lock = tmp_path / FOLDER / ".lock"
    lock.parent.mkdir(parents=True)
    lock.write_text('{"holder": "somebody", "until": 1060.0}')
    assert store.lock(FOLDER, 60) is None
    now[0] = 1061.0
    assert store.lock(FOLDER, 60) is not None


def test_a_folder_that_nobody_knows_is_not_made(tmp_path: Path) -> None:
    """Root, who puts the directory right, would not know it either."""
    with pytest.raises(ValueError, match="FOLDERS"):
        DirectoryStore(tmp_path).store("notes/today", {"a": b"b"})
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_made_by_appending_is_for_the_owner_alone(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.append(FOLDER, "a.log", b"x")
    assert (tmp_path / FOLDER / "a.log").stat().st_mode & 0o777 == 0o600
    (tmp_path / FOLDER / "b.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"(?i)symbolic links"):
        store.append(FOLDER, "b.log", b"x")
    with pytest.raises(ValueError, match="no folder of the store"):
        store.append("elsewhere/x", "a.log", b"x")


def test_a_look_at_thousands_that_have_not_changed_is_one_at_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DirectoryStore(tmp_path)
    for number in range(50):
        store.store(f"certificates/{number}.example", OLD)
        store.store(f"certificates/{number}.example", {"meta.json": b"{}"})
        os.utime(tmp_path / f"certificates/{number}.example", (1e9, 1e9))  # a while ago
    changed = store.watch("certificates")
    seen: list[str] = []
    look = directory._mark

    def counted(path: str) -> tuple[tuple[object, ...], ...]:
        seen.append(os.path.basename(path))
        return look(path)

    monkeypatch.setattr(directory, "_mark", counted)
    assert changed() == set()
    assert seen == []
    store.store("certificates/7.example", NEW)
    store.store("certificates/8.example", {"meta.json": b"{1}"})
    assert changed() == {"7.example", "8.example"}
    assert sorted(seen) == ["7.example", "8.example"]
    # It has just been written, and may be again in the same tick of the kernel's clock.
    assert changed() == set()
    assert sorted(seen) == ["7.example", "7.example", "8.example", "8.example"]


def test_a_real_file_in_a_links_place_is_looked_at_itself(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    for name, data in OLD.items():
        (folder / name).write_bytes(data)
    os.utime(folder, (1e9, 1e9))
    changed = DirectoryStore(tmp_path).watch("certificates")
    with (folder / "privkey.pem").open("r+b") as file:
        file.write(b"new key, and longer")
    assert changed() == {"example.org"}
