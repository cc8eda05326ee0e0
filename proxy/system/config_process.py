"""Reads the configuration in a process of its own, which ends when it has told what it found.

YAML, the checks, the examination of certificates: that is more code, and leaves more behind, than
all that serves afterwards, and every process of the server would have it for life. So a child
reads. What it hands over is the finished configuration, and certificates with their keys in sealed
memory (`ipc.packs`): those are never in the server's own. At a start the server imports its parts
meanwhile. At a reload the child has the configuration in force in its memory, as its parent has: of
sites that are as they were it tells the numbers.

The child is this program, forked. It may do what its parent may, and tells it objects (`pickle`):
who speaks at its end of the socket could have the parent do anything. So no code but ours may get
there. Filters of users, which are tried meanwhile, run in a process that has closed everything
(`config.checks.own_filters`); and only classes of which a configuration is made are taken.
"""

from __future__ import annotations

import gc
import io
import logging
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from acme_client.status import CertificateStatus

from ..config.model import Config, OwnCertificate
from ..config.options import Options
from ..config.syntax.faults import ConfigurationFaults
from ..config.unchanged import Difference, difference, whole
from ..exit_status import FAILED
from ..ipc.messages import CertificateFacts
from ..ipc.packs import Bundle, Pack
from .certificate_files import LoadedCertificate, OwnFiles
from .privileges import die_with_parent
from .process_title import set_title

log = logging.getLogger("treehouse.configuration")

# What the child does: it finds out the options, calls the function once, and returns the exit
# status. One that returns without a call has told people why.
Work = Callable[[Callable[[Options], None]], int]

_DESCRIPTORS, _REST = b"d", b"r"
_EACH = 200  # descriptors in a message; the kernel takes 253
# Classes of other people that a configuration is made of.
_FOREIGN = frozenset(
    {
        ("pathlib", "PosixPath"), ("pathlib._local", "PosixPath"),
        ("ipaddress", "IPv4Address"), ("ipaddress", "IPv6Address"),
        ("ipaddress", "IPv4Network"), ("ipaddress", "IPv6Network"),
        ("re", "_compile"),
    }
)  # fmt: skip


class Found(NamedTuple):
    """A configuration and the certificates that it names."""

    config: Config
    own: OwnFiles


class _Placed(NamedTuple):
    """A certificate as it is told: ``pack`` is the number of a descriptor."""

    files: OwnCertificate
    facts: CertificateFacts
    status: CertificateStatus
    pack: int
    offset: int
    length: int


class _Told(NamedTuple):
    """``faults`` in place of everything else where the configuration has any. ``config``: what it
    has that the one in force has not."""

    options: Options
    faults: ConfigurationFaults | None
    config: Difference | None = None
    placed: Sequence[_Placed] = ()
    unusable: str | None = None
    warnings: Sequence[str] = ()


