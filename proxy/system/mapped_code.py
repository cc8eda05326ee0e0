"""Gives back the pages of programs and libraries that this process has mapped and does not use now.

To start, and to read a configuration, takes code that nothing runs afterwards: of cryptography's
library alone seven megabytes. The kernel keeps such pages in the process for as long as it has no
better use for them. They are unchanged pages of files, so that nothing is lost with them: what is
needed again is mapped again, from the page cache as a rule.

What must not be given back are pages that are no longer the file's: data, what the linker has
written (relocations), and breakpoints. So only mappings that nobody may write to are taken, and of
these only those in which the kernel counts no page of our own.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterable, Iterator

_MADV_DONTNEED = 4
_UNWRITABLE = ("r-xp", "r--p")


def let_go() -> None:
    """Give back what can be; nothing where ``/proc`` is out of reach."""
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    with contextlib.suppress(OSError), open("/proc/self/smaps", encoding="utf-8") as smaps:
        for begin, end in list(unchanged(smaps)):
            madvise(begin, end - begin, _MADV_DONTNEED)


def unchanged(smaps: Iterable[str]) -> Iterator[tuple[int, int]]:
    """The ranges of addresses in which only unchanged pages of files lie; ``smaps`` are the lines
    of proc_pid_smaps(5)."""
    mapping = None
    for line in smaps:
        words = line.split()
        if not words[0].endswith(":"):
            # address range, permissions, offset, device, inode, path
            of_file = len(words) > 5 and words[5].startswith("/")
            mapping = words[0] if of_file and words[1] in _UNWRITABLE else None
        elif mapping is not None and words[0] == "Anonymous:" and words[1] == "0":
            begin, _, end = mapping.partition("-")
            yield int(begin, 16), int(end, 16)
