"""Where access lines go, when the place changes, is rotated, or cannot be had."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.config.model import Config, Log
from proxy.supervisor.log_file import AccessLogFile, open_access_log

FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND


def at(place: object) -> Config:
    return Config((), Path("/state"), log=Log(access=str(place)))


def opened(config: Config) -> int | None:
    match config.log.access:
        case "off":
            return None
        case "stderr":
            return 2
        case path:
            return os.open(path, FLAGS)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def begun(place: object) -> AccessLogFile:
    config = at(place)
    return AccessLogFile(config, opened(config), opened)


def test_a_reload_takes_it_elsewhere_and_lets_go_of_the_first(tmp_path: Path) -> None:
    log = begun(tmp_path / "one")
    first = log.fd
    assert first is not None
    log.follow(at(tmp_path / "one"))
    assert log.fd == first, "nothing has changed"
    kept = os.dup(first)  # so that the number is not given out again
    os.write(kept, b"x")
    log.follow(at(tmp_path / "two"))
    assert log.fd is not None
    os.write(log.fd, b"yy")
    os.close(kept)
    assert [(tmp_path / name).stat().st_size for name in ("one", "two")] == [1, 2]
    second = log.fd
    log.follow(at("off"))
    assert log.fd is None
    assert not is_open(second)
    log.follow(at(tmp_path / "one"))
    assert log.is_file
    log.close()


def test_a_place_that_cannot_be_opened_leaves_lines_where_they_went(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = begun(tmp_path / "one")
    fd = log.fd
    log.follow(at(tmp_path / "missing" / "log"))
    assert log.fd == fd
    assert is_open(fd or -1)
    assert "missing/log cannot be opened: No such file or directory; lines go where they" in (
        caplog.text
    )
    log.close()


def test_standard_error_is_never_closed(tmp_path: Path) -> None:
    """The next socket would have its number, and be sent what the log says."""
    log = begun("stderr")
    assert not log.is_file
    log.close()
    log.follow(at(tmp_path / "one"))
    assert is_open(2)
    log.close()


def test_rotation_opens_what_has_the_name_now(tmp_path: Path) -> None:
    log = begun(tmp_path / "log")
    (tmp_path / "log").rename(tmp_path / "log.1")
    assert log.reopen(replace(at(tmp_path / "log")))
    assert log.fd is not None
    assert os.fstat(log.fd).st_ino == (tmp_path / "log").stat().st_ino
    log.close()


@pytest.mark.parametrize("read_by_somebody", [False, True])
def test_a_pipe_is_refused_and_nobody_waits_for_its_reader(
    tmp_path: Path, read_by_somebody: bool
) -> None:
    os.mkfifo(tmp_path / "log")
    reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK) if read_by_somebody else None
    with pytest.raises(OSError, match=r"pipe|No such device"):
        open_access_log(at(tmp_path / "log"))
    if reader is not None:
        os.close(reader)


def test_a_file_is_made_for_the_server_and_its_group_and_written_to_at_its_end(
    tmp_path: Path,
) -> None:
    fd = open_access_log(replace(at(tmp_path / "log"), uid=os.getuid(), gid=os.getgid()))
    assert fd is not None
    assert os.fstat(fd).st_mode & 0o777 == 0o640
    assert os.get_blocking(fd)
    (tmp_path / "log").write_text("before\n")
    os.write(fd, b"after\n")
    assert (tmp_path / "log").read_text() == "before\nafter\n"
    os.close(fd)
