"""Compressors that are fed piece by piece, one class for gzip, Brotli and Zstandard alike.

The libraries are imported by the first call of `load`, before a process is confined: nothing is
imported on the path of a request.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Literal, Protocol

Level = Literal["fast", "usual", "best"]

# By measure of a megabyte of JSON: "usual" is what nginx, Caddy and Cloudflare use on the fly.
_LEVELS: dict[bytes, dict[Level, int]] = {
    b"zstd": {"fast": 1, "usual": 3, "best": 12},
    b"br": {"fast": 1, "usual": 4, "best": 9},
    b"gzip": {"fast": 1, "usual": 5, "best": 9},
}


class Encoder(Protocol):
    """Each gives what is ready to be sent. After ``flush`` the receiver can decode all that was
    fed; after ``finish`` nothing is fed any more."""

    def feed(self, data: bytes) -> bytes: ...

    def flush(self) -> bytes: ...

    def finish(self) -> bytes: ...


class _Gzip:
    def __init__(self, level: int) -> None:
        # 31: a window of 32 KiB, and the header and trailer of gzip (RFC 1952).
        self._made = zlib.compressobj(level, zlib.DEFLATED, 31)
        self.feed = self._made.compress

    def flush(self) -> bytes:
        return self._made.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._made.flush(zlib.Z_FINISH)


class _Brotli:
    def __init__(self, level: int) -> None:
        made = _libraries()[b"br"].Compressor(quality=level)
        self.feed: Callable[[bytes], bytes] = made.process
        self.flush: Callable[[], bytes] = made.flush
        self.finish: Callable[[], bytes] = made.finish


class _Zstd:
    def __init__(self, level: int) -> None:
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
    """Import what compresses."""
    import brotli  # type: ignore[import-untyped] # has none

    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore] # Python 3.14
    except ImportError:
        from backports import zstd
    _loaded.update({b"br": brotli, b"zstd": zstd})


def encoder(coding: bytes, level: Level = "usual") -> Encoder:
    """A new encoder for a content coding: ``gzip``, ``br`` or ``zstd``."""
    return _CLASSES[coding](_LEVELS[coding][level])
