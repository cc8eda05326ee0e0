"""One server for each state directory: who has it, who is refused, and when it is free again."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.system.state_directory import StateUnusable
from proxy.system.state_lock import FILE, StateLock


def refusal(state: Path) -> str:
    with pytest.raises(StateUnusable) as raised:
        StateLock.taken(state, patience=0.0)
    return str(raised.value)


def test_the_second_is_refused_with_the_firsts_pid_and_what_to_do(tmp_path: Path) -> None:
    lock = StateLock.taken(tmp_path)
    assert "a server uses it already (stop" in refusal(tmp_path)
    lock.sign()
    text = refusal(tmp_path)
    assert f"a server uses it already, process {os.getpid()} (" in text
    assert f"treehouse-proxy stop --state {tmp_path}" in text
    lock.let_go()
    StateLock.taken(tmp_path, patience=0.0).let_go()


def test_a_successor_keeps_it_when_its_predecessor_lets_go(tmp_path: Path) -> None:
    lock = StateLock.taken(tmp_path)
    lock.sign()
    assert lock.fd is not None
    handed_over = StateLock(os.dup(lock.fd))
    lock.let_go()
    assert lock.fd is None
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    refusal(tmp_path)
    handed_over.let_go()
    StateLock.taken(tmp_path, patience=0.0).let_go()


def test_a_child_does_not_hold_it_for_a_server_that_has_ended(tmp_path: Path) -> None:
    lock = StateLock.taken(tmp_path)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        lock.close_in_child()
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    lock.let_go()
    StateLock.taken(tmp_path, patience=1.0).let_go()
    os.close(writer)
    os.waitpid(pid, 0)


def test_a_crash_leaves_nothing_to_clean_up(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from proxy.system.state_lock import StateLock\n"
        "StateLock.taken(Path(sys.argv[1])).sign()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert ended.returncode == -9
    StateLock.taken(tmp_path, patience=0.0).let_go()


def test_a_shorter_pid_leaves_nothing_of_a_longer_one(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("123456789012\n")
    lock = StateLock.taken(tmp_path)
    lock.sign()
    assert (tmp_path / FILE).read_text() == f"{os.getpid()}\n"
    lock.let_go()


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_is_no_file_is_refused_and_never_hangs(tmp_path: Path, kind: str) -> None:
    path = tmp_path / FILE
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    if kind == "pipe":  # it can be opened and locked all the same
        StateLock.taken(tmp_path, patience=0.0).let_go()
    else:
        assert str(path) in refusal(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_system_without_locks_keeps_nobody_from_serving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(_fd: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    StateLock.taken(tmp_path).let_go()
    assert "this file system has no locks (No locks available)" in caplog.text
