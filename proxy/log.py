"""The operational log: what happened, in plain words, on standard error.

Every process of the tree writes here itself, in lines short enough that the kernel does not
interleave them. Text is for people at a terminal, JSON for machines; both say the same. The pattern
of a message is ours and stands as it is. What is filled into it may come from anywhere and passes
through `printable` or JSON's escapes first, so that a line can be neither split nor dressed up
(ESC, CR, LF, C1 controls, bidirectional overrides). Advice that we composed ourselves, in several
lines where it has commands to be copied, is filled in as `Composed` and keeps its lines.

A log that cannot be written (disk full, reader gone) costs lines, never service: see `LogFile`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import select
import socket
import stat
import sys
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# A pipe takes up to this much at once or not at all (pipe(7), PIPE_BUF).
_PIPE_BUF = 4096
# Repetitions of the same warning within this many seconds are counted instead of written.
_QUIET = 10.0


def printable(text: str) -> str:
    r"""Everything but printable ASCII as \xNN or \uNNNN; the backslash itself doubled."""
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return json.dumps(text)[1:-1].replace('\\"', '"')


class Composed(str):
    """Text of our own, in which whatever came from outside is escaped already. May have several
    lines, and any characters that can be seen."""

    __slots__ = ()


# What a terminal without UTF-8 shows instead of what we write.
_PLAIN = str.maketrans({"…": "...", "→": "->"})


def displayable(text: str) -> str:
    """Return text of our own as the locale can show it: all of it, or ASCII."""
    if text.isascii() or not _ascii_only():
        return text
    return text.translate(_PLAIN).encode("ascii", "backslashreplace").decode("ascii")


@functools.cache
def _ascii_only() -> bool:
    """Whether the locale is C. Asked of what the program was started with: the interpreter itself
    turns C into C.UTF-8 (PEP 538, PEP 540), which the terminal knows nothing of."""
    try:
        with open("/proc/self/environ", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return False
    given = dict(word.split(b"=", 1) for word in words if b"=" in word)
    for name in (b"LC_ALL", b"LC_CTYPE", b"LANG"):
        if given.get(name):
            return given[name] in (b"C", b"POSIX")
    return True


def unblock(fd: int) -> None:
    """Writing to this pipe or terminal shall fail at once where there is no room, for us alone.

    The open file is shared with whoever started us, and with it O_NONBLOCK: a shell whose output
    does not block any more loses some of it. So the pipe is opened a second time. While that may
    not be done (it takes the right to open it), `LogFile` asks before it writes, and only another
    process that takes the last room in between can make it wait.
    """
    with contextlib.suppress(OSError):
        mode = os.fstat(fd).st_mode
        shared = stat.S_ISFIFO(mode) or os.isatty(fd)
        if shared and os.get_blocking(fd):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            own = os.open(f"/proc/self/fd/{fd}", flags)
            os.dup2(own, fd)
            os.close(own)


class LogFile:
    """A descriptor that log lines go to; never blocks and never raises.

    Lines that find no room (full disk, slow or dead reader of a pipe, a terminal that is held) are
    dropped and counted; `lost` tells how many since it was last asked, and ``why``.
    """

    def __init__(self, fd: int) -> None:
        self._lost = 0
        self.why = ""
        self._sock: socket.socket | None = None
        self.replace(fd)

    def replace(self, fd: int) -> None:
        """Write to another descriptor from now on (log rotation); the old one is not closed."""
        mode = os.fstat(fd).st_mode
        self.fd = fd
        # The journal's: a socket can be asked not to wait with each call.
        if self._sock is not None:
            self._sock.close()
        self._sock = socket.socket(fileno=os.dup(fd)) if stat.S_ISSOCK(mode) else None
        self._may_block = not stat.S_ISREG(mode)
        if self._may_block:
            self._poll = select.poll()
            self._poll.register(fd, select.POLLOUT)

    def write(self, lines: bytes) -> None:
        start = 0
        try:
            while start < len(lines):
                end = len(lines)
                if self._may_block:
                    end = lines.rfind(b"\n", start, start + _PIPE_BUF) + 1 or start + _PIPE_BUF
                    if not any(event & select.POLLOUT for _fd, event in self._poll.poll(0)):
                        raise BlockingIOError
                if self._sock is None:
                    start += os.write(self.fd, lines[start:end])
                else:
                    start += self._sock.send(lines[start:end], socket.MSG_DONTWAIT)
        except OSError as error:
            self._lost += lines.count(b"\n", start)
            waits = isinstance(error, BlockingIOError)
            self.why = "nobody reads it" if waits else error.strerror or str(error)

    def lost(self) -> int:
        count, self._lost = self._lost, 0
        return count


class _Text(logging.Formatter):
    """Lines for people. In the journal, which knows the time, each line has its priority instead
    (sd-daemon(3)); the lines of one message stay one after the other."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process
        self._journal = is_journal(2)

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        text = f"{self._process}[{record.process}] {level}{_message(record)}"
        if record.exc_info:
            text += " | " + printable(self.formatException(record.exc_info).replace("\n", " | "))
        if self._journal:
            priority = next(number for least, number in _PRIORITIES if record.levelno >= least)
            return "\n".join(f"<{priority}>{line}" for line in text.split("\n"))
        return f"{_moment(record)} {text}"


