"""What is durable when, alone and together; and a real disk whose power is cut at every step."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from acme_client.storage import shared_sync
from acme_client.storage.atomic import Disk
from acme_client.storage.directory import DirectoryStore
from acme_client.storage.shared_sync import Durable, SharedSync

FOLDER = "certificates/example.org"
OLD = {"fullchain.pem": b"old chain", "privkey.pem": b"old key"}
NEW = {"fullchain.pem": b"new chain", "privkey.pem": b"new key"}
# What people and programs get who know nothing of versions.
NAMES = (*NEW, "meta.json")


class Steps:
    """The steps of a disk, in their order; ``fails`` says which one fails, and how."""

    def __init__(self, fails: Callable[[str], int] = lambda _step: 0) -> None:
        self.taken: list[tuple[str, str]] = []
        self._fails = fails

    def __call__(self, step: str, path: str) -> None:
        self.taken.append((step, path))
        number = self._fails(step)
        if number:
            raise OSError(number, os.strerror(number), path)

    def count(self, step: str) -> int:
        return sum(one == step for one, _path in self.taken)


def files(folder: Path, count: int) -> list[Durable]:
    made = []
    for number in range(count):
        path = folder / f"{number}"
        path.write_bytes(b"x")
        made.append(Durable(f"{path}"))
    return made


def test_a_few_are_synced_one_by_one(tmp_path: Path) -> None:
    steps = Steps()
    sync = SharedSync(steps)
    several = files(tmp_path, 4)
    sync.settle(several)
    assert steps.taken == [("fsync", one.path) for one in several]


def test_nothing_is_opened_above_what_is_to_be_durable(tmp_path: Path) -> None:
    """The certifier may enter its state, and not what that lies in."""
    sync = SharedSync(Steps(), together_from=1)
    sync.settle([Durable(str(tmp_path))])
    opened = [os.readlink(f"/proc/self/fd/{fd}") for fd in sync._file_systems.values()]
    assert opened == [str(tmp_path)]


def test_many_are_synced_by_one_syncfs_once_it_hears_of_failures(tmp_path: Path) -> None:
    steps = Steps()
    sync = SharedSync(steps)
    several = files(tmp_path, 40)
    sync.settle(several)
    assert steps.count("fsync") == 40
    sync._fsync_takes, sync._syncfs_takes = 0.001, 0.005
    sync.settle(several)
    assert (steps.count("fsync"), steps.count("syncfs")) == (40, 1)
    sync.close()


def test_a_syncfs_that_takes_longer_than_the_fsyncs_is_left_out_for_a_while(tmp_path: Path) -> None:
    """Another program writes gigabytes to the same file system."""
    steps = Steps()
    sync = SharedSync(steps)
    several = files(tmp_path, 10)
    sync.settle(several)
    sync._fsync_takes, sync._syncfs_takes = 1e-9, 10.0
    sync.settle(several)
    assert steps.count("syncfs") == 0
    sync._syncfs_takes = 0.02
    for _ in range(100):
        sync._fsync_takes = 0.001
        sync.settle(several)
        if steps.count("syncfs"):
            break
    assert steps.count("syncfs") == 1, "and is tried again"
    sync.close()


def test_a_disk_that_cannot_write_tells_everybody_whose_files_were_to_be_durable(
    tmp_path: Path,
) -> None:
    """And nothing is asked of it once more: the kernel takes for written what it could not write."""
    steps = Steps(lambda step: errno.EIO if step == "syncfs" else 0)
    sync = SharedSync(steps, together_from=1)
    several = files(tmp_path, 3)
    sync.settle(several)
    before = steps.count("fsync")
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        sync.settle(several)
    assert steps.count("fsync") == before
    sync.close()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_where_syncfs_is_forbidden_files_are_synced_one_by_one(number: int, tmp_path: Path) -> None:
    steps = Steps(lambda step: number if step == "syncfs" else 0)
    sync = SharedSync(steps, together_from=1)
    several = files(tmp_path, 3)
    for _ in range(3):
        sync.settle(several)
    assert (steps.count("fsync"), steps.count("syncfs")) == (9, 1)
    sync.close()


def test_a_kernel_whose_syncfs_tells_no_failures_is_asked_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Release:
        release = "5.7.19-generic"

    monkeypatch.setattr(os, "uname", Release)
    assert shared_sync._found_syncfs() is None
    Release.release = "5.8.0"
    assert shared_sync._found_syncfs() is not None


def test_the_failure_of_one_file_is_its_writers_alone(tmp_path: Path) -> None:
    """Two wait together; one of them has a file that cannot be synced."""
    barrier = threading.Event()

    def before(step: str, path: str) -> None:
        if path.endswith("first"):
            assert barrier.wait(60)
        if path.endswith("bad"):
            raise OSError(errno.EIO, "bad")

    sync = SharedSync(before)
    errors: dict[str, OSError | None] = {}

    def settle(name: str) -> None:
        (tmp_path / name).write_bytes(b"x")
        try:
            sync.settle([Durable(f"{tmp_path / name}")])
            errors[name] = None
        except OSError as error:
            errors[name] = error

    threads = []
    for number, name in enumerate(("first", "bad", "good")):
        threads.append(threading.Thread(target=settle, args=(name,)))
        threads[-1].start()
        while number and len(sync._gathering._waiting) < number:
            threading.Event().wait(0.005)
        while not number and sync._gathering._room:
            threading.Event().wait(0.005)
    barrier.set()
    for thread in threads:
        thread.join(60)
    assert errors["first"] is None
    assert errors["good"] is None
    assert isinstance(errors["bad"], OSError)


def test_nothing_leads_to_a_version_before_all_of_it_is_durable(tmp_path: Path) -> None:
    """File by file: whatever order a file system writes in."""
    for held in (None, OLD):
        root = tmp_path / str(held is None)
        if held:
            DirectoryStore(root).store(FOLDER, held)
        synced: set[str] = set()
        new: list[Path] = []

        def before(step: str, path: Path, synced: set[str] = synced, new: list[Path] = new) -> None:
            if step == "fsync":
                synced.add(f"{path}")
            elif step in ("mkdir", "write"):
                new.append(path)
            elif step == "rename" and path.name == "current":
                for one in new:
                    assert f"{one.parent}" in synced, one
                    assert one.is_dir() or f"{one}" in synced, one

        DirectoryStore(root, Disk(before)).store(FOLDER, NEW)
        assert len(new) >= 3
        assert f"{root / FOLDER}" in synced


# A real disk: a file with a file system, which is copied at every step. What is only in the
# kernel's memory is not in the copy, as after a power cut.


class RealDisk:
    def __init__(self, folder: Path) -> None:
        self._image = folder / "disk.img"
        self._folder = folder
        self.root = folder / "mounted"
        self.root.mkdir()
        with self._image.open("wb") as file:
            file.truncate(12 << 20)
        _run("mke2fs", "-q", "-t", "ext4", "-F", str(self._image))
        _run("mount", "-o", "loop", str(self._image), str(self.root))
        self._count = itertools.count()
        self._lock = threading.Lock()

    def power_cut(self) -> Path:
        with self._lock:
            copy = self._folder / f"copy{next(self._count)}.img"
            _run("cp", "--sparse=always", str(self._image), str(copy))
            return copy

    def afterwards(self, copy: Path, look: Callable[[Path], object]) -> None:
        root = self._folder / "afterwards"
        root.mkdir(exist_ok=True)
        _run("mount", "-o", "loop", str(copy), str(root))
        try:
            look(root)
        finally:
            _run("umount", str(root))
            copy.unlink()

    def close(self) -> None:
        _run("umount", str(self.root))


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@pytest.fixture
def real_disk(tmp_path: Path) -> Iterator[RealDisk]:
    if os.getuid() or shutil.which("mke2fs") is None or not os.path.exists("/dev/loop-control"):
        pytest.skip("needs root, mke2fs and loop devices")
    try:
        disk = RealDisk(tmp_path)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no loop device can be mounted here: {error.stderr!r}")
    yield disk
    disk.close()


def links(root: Path) -> dict[str, bytes]:
    """What is there under the plain names."""
    folder = root / FOLDER
    return {name: (folder / name).read_bytes() for name in NAMES if (folder / name).exists()}


@pytest.mark.parametrize("together_from", [1, 1000])
def test_power_cut_on_a_real_disk_leaves_the_old_or_the_new(
    real_disk: RealDisk, together_from: int
) -> None:
    copies: list[Path] = []
    disk = Disk(lambda _step, _path: copies.append(real_disk.power_cut()), together_from=together_from)  # fmt: skip
    store = DirectoryStore(real_disk.root, disk)
    store.store("accounts/warm", OLD)  # from here on syncfs is used, where it is
    copies.clear()
    store.store(FOLDER, OLD)
    stored_first = len(copies)
    copies.append(real_disk.power_cut())
    store.store(FOLDER, NEW)
    stored = len(copies)
    copies.append(real_disk.power_cut())
    store.store(FOLDER, {"meta.json": b"{}"})
    copies.append(real_disk.power_cut())
    store.close()
    for number, copy in enumerate(copies):

        def look(root: Path, number: int = number) -> None:
            found = DirectoryStore(root).load(FOLDER)
            meta = found.pop("meta.json", b"{}")
            assert meta == b"{}"
            allowed = [{}, OLD] if number < stored_first else [OLD, NEW]
            if number == stored_first:
                allowed = [OLD]
            if number >= stored:
                allowed = [NEW]
            assert found in allowed, number
            if number in (stored_first, stored, len(copies) - 1):
                assert links(root) == found | ({"meta.json": b"{}"} if number > stored else {})

        real_disk.afterwards(copy, look)


def test_power_cut_on_a_real_disk_while_many_store(real_disk: RealDisk) -> None:
    """What a thread was told is durable is there afterwards; of the others', all or nothing."""
    steps = Steps()
    disk = Disk(lambda step, path: steps(step, f"{path}"), together_from=1)
    store = DirectoryStore(real_disk.root, disk)
    store.store("certificates/warm", OLD)  # from here on syncfs is used
    cuts: list[tuple[Path, set[int]]] = []
    durable: set[int] = set()

    def many(first: int) -> None:
        for number in range(first, first + 4):
            store.store(f"certificates/{number}", NEW)
            durable.add(number)
            if number % 4 == 2:
                known = set(durable)
                cuts.append((real_disk.power_cut(), known))

    threads = [threading.Thread(target=many, args=(first,)) for first in range(0, 48, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert steps.count("syncfs") > 0
    store.close()
    assert len(cuts) == 12
    for copy, known in cuts:

        def look(root: Path, known: set[int] = known) -> None:
            for number in range(48):
                found = DirectoryStore(root).load(f"certificates/{number}")
                assert found == NEW or (found == {} and number not in known), number

        real_disk.afterwards(copy, look)
