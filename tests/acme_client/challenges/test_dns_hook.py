"""A hook as a real program: what it is given, what becomes of what it says, and that it ends."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from acme_client.challenges import dns_hook
from acme_client.challenges.dns_provider import TxtRecord
from acme_client.errors import IssuanceError, NotSet
from acme_client.link import DnsHook

Make = Callable[..., DnsHook]


RECORD = TxtRecord("token", "example.org", "_acme-challenge.example.org", "va;l$(ue)", "")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(body: str, timeout: float = 60.0, mode: int = 0o755) -> DnsHook:
        program = tmp_path / "my hook"
        program.write_text(body)
        program.chmod(mode)
        return DnsHook(program, timeout, tmp_path / "scratch")

    return made


def run(
    hook: DnsHook, action: dns_hook.Action = "present", stopping: threading.Event | None = None
) -> None:
    dns_hook.run(hook, action, RECORD, stopping or threading.Event())


def test_what_it_is_given(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments, the same as environment, a folder of its own, and nothing else of ours."""
    monkeypatch.setenv("SECRET", "ours")
    held = os.dup2(2, 87)  # inheritable
    try:
        run(make(f"#!/bin/sh\nfor one in \"$@\"; do echo \"$one\"; done >{tmp_path}/arguments\n"
                 f"env | sort >{tmp_path}/environment\npwd >{tmp_path}/folder\n"
                 f"ls /proc/$$/fd >{tmp_path}/descriptors\ncat >{tmp_path}/input\n"))  # fmt: skip
    finally:
        os.close(held)
    record = "_acme-challenge.example.org"
    assert (tmp_path / "arguments").read_text().splitlines() == [
        "present", "example.org", record, "va;l$(ue)",
    ]  # fmt: skip
    lines = (tmp_path / "environment").read_text().splitlines()
    environment = dict(line.split("=", 1) for line in lines)
    assert {key: environment.pop(key) for key in ("PWD", "OLDPWD", "_", "SHLVL")
            if key in environment}  # of the shell itself  # fmt: skip
    scratch = str(tmp_path / "scratch")
    assert environment == {
        "PATH": dns_hook.PATH, "HOME": scratch, "TMPDIR": scratch, "LANG": "C.UTF-8",
        "TREEHOUSE_ACTION": "present", "TREEHOUSE_DOMAIN": "example.org",
        "TREEHOUSE_RECORD": record, "TREEHOUSE_VALUE": "va;l$(ue)",
    }  # fmt: skip
    assert (tmp_path / "folder").read_text().strip() == scratch
    assert "87" not in (tmp_path / "descriptors").read_text().split()
    assert (tmp_path / "input").read_text() == ""


def test_what_it_says_is_in_the_log_in_one_piece_and_bounded(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "treehouse.certifier")
    hook = make(
        "#!/bin/sh\nprintf 'red \\033[31m alert\\n'\nprintf 'to standard error\\n' >&2\n"
        "head -c 1000 /dev/zero | tr '\\0' x; echo\nyes | head -c 1000000\n"
    )
    run(hook)
    assert "my hook present example.org: red  [31m alert" in caplog.messages
    assert "my hook present example.org: to standard error" in caplog.messages
    assert sum(map(len, caplog.messages)) < 1_000_000
    assert max(map(len, caplog.messages)) < 600


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("exit 3", "status 3 without a word"),
        ("echo no such zone >&2; exit 1", "status 1, and said: no such zone"),
        ("kill -9 $$", "SIGKILL"),
    ],
)
def test_its_status_is_judged(body: str, said: str, make: Make) -> None:
    with pytest.raises(IssuanceError, match=said) as told:
        run(make(f"#!/bin/sh\n{body}\n"))
    assert told.value.kind == "hook"
    assert "run it by hand" in told.value.text
    assert not isinstance(told.value, NotSet)  # it may have set the record before


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        (("", 1.0, 0o644), "permission denied"),
        (("#!/no/such/interpreter\n",), "there is no such file, or its interpreter"),
        (("neither script nor program",), "exec format error"),
    ],
)
def test_one_that_cannot_be_run_has_set_nothing(
    hook: tuple[object, ...], said: str, make: Make
) -> None:
    with pytest.raises(NotSet, match=said):
        run(make(*hook))


def test_one_that_hangs_is_ended_with_all_that_it_has_started(make: Make, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    hook = make(
        f"#!/bin/sh\nsleep 1000 & echo $! $$ >{pids}.new; mv {pids}.new {pids}; wait\n", 0.5
    )
    with pytest.raises(IssuanceError, match=r"took longer than 0.5 s \(acme.dns.hook_timeout\)"):
        run(hook)
    await_end(pids)


def test_what_it_leaves_behind_is_ended(make: Make, tmp_path: Path) -> None:
    """And a process that keeps its output open keeps nobody waiting."""
    pids = tmp_path / "pids"
    run(make(f"#!/bin/sh\nsleep 1000 & echo $! >{pids}\n"))
    await_end(pids)


def await_end(pids: Path) -> None:
    for pid in pids.read_text().split():
        try:
            ended = os.pidfd_open(int(pid))
        except ProcessLookupError:
            continue
        import select

        assert select.select([ended], [], [], 60)[0]
        os.close(ended)


def test_the_end_of_the_program_ends_it_unless_it_cleans_up(make: Make, tmp_path: Path) -> None:
    stopping = threading.Event()
    begun = tmp_path / "begun"
    hook = make(f"#!/bin/sh\ntouch {begun}\nexec sleep 1000\n")

    def stop() -> None:
        while not begun.exists():
            time.sleep(0.01)  # another process's file
        stopping.set()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(IssuanceError) as told:
        run(hook, stopping=stopping)
    thread.join()
    assert told.value.kind == "stopped"
    run(make("#!/bin/sh\nexit 0\n"), "cleanup", stopping)


def test_what_the_child_is_to_do_first_is_done_in_the_child(make: Make) -> None:
    calls = []

    def confine() -> None:
        calls.append(os.getpid())
        os.setpriority(os.PRIO_PROCESS, 0, 7)

    hook = make('#!/bin/sh\n[ "$(nice)" = 7 ]\n')
    dns_hook.run(hook, "present", RECORD, threading.Event(), confine)
    assert calls == []

    def fail() -> None:
        raise OSError("no")

    with pytest.raises(NotSet, match="cannot be confined"):
        dns_hook.run(hook, "present", RECORD, threading.Event(), fail)
