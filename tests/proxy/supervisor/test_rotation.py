"""The access log is put aside as it grows: numbers move on, the oldest goes, and compressing goes on
in steps between which everything else has its turn."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from proxy.config.model import Config, Log
from proxy.config.schema.document import Rotate
from proxy.supervisor import rotation
from proxy.supervisor.rotation import Rotation, rotate
from proxy.supervisor.timers import Timers


def test_numbers_move_on_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    for text in ("one", "two", "three", "four"):
        path.write_text(text)
        rotate(str(path), 3)
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "access.log.1", "access.log.2", "access.log.3",
    ]  # fmt: skip
    assert (tmp_path / "access.log.1").read_text() == "four"
    assert (tmp_path / "access.log.3").read_text() == "two"
    (tmp_path / "access.log.1").rename(tmp_path / "access.log.1.gz")
    path.write_text("five")
    rotate(str(path), 3)
    assert (tmp_path / "access.log.2.gz").read_text() == "four"


class World:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = folder / "access.log"
        self.timers = Timers()
        self.now = 1000.0
        self.reopened = 0
        monkeypatch.setattr(rotation.time, "monotonic", lambda: self.now)
        log = Log(access=str(self.path), rotate=Rotate(size=1 << 20, keep=3))
        config = Config((), folder, log=log)

        def reopen(_: Config) -> None:
            self.reopened += 1
            self.path.touch()

        Rotation(self.timers, lambda: config, reopen).start()

    def passes(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.02
            self.timers.run(self.now)


def test_a_file_that_has_grown_is_put_aside_and_compressed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch)
    line = b'{"a line": "of the log"}\n'
    world.path.write_bytes(line * 50_000)
    world.passes(4)
    assert world.reopened == 0
    world.passes(2)
    assert world.reopened == 1
    aside = tmp_path / "access.log.1"
    assert aside.stat().st_size == len(line) * 50_000
    with aside.open("ab") as late:
        late.write(b"by a worker that had not heard of it yet\n")
    world.passes(30)
    assert not aside.exists()
    whole = gzip.decompress((tmp_path / "access.log.1.gz").read_bytes())
    assert whole.endswith(b"not heard of it yet\n")
    assert len(whole) > len(line) * 50_000
    assert sorted(one.name for one in tmp_path.iterdir()) == ["access.log", "access.log.1.gz"]


def test_a_folder_that_may_not_be_written_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path, monkeypatch)
    world.path.write_bytes(b"x" * (2 << 20))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(rotation, "rotate", refuse)
    world.passes(30)
    assert [one.getMessage() for one in caplog.records] == [
        f"the access log {world.path} cannot be rotated: Permission denied"
    ]
    assert world.reopened == 0
