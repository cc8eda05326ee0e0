"""What a process is called in ``ps`` and ``top``, so that its role can be seen.

Two names: the short one that the kernel keeps for a thread (PR_SET_NAME, fifteen bytes: ``top``,
``pgrep``), and the command line (``ps``), which lies in the process's own memory. The latter is
written over in place and never made longer; what lies behind it, the environment, is not touched.
Python has its own copy of the arguments, so nothing that the program looks at changes.

Set before the sandbox: where the arguments lie is read from /proc.
"""

from __future__ import annotations

import contextlib
import ctypes
import os

_PR_SET_NAME = 15
# proc(5), /proc/PID/stat, counted from the field behind the command's name.
_ARG_START, _ARG_END = 45, 46
_LONGEST = 4096

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_ulong,
    ctypes.c_ulong,
)


def set_title(short: str, title: str) -> None:
    """``short`` for the kernel, ``title`` for the command line, as much of each as has room. Does
    nothing where the system does not tell where the command line lies."""
    _libc.prctl(_PR_SET_NAME, short.encode()[:15], 0, 0, 0)
    with contextlib.suppress(OSError, ValueError, IndexError):
        start, end = _arguments()
        room = min(end - start, _LONGEST)
        if room < 2:
            return
        # The last byte stays NUL: a kernel that finds another one there reads on.
        text = title.encode("utf-8", "replace")[: room - 1]
        ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)


def _arguments() -> tuple[int, int]:
    fd = os.open("/proc/self/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fields = os.read(fd, _LONGEST).rpartition(b")")[2].split()
    finally:
        os.close(fd)
    return int(fields[_ARG_START]), int(fields[_ARG_END])
