"""Gathers the filters that a configuration uses, and tries whether each can be loaded.

A filter is a program. It is tried in a child, which becomes the server's user first and has nothing
to read and nobody to write to, so that ``check`` stays what it is: whatever a module does when it
is imported ends with the child, and one that never comes to an end is ended.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections.abc import Iterator

from acme_client.readable import readable

from ...filters.code import CannotLoad, FilterCode
from ..schema.own_filters import FilterUse
from ..schema.parse import Parsed
from ..syntax.faults import Fault, Path

# Seconds for all filters together. What a module needs to load (a model, a table) takes a few.
_WITHIN = 20.0
_MOST_ANSWER = 1024 * 1024
_REMEDY = "correct the filter; its module lies beside the configuration, or is installed"

Used = tuple[Path, FilterUse]


def check(parsed: Parsed, identity: tuple[int, int] | None) -> tuple[FilterCode, list[Fault]]:
    """Return the code of all filters, and a fault for each that cannot be loaded. ``identity``: uid
    and gid of the server's user, None where nobody knows them."""
    used = list(_used(parsed))
    code = FilterCode()
    if not used:
        return code, []
    faults = []
    for path, entry in used:
        try:
            code.gather(entry.use)
        except CannotLoad as error:
            faults.append(parsed.origins.fault(path, f"{entry.use}: {error}", _REMEDY))
    if not faults and identity is not None:
        wrong = _tried([entry for _, entry in used], code, identity)
        for (path, entry), why in zip(used, wrong, strict=True):
            if why:
                faults.append(parsed.origins.fault(path, f"{entry.use}: {why}", _REMEDY))
    return code, faults


def _used(parsed: Parsed) -> Iterator[Used]:
    for path, rules in parsed.levels():
        for number, entry in enumerate(rules.use):
            yield (*path, "use", number), entry


def _tried(entries: list[FilterUse], code: FilterCode, identity: tuple[int, int]) -> list[str]:
    """Why each filter cannot be loaded; "" where it can."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            # Nothing of ours is open while code of users runs: who reads the configuration speaks
            # with a process that may be root (`config_process`).
            os.closerange(3, writing)
            os.closerange(writing + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            if os.geteuid() == 0:
                code.import_installed()
            _become(identity)
            answer = json.dumps(_results(entries, code))
            with os.fdopen(writing, "w") as pipe:
                pipe.write(answer)
        finally:
            os._exit(0)
    os.close(writing)
    try:
        return _answer(reading, len(entries))
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _become(identity: tuple[int, int]) -> None:
    if os.geteuid() == 0:
        uid, gid = identity
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # Not /dev/null: a server that runs already may not open it for writing.
    nowhere = os.memfd_create("what a module prints")
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)


def _results(entries: list[FilterUse], code: FilterCode) -> list[str]:
    code.install()
    results = []
    for entry in entries:
        try:
            code.load(entry.use, entry.with_)
        except CannotLoad as error:
            results.append(str(error) or "it cannot be loaded")
        else:
            results.append("")
    return results


def _answer(pipe: int, count: int) -> list[str]:
    until = time.monotonic() + _WITHIN
    data = b""
    while len(data) < _MOST_ANSWER:
        left = until - time.monotonic()
        if left <= 0 or not readable([pipe], left):
            return [f"it has not been loaded within {_WITHIN:g} s"] * count
        piece = os.read(pipe, 65536)
        if not piece:
            break
        data += piece
    try:
        found = json.loads(data)
    except ValueError:
        return ["the process that loads it has ended"] * count
    return [str(one) for one in found]
