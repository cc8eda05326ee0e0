"""Log lines: one each, printable, and never at the cost of service."""

import ast
import contextlib
import json
import logging
import os
import pty
import select
import socket
import termios
from pathlib import Path

import pytest

from proxy import log as logs
from proxy.log import LogFile, printable

HOSTILE = "a\r\nb\x1b[31mc\x9bd\u202ee\x00f\\g\u2028h"


@contextlib.contextmanager
def stderr_as_pipe():
    """Standard error as a pipe whose other end the test reads. No fixture: pytest puts its own
    descriptor back between a fixture and its test."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    saved = os.dup(2)
    root, level = logging.getLogger(), logging.getLogger("treehouse").level
    handlers = root.handlers[:]
    os.dup2(write, 2)
    try:
        yield read
    finally:
        os.dup2(saved, 2)
        root.handlers[:] = handlers
        logging.getLogger("treehouse").setLevel(level)
        for fd in (read, write, saved):
            os.close(fd)


def test_nothing_hostile_survives_printable():
    text = printable(HOSTILE)
    assert text.isascii()
    assert text.isprintable()


def test_printable_leaves_plain_text_alone():
    assert printable('GET /a?b=c "quoted"') == 'GET /a?b=c "quoted"'


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_hostile_message_is_one_line(style):
    with stderr_as_pipe() as stderr_pipe:
        logs.set_up("worker 1", style, "info")
        logging.getLogger("treehouse.x").info("said %s", HOSTILE)
        lines = os.read(stderr_pipe, 65536).split(b"\n")
        assert len(lines) == 2
        assert lines[1] == b""
        assert all(32 <= byte < 127 for byte in lines[0])
        if style == "json":
            assert json.loads(lines[0])["message"] == f"said {HOSTILE}"


def test_text_of_our_own_keeps_its_lines_and_what_is_filled_in_does_not():
    with stderr_as_pipe() as stderr_pipe:
        logs.set_up("supervisor", "text", "info")
        advice = logs.Composed("cannot listen:\n- as root:\n    sudo treehouse-proxy")
        logging.getLogger("treehouse.x").error("%s; %r; %d", advice, HOSTILE, 3)
        first, second, third, last = os.read(stderr_pipe, 65536).split(b"\n")
        assert first.endswith(b"error: cannot listen:")
        assert second == b"- as root:"
        assert third.startswith(b"    sudo treehouse-proxy; ")
        assert third.endswith(b"; 3")
        assert all(32 <= byte < 127 for byte in third)
        assert last == b""


def test_messages_of_libraries_are_escaped_as_a_whole():
    with stderr_as_pipe() as stderr_pipe:
        logs.set_up("supervisor", "text", "info")
        logging.getLogger("urllib3").warning("from outside: " + HOSTILE)
        assert os.read(stderr_pipe, 65536).count(b"\n") == 1


@pytest.mark.parametrize("arguments", [(HOSTILE,), ({"a": HOSTILE},)])
def test_a_hostile_warning_that_repeats_itself_stays_one_line(arguments, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: clock[0])
    with stderr_as_pipe() as stderr_pipe:
        logs.set_up("worker 1", "text", "info")
        pattern = "said %(a)s" if isinstance(arguments[0], dict) else "said %s"
        for moment in (0.0, 1.0, 20.0):
            clock[0] = moment
            logging.getLogger("treehouse.x").warning(pattern, *arguments)
        lines = os.read(stderr_pipe, 65536).split(b"\n")
        assert len(lines) == 3
        assert lines[1].endswith(b"(1 more like this)")
        assert all(32 <= byte < 127 for line in lines for byte in line)


@pytest.mark.parametrize("wanted", [None, "auto", "text", "json"])
def test_an_error_at_the_start_is_text_unless_json_was_asked_for(wanted):
    with stderr_as_pipe() as stderr_pipe:
        logs.set_up("supervisor", wanted, "info", starting=True)
        logging.getLogger("treehouse.x").info("made it")
        logging.getLogger("treehouse.x").error("cannot bind")
        info, error, _ = os.read(stderr_pipe, 65536).split(b"\n")
    assert info.startswith(b"{") == (wanted != "text")
    assert error.startswith(b"{") == (wanted == "json")


def test_a_warning_that_repeats_itself_is_written_once():
    with stderr_as_pipe() as stderr_pipe:
        logs.set_up("worker 1", "json", "info")
        for _ in range(50):
            logging.getLogger("treehouse.x").warning("limits.connections is reached")
        assert os.read(stderr_pipe, 65536).count(b"\n") == 1


def test_lines_for_a_full_pipe_are_dropped_and_counted():
    read, write = os.pipe()
    file = LogFile(write)
    for _ in range(2000):
        file.write(b"x" * 99 + b"\n")
    lost = file.lost()
    assert lost > 0
    os.set_blocking(read, False)
    received = b""
    while len(received) < (2000 - lost) * 100:
        received += os.read(read, 65536)
    assert received == (b"x" * 99 + b"\n") * (2000 - lost)
    assert file.lost() == 0
    os.close(read)
    os.close(write)


def test_of_a_pipe_that_is_shared_only_our_writing_fails_at_once():
    read, write = os.pipe()
    shared = os.dup(write)
    logs.unblock(write)
    assert not os.get_blocking(write)
    assert os.get_blocking(shared), "whoever started us still waits for its reader"
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, b"x" * 4096)
    os.read(read, 4096)
    assert os.write(shared, b"x" * 4096) == 4096, "it is the same pipe"
    for fd in (read, write, shared):
        os.close(fd)


def test_a_journal_that_does_not_read_makes_nobody_wait():
    """Also where another process takes the last room after we have asked for it."""
    journal, ours = socket.socketpair()
    file = LogFile(ours.fileno())

    class Room:
        def poll(self, _timeout):
            return [(0, select.POLLOUT)]

    file._poll = Room()
    for _ in range(2000):
        file.write(b"x" * 999 + b"\n")
    lost = file.lost()
    assert 0 < lost < 2000
    assert file.why == "nobody reads it"
    assert ours.getblocking()
    while len(journal.recv(1 << 20, socket.MSG_PEEK)) < 1000:
        pass
    with open(os.devnull, "wb") as elsewhere:
        file.replace(elsewhere.fileno())  # lets go of it
    for sock in (journal, ours):
        sock.close()


def test_a_terminal_that_is_held_costs_lines_and_nothing_else():
    """Ctrl-S, and a hundred lines more than it holds."""
    controller, terminal = pty.openpty()
    logs.unblock(terminal)
    file = LogFile(terminal)
    termios.tcflow(terminal, termios.TCOOFF)
    for _ in range(100):
        file.write(b"x" * 999 + b"\n")
    assert file.lost() == 100
    assert file.why == "nobody reads it"
    termios.tcflow(terminal, termios.TCOON)
    file.write(b"again\n")
    assert file.lost() == 0
    assert os.read(controller, 100) == b"again\r\n"
    os.close(controller)
    os.close(terminal)


def test_when_there_is_room_again_it_is_said_how_much_was_lost():
    with stderr_as_pipe() as stderr_pipe:
        logs.set_up("worker 1", "json", "info")
        for number in range(1000):
            logging.getLogger("treehouse.x").info("%d %s", number, "x" * 200)
        room = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                room += os.read(stderr_pipe, 65536)
        written = room.count(b"\n")
        assert 0 < written < 1000
        logging.getLogger("treehouse.x").info("and on")
        first, second = os.read(stderr_pipe, 65536).splitlines()
        assert json.loads(first)["message"] == "and on"
        told = json.loads(second)
        assert told["level"] == "warning"
        assert told["message"].startswith(f"{1000 - written} lines of this log were lost")


def test_a_reader_that_has_gone_costs_lines_and_nothing_else():
    read, write = os.pipe()
    os.close(read)
    file = LogFile(write)
    file.write(b"a line\n")
    assert file.lost() == 1
    os.close(write)


def test_a_full_disk_costs_lines_and_nothing_else():
    with open("/dev/full", "wb", buffering=0) as full:
        file = LogFile(full.fileno())
        file.write(b"one\ntwo\n")
        assert file.lost() == 2
        assert file.why == "No space left on device"


def test_a_warning_by_the_thousand_is_one_line_and_a_number(caplog):
    seldom = logs.Seldom(logging.getLogger("treehouse.x"), every=5.0)
    for turn in range(1000):
        seldom.warning(turn / 1000, "turned away: %s", turn)
    seldom.warning(0.5, "another")
    seldom.warning(6.0, "turned away: %s", "last")
    assert [record.getMessage() for record in caplog.records] == [
        "turned away: 0",
        "another",
        "turned away: last (and 999 times more meanwhile)",
    ]


def test_what_is_about_different_things_is_no_repetition(caplog):
    seldom = logs.Seldom(logging.getLogger("treehouse.x"), every=5.0)
    for backend in ("a", "b", "a"):
        seldom.warning(0.0, "it fails: %s", backend, about=backend, extra={"backend": backend})
    assert [record.getMessage() for record in caplog.records] == ["it fails: a", "it fails: b"]
    assert [record.backend for record in caplog.records] == ["a", "b"]


def test_the_journal_gets_text_with_the_priority_of_each_line(monkeypatch):
    with stderr_as_pipe() as stderr_pipe:
        found = os.fstat(2)
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        logs.set_up("supervisor", "auto", "info")
        log = logging.getLogger("treehouse.x")
        log.info("began")
        log.warning("%s", logs.Composed("first line\nsecond line"))
        log.error("failed")
        lines = os.read(stderr_pipe, 65536).decode().splitlines()
    me = os.getpid()
    assert lines == [
        f"<6>supervisor[{me}] began",
        f"<4>supervisor[{me}] warning: first line",
        "<4>second line",
        f"<3>supervisor[{me}] error: failed",
    ]


def test_a_record_in_json_has_the_fields_that_it_is_about():
    with stderr_as_pipe() as stderr_pipe:
        logs.set_up("certifier", "json", "info")
        about = {"certificate": "a.test", "ca": "https://ca.test/dir", "unknown": 1}
        logging.getLogger("treehouse.x").info("renewed", extra=about)
        line = json.loads(os.read(stderr_pipe, 65536))
    assert (line["certificate"], line["ca"]) == ("a.test", "https://ca.test/dir")
    assert line["log"] == "program"
    assert "unknown" not in line


def test_no_pattern_of_a_message_has_words_from_outside_in_it():
    """A pattern stands in the log as it is, so nothing may be put into it before."""
    root = Path(__file__).resolve().parents[2]
    files = [
        path for package in ("proxy", "acme_client") for path in (root / package).rglob("*.py")
    ]
    assert [
        f"{path}:{node.lineno}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("debug", "info", "warning", "error", "exception")
        and "log" in ast.unparse(node.func.value).lower()
        and any(isinstance(one, ast.JoinedStr) for one in node.args)
    ] == []
