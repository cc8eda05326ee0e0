"""Contexts of certificates, made when a client first asks and kept while clients go on asking.

A context takes 20 KiB and most of a millisecond; a server may have ten thousand certificates, of
which a few hundred are asked for in an hour. So what is kept of each is where its bytes lie, and
the contexts of those that were asked for last.
"""

from __future__ import annotations

import os
import ssl
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

# 20 MiB in each worker, at most.
MOST = 1000

Key = TypeVar("Key")


class Bundle(Protocol):
    """A certificate's chain and key, wherever they lie."""

    def content(self) -> bytes:
        """Chain and key, in PEM."""
        ...

    def release(self) -> None:
        """Say that it is not needed any more. Once."""
        ...


class ContextCache(Generic[Key]):
    """``make`` makes a context; what it raises is the caller's."""

    def __init__(self, make: Callable[[Key], ssl.SSLContext], most: int = MOST) -> None:
        self._make = make
        self._most = most
        self._kept: OrderedDict[Key, ssl.SSLContext] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key) -> ssl.SSLContext:
        """The context, made now if it was not asked for lately."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        made = self._kept[key] = self._make(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return made

    def drop(self, key: Key) -> None:
        """Forget a context. Connections that began with it keep it."""
        self._kept.pop(key, None)


def load(context: ssl.SSLContext, bundles: Iterable[Bundle]) -> None:
    """Give a context its certificates. Raises `ssl.SSLError` where OpenSSL does not take one, and
    `OSError` where there is no descriptor or no memory left.

    `ssl` loads from paths alone: a certificate lies for that moment in a memfd of this process.
    """
    for bundle in bundles:
        fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(bundle.content())
            context.load_cert_chain(f"/proc/self/fd/{fd}", password=_no_passphrase)
        finally:
            os.close(fd)


def _no_passphrase() -> bytes:
    """Answer OpenSSL's question for a passphrase, which it would else ask at the terminal."""
    return b""