# By syslog(3): err, warning, info, debug.
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))


def _moment(record: logging.LogRecord) -> str:
    """The time of a record as in the access log, like 2026-11-28T20:00:00.123Z."""
    at = datetime.fromtimestamp(record.created, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def _message(record: logging.LogRecord) -> str:
    """Return a record's message, with what is filled in escaped, unless it is `Composed`."""
    ours = record.name.partition(".")[0] == "treehouse"
    if not ours or not isinstance(record.msg, str):
        return printable(record.getMessage())
    if not record.args:
        return displayable(record.msg)
    if isinstance(record.args, tuple):
        return displayable(record.msg % tuple(map(_filled_in, record.args)))
    return displayable(record.msg % {key: _filled_in(one) for key, one in record.args.items()})


def _filled_in(value: object) -> object:
    return value if isinstance(value, (Composed, int, float)) else _Escaped(value)


class _Escaped:
    """Any value, spelt so that it stays one piece of one line."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return printable(str(self._value))

    def __repr__(self) -> str:
        return printable(repr(self._value))


# What a record may be about, for those who filter: `extra={"certificate": …}` at the call.
_FIELDS = ("certificate", "ca", "backend", "peer", "site", "trace_id")


class _Json(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _moment(record),
            "log": "program",
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": record.process,
            "message": record.getMessage(),
        }
        line |= {name: given for name in _FIELDS if (given := getattr(record, name, None))}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class _Quiet(logging.Filter):
    """Warnings and errors that repeat themselves are written once per `_QUIET` seconds, and the
    next one tells how many were held back."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        text = record.getMessage()
        since, held = self._seen.get(text, (-_QUIET, 0))
        now = time.monotonic()
        if now - since < _QUIET:
            self._seen[text] = (since, held + 1)
            return False
        if len(self._seen) > 1000:
            self._seen.clear()
        self._seen[text] = (now, 0)
        if held and isinstance(record.args, tuple):
            record.msg, record.args = f"{record.msg} (%d more like this)", (*record.args, held)
        elif held:
            record.msg, record.args = "%s (%d more like this)", (text, held)
        return True


class _Handler(logging.Handler):
    def __init__(self, file: LogFile) -> None:
        super().__init__()
        self._file = file
        self._lost = 0
        self.told: Callable[[logging.LogRecord], None] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self._file.write(self._line(record))
        if self.told is not None and record.levelno >= logging.WARNING:
            self.told(record)
        lost = self._file.lost()
        if lost:
            self._lost += lost
        elif self._lost:
            text = f"{self._lost} lines of this log were lost before this one: {self._file.why}"
            self._lost = 0
            told = {"levelno": logging.WARNING, "levelname": "WARNING", "msg": text}
            self._file.write(
                self._line(logging.makeLogRecord({**record.__dict__, **told, "args": ()}))
            )

    def _line(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode("utf-8", "backslashreplace") + b"\n"


LogFormat = Literal["auto", "text", "json", "combined", "vhost_combined"]


def program_format(wanted: LogFormat, fd: int) -> Literal["text", "json"]:
    """The format of the operational log: unless told otherwise text on a terminal and in the
    journal, which people read, else JSON. The combined formats are of access lines only."""
    if wanted == "auto":
        return "text" if os.isatty(fd) or is_journal(fd) else "json"
    return "json" if wanted == "json" else "text"


def access_format(
    wanted: LogFormat, fd: int
) -> Literal["text", "json", "combined", "vhost_combined"]:
    """The format of the access log."""
    return program_format(wanted, fd) if wanted == "auto" else wanted


def is_journal(fd: int) -> bool:
    """Whether a descriptor leads to systemd's journal (systemd.exec(5), $JOURNAL_STREAM)."""
    try:
        device, inode = map(int, os.environ.get("JOURNAL_STREAM", "").split(":"))
        found = os.fstat(fd)
    except (ValueError, OSError):
        return False
    return (found.st_dev, found.st_ino) == (device, inode)


def set_up(process: str, wanted: LogFormat | None, level: str, *, starting: bool = False) -> None:
    """(Re)direct the whole process's operational log; called again after each fork.

    ``starting``: an error now keeps the program from starting. Somebody has just typed the command,
    on a terminal, in a script or over ssh, and reads it: it is text unless JSON was asked for.
    """
    handler = _Handler(LogFile(2))
    kind = program_format(wanted or "auto", 2)
    formatter: logging.Formatter = _Text(process) if kind == "text" else _Json(process)
    if starting and wanted != "json":
        formatter = _ErrorsAsText(process, formatter)
    handler.setFormatter(formatter)
    handler.addFilter(_Quiet())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # libraries speak only when something is wrong
    logging.getLogger("treehouse").setLevel(_LEVELS[level])
    logging.raiseExceptions = False
    sys.excepthook = _log_uncaught


# Of one process, for the admin page: a log that is flooded must not flood another process.
_TOLD_MOST, _TOLD_WITHIN = 20, 60.0
_TOLD_LENGTH = 400


def tell_warnings(process: str, tell: Callable[[float, str, str, str], None]) -> None:
    """Call ``tell`` with each warning or error that this process writes: moment (Unix seconds),
    level, ``process``, and the line without control characters. `set_up` ends that. ``tell`` may be
    called from any thread; what it raises is dropped."""
    told: deque[float] = deque(maxlen=_TOLD_MOST)

    def hear(record: logging.LogRecord) -> None:
        now = time.monotonic()
        if len(told) == _TOLD_MOST and now - told[0] < _TOLD_WITHIN:
            return
        told.append(now)
        with contextlib.suppress(Exception):
            text = _message(record)[:_TOLD_LENGTH]
            tell(record.created, record.levelname.lower(), process, text)

    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Handler):
            handler.told = hear


class _ErrorsAsText(logging.Formatter):
    """Formats errors as text, and all else as ``others`` does."""

    def __init__(self, process: str, others: logging.Formatter) -> None:
        super().__init__()
        self._text = _Text(process)
        self._others = others

    def format(self, record: logging.LogRecord) -> str:
        formatter = self._text if record.levelno >= logging.ERROR else self._others
        return formatter.format(record)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: object) -> None:
    logging.getLogger("treehouse").error("unexpected end", exc_info=error)


class Seldom:
    """Warnings that an attack could otherwise make by the thousand: each text at most once in
    ``every`` seconds, for each ``about`` by itself, with the number of those left out. ``now`` is
    monotonic; ``extra`` are fields of the record. There must be few texts and things that they are
    about."""

    def __init__(self, log: logging.Logger, every: float = 5.0) -> None:
        self._log = log
        self._every = every
        self._said: dict[tuple[str, str | None], tuple[float, int]] = {}

    def warning(
        self,
        now: float,
        text: str,
        *details: object,
        about: str | None = None,
        extra: dict[str, str] | None = None,
    ) -> None:
        key = text, about
        last, left_out = self._said.get(key, (float("-inf"), 0))
        if now - last < self._every:
            self._said[key] = last, left_out + 1
            return
        self._said[key] = now, 0
        if left_out:
            text += " (and %d times more meanwhile)"
            self._log.warning(text, *details, left_out, extra=extra)
        else:
            self._log.warning(text, *details, extra=extra)
