"""Certificates with their keys in shared memory: hundreds of them in one sealed memfd.

A *pack* is a memfd that nobody can change any more. A *bundle* is the part of it in which one
certificate's chain and key lie (PEM). Whoever is to serve certificates is given packs as
descriptors, so that their bytes are in memory once for all processes, and thousands of certificates
take a few dozen descriptors.

A pack is closed when the last of its bundles is released. Renewals make packs of one certificate,
and leave holes in others; `repacked` puts what is left together again. It copies inside the kernel,
from memfd to memfd: the supervisor, which does that, never has a key in its own memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from .channel import sealed, sealing
from .codec import Malformed

# Certificates in one pack: some 2 KB each.
MOST = 256


class NotInPack(Malformed):
    """A place that is told lies outside the memfd."""


class Pack:
    """A memfd of ``size`` bytes, which is this object's. ``bundles``: how many are in use."""

    __slots__ = ("bundles", "fd", "size")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.bundles = 0
        self.size = os.fstat(fd).st_size

    def bundle(self, offset: int, length: int) -> Bundle:
        """The bundle at this place. Raises `NotInPack`."""
        if not (0 <= offset <= self.size and 0 <= length <= self.size - offset):
            raise NotInPack(f"{offset}+{length} of {self.size}")
        return Bundle(self, offset, length)

    def close_if_unused(self) -> None:
        """Close a pack of which no bundle is in use."""
        if self.bundles <= 0:
            self.close()

    def close(self) -> None:
        """Close the descriptor, whoever still has a bundle."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Bundle:
    """One certificate's chain and key in a pack."""

    __slots__ = ("length", "offset", "pack")

    def __init__(self, pack: Pack, offset: int, length: int) -> None:
        self.pack = pack
        self.offset = offset
        self.length = length
        pack.bundles += 1

    def content(self) -> bytes:
        """Read chain and key, in PEM."""
        return os.pread(self.pack.fd, self.length, self.offset)

    def again(self) -> Bundle:
        """The same bundle for somebody else, who releases it."""
        return Bundle(self.pack, self.offset, self.length)

    def release(self) -> None:
        """Say that it is not needed any more. Once."""
        self.pack.bundles -= 1
        self.pack.close_if_unused()


def packed(contents: Iterable[bytes]) -> tuple[int, list[tuple[int, int]]]:
    """A sealed memfd with these contents, which the caller closes, and the place (offset, length)
    of each."""
    places, offset = [], 0
    several = list(contents)
    for one in several:
        places.append((offset, len(one)))
        offset += len(one)
    return sealed("certificates", b"".join(several)), places


def alone(content: bytes) -> Bundle:
    """A pack with one bundle."""
    return Pack(sealed("certificate", content)).bundle(0, len(content))


def repacked(bundles: Sequence[Bundle]) -> list[Bundle]:
    """The same contents in one new pack, in the same order; the bundles given stay as they are.
    Raises `OSError`."""
    with sealing("certificates") as fd:
        for one in bundles:
            offset, left = one.offset, one.length
            while left:
                copied = os.sendfile(fd, one.pack.fd, offset, left)
                if copied == 0:
                    raise OSError("a pack is shorter than it was")
                offset, left = offset + copied, left - copied
    pack = Pack(fd)
    offset, made = 0, []
    for one in bundles:
        made.append(pack.bundle(offset, one.length))
        offset += one.length
    return made