class ReadingEnded(Exception):
    """The process has ended and has told nothing. ``status``: its exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the process that reads the configuration ended with status {status}")
        self.status = status


class ConfigProcess:
    """The child. ``result`` is called once."""

    def __init__(self, pid: int, sock: socket.socket, present: Config | None) -> None:
        self._pid = pid
        self._sock = sock
        self._present = present
        self.options: Options | None = None  # after ``result``, whatever came of it

    @classmethod
    def start(
        cls,
        work: Work,
        started_as: int,
        kept: Mapping[OwnCertificate, Bundle],
        present: Config | None = None,
    ) -> ConfigProcess:
        """Fork it. ``started_as``: see `config.load.load`; ``kept``: certificates that were read
        before; ``present``: the configuration in force. Raises `OSError`."""
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        # A server's signals are heard over a socket that the child inherits: it hears none. It ends
        # with its parent in any case.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                ours.close()
                _child(work, theirs, parent, _Known(started_as, kept, present))
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            theirs.close()
        return cls(pid, ours, present)

    def result(self) -> Found:
        """Wait for it to end, and return what it has found; sites that are as they were are those
        of the configuration in force. Raises `ConfigurationFaults`, `ReadingEnded`, and `OSError`
        where there are too few descriptors."""
        fds: list[int] = []
        try:
            with self._sock:
                content = _received(self._sock, fds)
            _pid, status = os.waitpid(self._pid, 0)
            if not content:
                raise ReadingEnded(_as_exit_status(status))
            told: _Told = understood(content)
            self.options = told.options
            if told.faults is not None or told.config is None:
                raise told.faults or ReadingEnded(FAILED)
            packs = [Pack(fd) for fd in fds]
            fds = []
        finally:
            for fd in fds:
                os.close(fd)
        loaded = [
            LoadedCertificate(
                one.files, one.facts, one.status, packs[one.pack].bundle(one.offset, one.length)
            )
            for one in told.placed
        ]
        config = whole(self._present, told.config)
        return Found(config, OwnFiles(loaded, told.unusable, told.warnings))


def read_here(options: Options, started_as: int, kept: Mapping[OwnCertificate, Bundle]) -> Found:
    """Read in this process. Raises `ConfigurationFaults`."""
    from ..config.load import load

    config = load(options, now_uid=started_as)
    if not any(site.certificates for site in config.sites):
        return Found(config, OwnFiles())
    from .certificate_reading import own_files  # only where there are any: it takes `cryptography`

    return Found(config, own_files(config, kept))


def read(
    options: Options,
    started_as: int,
    kept: Mapping[OwnCertificate, Bundle],
    present: Config | None = None,
) -> Found:
    """Read in a process that has ended when this returns; see `ConfigProcess.start`. Raises what
    `ConfigProcess.result` does."""

    def work(tell: Callable[[Options], None]) -> int:
        tell(options)
        return 0

    return ConfigProcess.start(work, started_as, kept, present).result()


def _as_exit_status(status: int) -> int:
    """The status of this program for the wait status of the child, as a shell would have it."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _received(sock: socket.socket, fds: list[int]) -> bytes:
    """What comes behind the descriptors; nothing where the other side has told nothing."""
    while True:
        kind, came, flags, _address = socket.recv_fds(sock, 1, _EACH)
        fds += came
        if flags & socket.MSG_CTRUNC:
            raise OSError("no descriptor is left for the certificates that were read")
        if kind != _DESCRIPTORS:
            break
    pieces = []
    while kind == _REST and (piece := sock.recv(1 << 20)):
        pieces.append(piece)
    return b"".join(pieces)


def understood(content: bytes) -> Any:
    """What was told. Raises `pickle.UnpicklingError` for what is no part of a configuration."""
    return _Unpickler(io.BytesIO(content)).load()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.startswith(("proxy.", "acme_client.")) or (module, name) in _FOREIGN:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a configuration")


# In the child


class _Known(NamedTuple):
    """What the parent knows already; see `ConfigProcess.start`."""

    started_as: int
    kept: Mapping[OwnCertificate, Bundle]
    present: Config | None


def _child(work: Work, sock: socket.socket, parent: int, known: _Known) -> NoReturn:
    status = FAILED
    try:
        die_with_parent(parent)
        gc.disable()  # of thousands of sites nearly all that is made is told in the end
        set_title("th-config", "treehouse-proxy: reads the configuration")
        status = work(lambda options: _tell(options, sock, known))
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else FAILED if end.code else 0
    except BaseException:  # it never returns into the caller's own work
        log.exception("unexpected end")
    finally:
        for out in (sys.stdout, sys.stderr):
            out.flush()
        os._exit(status)


def _tell(options: Options, sock: socket.socket, known: _Known) -> None:
    try:
        config, own = read_here(options, known.started_as, known.kept)
    except ConfigurationFaults as faults:
        _send(sock, _Told(options, faults), ())
        return
    packs = list(dict.fromkeys(one.bundle.pack for one in own.loaded))
    number = {pack: at for at, pack in enumerate(packs)}
    placed = [
        _Placed(
            one.files,
            one.facts,
            one.status,
            number[one.bundle.pack],
            one.bundle.offset,
            one.bundle.length,
        )
        for one in own.loaded
    ]
    new = difference(known.present, config)
    told = _Told(options, None, new, placed, own.unusable, own.warnings)
    _send(sock, told, [pack.fd for pack in packs])


def _send(sock: socket.socket, told: _Told, fds: Iterable[int]) -> None:
    left = list(fds)
    while left:
        several, left = left[:_EACH], left[_EACH:]
        socket.send_fds(sock, [_DESCRIPTORS], several)
    sock.sendall(_REST + pickle.dumps(told, pickle.HIGHEST_PROTOCOL))
