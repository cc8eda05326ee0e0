"""Compressors that are fed piece by piece, one class for gzip, Brotli and Zstandard alike.

The libraries are imported by the first call of `load`, before a process is confined: nothing is
imported on the path of a request.

An encoder holds its window and tables for as long as its stream lasts, and a client that reads
slowly, on many streams, decides how long that is. So what all encoders of a process hold together
is bounded: `affordable` says at which level one more may be made. The account follows the life of
the objects, as the memory does.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal, Protocol

Level = Literal["fast", "usual", "best"]

# By measure of JSON: "usual" is what nginx, Caddy and Cloudflare use on the fly. The levels of gzip
# are zlib-ng's, whose 5 is as good as zlib's at half the time (docs/dependencies.md).
_LEVELS: dict[bytes, dict[Level, int]] = {
    b"zstd": {"fast": 1, "usual": 3, "best": 12},
    b"br": {"fast": 1, "usual": 4, "best": 9},
    b"gzip": {"fast": 2, "usual": 5, "best": 7},
}


# What an encoder holds at most, in KiB, by measure of a megabyte of text.
_HOLDS: dict[bytes, dict[Level, int]] = {
    b"zstd": {"fast": 1_400, "usual": 2_200, "best": 45_000},
    b"br": {"fast": 1_400, "usual": 4_400, "best": 38_000},
    b"gzip": {"fast": 350, "usual": 350, "best": 350},
}
# All of them together; beyond the first bound new ones are made at the level "fast".
_MOST_AT_ANY_LEVEL = 96 * 1024
_MOST = 160 * 1024


class _Account:
    """What the encoders of this process hold, in KiB."""

    held = 0


class Encoder(Protocol):
    """Each gives what is ready to be sent. After ``flush`` the receiver can decode all that was
    fed; after ``finish`` nothing is fed any more."""

    def feed(self, data: bytes) -> bytes: ...

    def flush(self) -> bytes: ...

    def finish(self) -> bytes: ...


class _Held:
    """Counts for as long as it lives."""

    def __init__(self, holds: int) -> None:
        self._holds = holds
        _Account.held += holds

    def __del__(self) -> None:
        _Account.held -= self._holds


class _Gzip(_Held):
    """The compressor is made by the first `feed`. To make it is to write all its tables, 350 KiB;
    between the head of an answer and its body the tables of other answers would push them out of
    the processor's cache."""

    def __init__(self, level: int, holds: int) -> None:
        super().__init__(holds)
        self._level = level

    @cached_property
    def _made(self) -> Any:
        # 31: a window of 32 KiB, and the header and trailer of gzip (RFC 1952).
        return _libraries()[b"gzip"].compressobj(self._level, zlib.DEFLATED, 31)

    def feed(self, data: bytes) -> bytes:
        made: bytes = self._made.compress(data)
        return made

    def flush(self) -> bytes:
        flushed: bytes = self._made.flush(zlib.Z_SYNC_FLUSH)
        return flushed

    def finish(self) -> bytes:
        finished: bytes = self._made.flush(zlib.Z_FINISH)
        return finished


class _Brotli(_Held):
    def __init__(self, level: int, holds: int) -> None:
        super().__init__(holds)
        made = _libraries()[b"br"].Compressor(quality=level)
        self.feed: Callable[[bytes], bytes] = made.process
        self.flush: Callable[[], bytes] = made.flush
        self.finish: Callable[[], bytes] = made.finish


class _Zstd(_Held):
    def __init__(self, level: int, holds: int) -> None:
        super().__init__(holds)
        zstd = _libraries()[b"zstd"]
        # RFC 9659: at most 8 MiB of window for a content coding.
        options = {
            zstd.CompressionParameter.compression_level: level,
            zstd.CompressionParameter.window_log: 20,
        }
        self._made = zstd.ZstdCompressor(options=options)
        self._flush = zstd.ZstdCompressor.FLUSH_BLOCK
        self._finish = zstd.ZstdCompressor.FLUSH_FRAME
        self.feed: Callable[[bytes], bytes] = self._made.compress

    def flush(self) -> bytes:
        flushed: bytes = self._made.flush(self._flush)
        return flushed

    def finish(self) -> bytes:
        finished: bytes = self._made.flush(self._finish)
        return finished


_CLASSES: dict[bytes, type[_Gzip] | type[_Brotli] | type[_Zstd]] = {
    b"gzip": _Gzip,
    b"br": _Brotli,
    b"zstd": _Zstd,
}
_loaded: dict[bytes, Any] = {}


def _libraries() -> dict[bytes, Any]:
    """The modules by content coding."""
    if not _loaded:
        load()
    return _loaded


def load() -> None:
    """Import what compresses, the first time. A worker that asked the import system again, also for
    a module that its Python does not have, would copy memory that is shared."""
    if _loaded:
        return
    import brotli  # type: ignore[import-untyped] # has none
    from zlib_ng import zlib_ng

    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore] # Python 3.14
    except ImportError:
        from backports import zstd
    _loaded.update({b"br": brotli, b"zstd": zstd, b"gzip": zlib_ng})


def encoder(coding: bytes, level: Level = "usual") -> Encoder:
    """A new encoder for a content coding: ``gzip``, ``br`` or ``zstd``."""
    return _CLASSES[coding](_LEVELS[coding][level], _HOLDS[coding][level])


def affordable(coding: bytes, level: Level) -> Level | None:
    """Return the level at which one more stream may be compressed; None where it may not."""
    held = _Account.held
    if held + _HOLDS[coding][level] <= _MOST_AT_ANY_LEVEL:
        return level
    return "fast" if held + _HOLDS[coding]["fast"] <= _MOST else None
