"""The open-file cache of one document root (nginx: open_file_cache).

A *representation* (RFC 9110 §3.2) is one version of a file in one encoding, with the head of its
response already serialised. A small one keeps its bytes and no descriptor; a large one keeps a
descriptor, which all responses that send the file share. Whether the file has changed is looked at
once a second at most. The cache is bounded in number, in bytes and in descriptors; what was not
used lately goes first.

A file that holds a private key in PEM is never sent, whatever its name.

A file that is said to be immutable has an entity tag of its content. A large one must be hashed for
that, which takes longer than the event loop may wait: it is `Unhashed` until somebody has done it.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import field
from email.utils import formatdate

from acme_client.late_dataclass import dataclass

from ...bounded_cache import remember
from ...protocol.h1.serializer import SerialisedHead, serialise
from ...protocol.message import CachedHead, Fields, Response
from .cache_control import CacheControl, is_immutable
from .document_root import Directory, DocumentRoot, Elsewhere, Found, Unreadable
from .media_types import content_type
from .precompressed import NEIGHBOURS, acceptable

# Up to here a file is kept as bytes: one write with its head, and no system call to read it.
SMALL = 64 * 1024
_KEPT_BYTES = 32 * 1024 * 1024  # per document root and worker
_MOST = 4096
_MOST_DESCRIPTORS = 256
# How long a version is trusted, in seconds. nginx: open_file_cache_valid 60s.
_TRUSTED = 1.0

# A key is looked for in that much of a file; a larger one is no key, and hardly a bundle of them.
_KEY_SEARCHED = 1024 * 1024
_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_LONGEST_MARK = 64

Identity = tuple[int, int, int, int]


def identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(slots=True, eq=False)
class Representation:
    """``body`` holds the bytes of a small file, ``response`` the 200 with them, which all share;
    else ``fd`` is open. ``head`` is that of a 200, for the protocol. ``users`` counts the responses
    that are being sent from ``fd``."""

    identity: Identity
    size: int
    modified: int
    etag: bytes
    fields: Fields
    head: CachedHead
    body: bytes | None
    response: Response | None
    fd: int
    checked: float
    users: int = 0
    used: bool = True
    dropped: bool = False

    def release(self) -> None:
        """End the use by one response."""
        self.users -= 1
        self._close_if_over()

    def drop(self) -> None:
        """Close the descriptor as soon as no response uses it any more."""
        self.dropped = True
        self._close_if_over()

    def _close_if_over(self) -> None:
        if self.dropped and not self.users and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@dataclass(frozen=True, slots=True)
class Unhashed:
    """A large file whose content must be hashed first. The caller closes ``fd``."""

    fd: int
    identity: Identity


Key = tuple[bytes, tuple[bytes, ...]]  # the path, and the codings that the client takes
Outcome = Representation | Unhashed | Directory | Elsewhere | Unreadable | None


@dataclass(slots=True)
class FileCache:
    """The representations of one document root. What is kept stays within the bounds above.

    ``hashes``: of large files, by what they are; whoever has hashed one puts it there.
    """

    root: DocumentRoot
    cache_control: CacheControl = field(default_factory=CacheControl)
    hashes: dict[Identity, bytes] = field(default_factory=dict)
    kept: dict[Key, Representation] = field(default_factory=dict)
    _bytes: int = 0
    _descriptors: int = 0

    def get(self, path: bytes, accept_encoding: bytes | None, now: float) -> Outcome:
        """What there is to send for a decoded path relative to the root; ``now`` is monotonic.

        Raises OSError where a file that is not in the cache cannot be opened for want of
        descriptors or memory.
        """
        # Not by the whole field: its length and its spellings are the client's to choose.
        key = (path, acceptable(accept_encoding))
        present = self.kept.get(key)
        if present is not None and now - present.checked < _TRUSTED:
            return present
        try:
            return self._look(key, present, now)
        except OSError:
            if present is None or present.dropped:
                raise
            return present  # what it was a moment ago is better than nothing

    def _look(self, key: Key, present: Representation | None, now: float) -> Outcome:
        """What the file system has at the path now."""
        path, codings = key
        found = self.root.find(path)
        if not isinstance(found, Found):
            self._forget(key)
            return found
        try:
            return self._choose(key, path, found, codings, present, now)
        finally:
            os.close(found.fd)

    def _choose(
        self,
        key: Key,
        path: bytes,
        plain: Found,
        codings: tuple[bytes, ...],
        present: Representation | None,
        now: float,
    ) -> Representation | Unhashed | Unreadable:
        """The plain file, or a neighbour that holds it encoded and is not older than it."""
        best, coding, varies = plain, b"", False
        for name, suffix in NEIGHBOURS:
            try:
                neighbour = self.root.find(path + suffix)
            except OSError:
                if coding:
                    os.close(best.fd)
                raise
            if not isinstance(neighbour, Found):
                continue
            fresh = neighbour.status.st_mtime_ns >= plain.status.st_mtime_ns
            varies = varies or fresh
            if (
                fresh
                and name in codings
                and (not coding or codings.index(name) < codings.index(coding))
            ):
                if coding:
                    os.close(best.fd)
                best, coding = neighbour, name
            else:
                os.close(neighbour.fd)
        try:
            same = present is not None and present.identity == identity(best.status)
            if present is not None and same and _varies(present) == varies:
                present.checked = now
                return present
            self._forget(key)
            if holds_private_key(plain):
                return Unreadable(f"{self.root.name(path)} holds a private key, and is never sent")
            said = self.cache_control.of(path)
            content = b""
            if said and is_immutable(said) and best.status.st_size > SMALL:
                content = self.hashes.get(identity(best.status), b"")
                if not content:
                    return Unhashed(os.dup(best.fd), identity(best.status))
            made = _make(path, best, coding, varies, now, said, content)
            self._keep(key, made)
            return made
        finally:
            if coding:
                os.close(best.fd)

    def learn(self, unhashed: Unhashed, content: bytes) -> None:
        """Keep the hash of a large file."""
        remember(self.hashes, unhashed.identity, content, _MOST)

    def _keep(self, key: Key, made: Representation) -> None:
        self._bytes += made.size if made.body is not None else 0
        self._descriptors += made.body is None
        self.kept[key] = made
        if self._full():
            self._make_room(key)

    def _full(self) -> bool:
        return (
            self._bytes > _KEPT_BYTES
            or self._descriptors > _MOST_DESCRIPTORS
            or len(self.kept) > _MOST
        )

    def _make_room(self, newest: Key) -> None:
        """Drop entries until the cache is within its bounds: first those that were not used since
        the last time (second chance), then any."""
        for spare_used in (True, False):
            for key, one in list(self.kept.items()):
                if key == newest or (spare_used and one.used):
                    one.used = False
                    continue
                self._forget(key)
                if not self._full():
                    return

    def _forget(self, key: Key) -> None:
        gone = self.kept.pop(key, None)
        if gone is not None:
            self._bytes -= gone.size if gone.body is not None else 0
            self._descriptors -= gone.body is None
            gone.drop()

    def close(self) -> None:
        for key in list(self.kept):
            self._forget(key)


def _varies(one: Representation) -> bool:
    return any(name == b"vary" for name, _ in one.fields)


def content_hash(fd: int) -> bytes:
    """A hash of all that an open file holds. Reads it."""
    made, at = hashlib.sha256(), 0
    while piece := os.pread(fd, 1024 * 1024, at):
        made.update(piece)
        at += len(piece)
    return made.hexdigest()[:32].encode()


def holds_private_key(found: Found) -> bool:
    """Whether the file holds a private key. It is looked for in the plain file, also where an
    encoded neighbour is sent."""
    at, carried = 0, b""
    while at < _KEY_SEARCHED:
        piece = os.pread(found.fd, 64 * 1024, at)
        if not piece:
            return False
        if _PRIVATE_KEY.search(carried + piece):
            return True
        carried = piece[-_LONGEST_MARK:]
        at += len(piece)
    return False


def _make(
    path: bytes,
    found: Found,
    coding: bytes,
    varies: bool,
    now: float,
    cache_control: bytes,
    content: bytes,
) -> Representation:
    """``content`` is the hash of a large file whose entity tag is one of its content."""
    status = found.status
    body: bytes | None = None
    if status.st_size <= SMALL:
        body = os.pread(found.fd, SMALL + 1, 0)
    # What was read may be newer than what was looked at: then it counts as what it is, and the
    # next look finds that it differs.
    size = status.st_size if body is None else len(body)
    modified = status.st_mtime_ns // 1_000_000_000
    if cache_control and is_immutable(cache_control) and body is not None:
        content = hashlib.sha256(body).hexdigest()[:32].encode()
    if content:
        etag = b'"%b"' % content  # encoded bytes are other content
    else:
        etag = b'"%x-%x-%x' % (status.st_ino, size, status.st_mtime_ns)
        etag += b"-" + coding + b'"' if coding else b'"'
    fields: Fields = [
        (b"content-type", content_type(path)),
        (b"content-length", b"%d" % size),
        (b"last-modified", formatdate(modified, usegmt=True).encode("ascii")),
        (b"etag", etag),
        (b"accept-ranges", b"bytes"),
    ]
    if cache_control:
        fields.append((b"cache-control", cache_control))
    if coding:
        fields.append((b"content-encoding", coding))
    if varies:
        fields.append((b"vary", b"accept-encoding"))
    head = SerialisedHead(serialise(200, fields))
    response = None
    if body is not None:
        response = Response(200, fields, body, handler="static", cached=head, shared=True)
    return Representation(
        identity=identity(status),
        size=size,
        modified=modified,
        etag=etag,
        fields=fields,
        head=head,
        body=body,
        response=response,
        fd=-1 if body is not None else os.dup(found.fd),
        checked=now,
    )
