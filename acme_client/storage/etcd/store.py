"""Keeps a store (`storage.store`) on etcd: documents under keys, steps as transactions.

A folder "certificates/example.org" lies below "/treehouse/NAME/certificates/example.org/":

    :together    its files that are stored together, in one sealed document
    :before      what was there before that
    meta.json    a file that was stored alone

and beside the folders ":lock/certificates/example.org" and ":session/LEASE", which vanish with
their writer. A step reads what it will change, and is refused by the engine when anything of that
is another thing meanwhile, or when the key of the lock that it is made under is not the one that
its holder has made: the key's revision of creation is the lock's token.

Nothing is kept in memory but our lease; what is read is read with a quorum.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ..store import (
    ANYTHING,
    Changes,
    Conflict,
    Edit,
    Fenced,
    Files,
    Lock,
    Names,
    Unreadable,
    demand_known,
)
from .api import Answer, EtcdApi, below, decoded, encoded, number
from .lease import LASTS, Lease
from .operations import (
    Operation,
    changed_at,
    created_at,
    has_value,
    none_later,
    reading,
    removal,
    writing,
)
from .passage import steady_time
from .sealing import NotOpened, Seals
from .watch import Value, Watch

_TOGETHER, _BEFORE = ":together", ":before"
_LOCK, _SESSION = ":lock/", ":session/"
# Operations that a transaction may have by the engine's default, `--max-txn-ops`.
_OPERATIONS_MOST = 128
_TRIES = 20
# Keys that are read at a time: with few, others need not wait while a machine reads thousands.
_PAGE = 200
# What is to pass away by itself has one lease for so many seconds: each costs the engine a write.
_LEASE_SHARED_FOR = 60.0

# Said here, because `list` means something else inside the class.
Operations = list[Operation]
Numbers = list[int]


class Folder(NamedTuple):
    """The keys of one folder: sealed values by the last part of a key, and their revisions."""

    values: dict[str, bytes]
    revisions: dict[str, int]
    at: int = 0  # the store's revision when it was read

    @property
    def mark(self) -> object:
        return tuple(sorted(self.revisions.items()))


class Followed(NamedTuple):
    """A file that is kept in memory, and the revision of the store at which it was written."""

    data: bytes | Unreadable
    revision: int


class EtcdStore:
    """``prefix`` is "/treehouse/NAME/"; ``lasts`` a lease's seconds; ``lost`` is called, by any
    thread, when the engine has ended our session."""

    def __init__(
        self,
        api: EtcdApi,
        prefix: str,
        seals: Seals,
        lasts: int = LASTS,
        lost: Callable[[], object] = lambda: None,
    ) -> None:
        self.api = api
        self.prefix = prefix
        self._seals = seals
        self._lasts = lasts
        self._lost = lost
        self._beginning = threading.Lock()
        self._lease: Lease | None = None
        self._watches: list[Watch] = []
        self._passing: dict[float, tuple[int, float]] = {}  # leases of what is to pass away
        # Keys of locks that nobody holds, which the engine has still, or may have: it has not been
        # heard when they were given back, or not in time when they were taken. Each with the
        # condition that it is that lock.
        self._left: list[tuple[str, Operation]] = []

    # Reading

    def list(self, folder: str) -> Names:
        start = f"{self.prefix}{folder}/"
        keys = [key.removeprefix(start) for key, _value, _at in self._range(start, keys_only=True)]
        return sorted({one.partition("/")[0] for one in keys if "/" in one})

    def load(self, folder: str) -> dict[str, bytes]:
        return self._files(folder, self._folder(folder))

    def load_all(self, folder: str) -> Iterator[tuple[str, dict[str, bytes] | Unreadable]]:
        """Yield all folders in this one: name, files. What cannot be opened is yielded in the place
        of the files. No more than a page of them is in memory."""
        # The keys of a folder come one after the other: they begin alike, up to a slash.
        for name, several in itertools.groupby(self._keys_within(folder), lambda one: one[0]):
            seen = Folder({}, {})
            for _name, last, value, revision in several:
                seen.values[last], seen.revisions[last] = value, revision
            yield name, self._files_or_fault(f"{folder}/{name}", seen)

    def _keys_within(self, folder: str) -> Iterator[tuple[str, str, bytes, int]]:
        """Yield the keys of the folders in this one: the folder's name, the key's last part, value,
        revision."""
        start = f"{self.prefix}{folder}/"
        for key, value, revision in self._range(start):
            name, slash, last = key.removeprefix(start).partition("/")
            if slash and "/" not in last:
                yield name, last, value, revision

    def load_alone(self, folder: str) -> tuple[dict[str, bytes | Unreadable], int]:
        """Return the files of a folder that were stored alone, each for itself, and the revision of
        the store at which they were these."""
        found: dict[str, bytes | Unreadable] = {}
        seen = self._folder(folder)
        for last, value in seen.values.items():
            found[last] = self._tried(folder, last, value)
        return found, seen.at

    def previous(self, folder: str) -> dict[str, bytes]:
        return self._opened_together(folder, self._folder(folder), _BEFORE)

    def mark(self, folder: str) -> object:
        return self._folder(folder, keys_only=True).mark

    # Writing

    def store(self, folder: str, files: Files) -> None:
        self.change([Edit(folder, files)])

    def change(self, edits: Sequence[Edit], by: Lock | None = None) -> None:
        for edit in edits:
            demand_known(edit.folder)

        def compose() -> tuple[Operations, Operations]:
            folders: dict[str, Folder] = {}
            compares: Operations = []
            operations: dict[str, Operation] = {}
            for edit in edits:
                if edit.folder not in folders:
                    seen = folders[edit.folder] = self._folder(edit.folder)
                    compares += self._is_still(edit.folder, seen)
                if edit.replaces is not ANYTHING and folders[edit.folder].mark != edit.replaces:
                    self.api.figures.conflict()
                    raise Conflict(errno.EEXIST, "it has changed meanwhile", edit.folder)
                if edit.files:
                    self._put_files(edit.folder, folders[edit.folder], edit.files, operations)
                else:
                    for last in folders[edit.folder].values:
                        key = self._key(edit.folder, last)
                        operations[key] = removal(key)
                    folders[edit.folder].values.clear()
            return compares, list(operations.values())

        self._try(compose, by)

    def append(self, folder: str, file: str, data: bytes) -> None:
        demand_known(folder)

        def compose() -> tuple[Operations, Operations]:
            seen = self._folder(folder)
            before = self._opened(folder, file, seen.values[file]) if file in seen.values else b""
            return self._is_still(folder, seen), [self._put(folder, file, before + data)]

        self._try(compose)

    def delete(self, folder: str, file: str | None = None) -> None:
        def compose() -> tuple[Operations, Operations]:
            seen = self._folder(folder)
            compares = self._is_still(folder, seen)
            if file is None:
                return compares, [removal(self._key(folder, last)) for last in seen.values]
            operations: Operations = []
            if file in seen.values:
                return [], [removal(self._key(folder, file))]
            held = self._opened_together(folder, seen, _TOGETHER)
            if held.pop(file, None) is not None:
                operations.append(self._put(folder, _TOGETHER, _joined(held)))
            return compares, operations

        self._try(compose)

    def put_while_here(self, folder: str, file: str, data: bytes) -> int:
        """Store a file alone that vanishes with our session; returns the revision of the store at
        which it is there."""
        operation = self._put(folder, file, data, self._session().name)
        answer = self._transaction([], [operation])
        return number(answer.get("header", {}).get("revision"))

    def put_for(self, folder: str, file: str, data: bytes, seconds: float) -> None:
        """Store a file alone that the engine deletes by itself, at the earliest after these seconds
        and a minute later at the latest, whether or not we live. Raises OSError."""
        now = time.monotonic()
        with self._beginning:
            lease, since = self._passing.get(seconds, (0, 0.0))
            if not lease or now > since + _LEASE_SHARED_FOR:
                lasts = math.ceil(seconds + _LEASE_SHARED_FOR)
                lease = number(self.api.call("/v3/lease/grant", {"TTL": lasts}).get("ID"))
                self._passing[seconds] = lease, now
        try:
            self._transaction([], [self._put(folder, file, data, lease)])
        except OSError:
            self._passing.pop(seconds, None)  # an engine that was restored does not know it
            raise

    # Locks and sessions

    def lock(self, folder: str, lease: float) -> Lock | None:
        self.give_back()
        held = self._session()
        key = self._lock_key(folder)
        ours = secrets.token_hex(8)
        put = writing(key, ours.encode(), lease=str(held.name))
        try:
            answer = self._transaction([created_at(key, 0)], [put], [reading(key)])
        except OSError:
            self._left.append((key, has_value(key, ours.encode())))
            raise
        if answer.get("succeeded"):
            return _EtcdLock(self, key, number(answer["header"].get("revision")), held)
        # A call that was made twice, because its first answer was lost, finds its own lock.
        for found in answer["responses"][0].get("response_range", {}).get("kvs", ()):
            if decoded(found.get("value")) == ours.encode():
                return _EtcdLock(self, key, number(found.get("create_revision")), held)
        return None

    def give_back(self) -> None:
        """Give back the locks that the engine has not heard of that they are nobody's. They would
        not end by themselves, because our session goes on. Raises OSError."""
        while self._left:
            key, condition = self._left[0]
            self._transaction([condition], [removal(key)])
            with contextlib.suppress(ValueError):  # another thread was faster
                self._left.remove((key, condition))

    def _kept(self) -> None:
        """Our session goes on: the engine can be heard again, perhaps."""
        with contextlib.suppress(OSError):
            self.give_back()

    def _lock_key(self, folder: str) -> str:
        return f"{self.prefix}{_LOCK}{folder}"

    def seal_anew(self) -> tuple[int, Names]:
        """Seal everything with the first secret; returns how many documents were, and the keys of
        those that cannot be opened. What another machine writes meanwhile stays. Raises
        OSError."""
        done, closed = 0, []
        for key, value, revision in self._range(self.prefix):
            rest = key.removeprefix(self.prefix)
            if rest.startswith((_SESSION, _LOCK)) or not value:
                continue
            folder = rest.rpartition("/")[0]
            try:
                sealed = self._seals.seal(key, folder, self._seals.open(key, folder, value))
            except NotOpened:
                closed.append(key)
                continue
            # The lease stays what it is.
            put = writing(key, sealed, ignore_lease=True)
            answer = self._transaction([changed_at(key, revision)], [put])
            done += bool(answer.get("succeeded"))
        return done, closed

    def session(self) -> str:
        return f"{self._session().name:x}"

    def is_ours(self, mark: str) -> bool:
        lease = self._lease
        return lease is not None and mark == f"{lease.name:x}"

    def is_over(self, mark: str) -> bool:
        if self.is_ours(mark):
            return False
        return not self._exists(f"{self.prefix}{_SESSION}{mark}")

    def _session(self) -> Lease:
        with self._beginning:
            if self._lease is None or not self._lease.lives():
                lease = Lease.begun(self.api, self._lasts, self._lost, self._kept)
                key = f"{self.prefix}{_SESSION}{lease.name:x}"
                put = {"key": encoded(key), "value": "", "lease": str(lease.name)}
                self.api.call("/v3/kv/put", put)
                self._lease = lease
            return self._lease

    # Others

    def watch(self, folder: str, wake: Callable[[], object] | None = None) -> Changes:
        watch = Watch(self.api, f"{self.prefix}{folder}/", wake or (lambda: None))
        self._watches.append(watch)
        return watch.changed

    def follow(
        self, folder: str, wake: Callable[[], object]
    ) -> tuple[Changes, Callable[[], dict[str, Followed]]]:
        """Watch a folder of small files that were stored alone, and keep them in memory: where they
        change all the time nobody asks for them. Returns what `watch` returns, and a function that
        returns the files, each for itself, as far as they have been heard of. Raises OSError."""
        start = f"{self.prefix}{folder}/"
        watch = Watch(self.api, start, wake, keeps_values=True)
        self._watches.append(watch)
        opened: dict[str, tuple[Value, Followed]] = {}

        def files() -> dict[str, Followed]:
            nonlocal opened
            before, opened = opened, {}
            for key, sealed in watch.values().items():
                last = key.removeprefix(start)
                if "/" in last or last.startswith(":"):
                    continue
                known = before.get(last)
                if known is None or known[0] != sealed:
                    found = self._tried(folder, last, sealed.data)
                    known = (sealed, Followed(found, sealed.revision))
                opened[last] = known
            return {last: found for last, (_sealed, found) in opened.items()}

        return watch.changed, files

    def _tried(self, folder: str, last: str, sealed: bytes) -> bytes | Unreadable:
        try:
            return self._opened(folder, last, sealed)
        except Unreadable as fault:
            return fault

    def written_last(self, folder: str) -> int:
        """Return the store's revision at which something that is in a folder was written last; 0
        where nothing is. Raises OSError."""
        asked = {
            **below(f"{self.prefix}{folder}/"),
            "sort_order": "DESCEND", "sort_target": "MOD", "limit": "1", "keys_only": True,
        }  # fmt: skip
        for pair in self.api.call("/v3/kv/range", asked).get("kvs") or ():
            return number(pair.get("mod_revision"))
        return 0

    def age(self, revision: int) -> float | None:
        """Return how many seconds ago a revision was written at most; None where it is not
        known."""
        after = self.api.passage.written_after(revision)
        return None if after is None else steady_time() - after

    def heard(self, folder: str) -> int:
        """Return the engine's revision up to which a folder that is watched has been heard of; 0
        for one that is not."""
        start = f"{self.prefix}{folder}/"
        return min((one.revision for one in self._watches if one.prefix == start), default=0)

    def tidy(self) -> None:
        """Nothing is left by writers that are interrupted."""

    def close(self) -> None:
        with self._beginning:
            lease, self._lease = self._lease, None
            watches, self._watches = self._watches, []
        for watch in watches:
            watch.close()
        if lease is not None and not self.api.fault:  # else the engine would not hear it
            with contextlib.suppress(OSError):  # it ends by itself
                lease.end()
        self.api.close()

    # Inside

    def _key(self, folder: str, last: str) -> str:
        return f"{self.prefix}{folder}/{last}"

    def _exists(self, key: str) -> bool:
        answer = self.api.call("/v3/kv/range", {"key": encoded(key), "count_only": True})
        return number(answer.get("count")) > 0

    def _range(
        self, start: str, *, keys_only: bool = False, at: Numbers | None = None
    ) -> Iterator[tuple[str, bytes, int]]:
        """Read all keys that begin so, in pages: key, value, revision. ``at`` takes the store's
        revision of each page."""
        span = below(start)
        while True:
            asked = {**span, "limit": str(_PAGE), "keys_only": keys_only}
            answer = self.api.call("/v3/kv/range", asked)
            pairs = answer.get("kvs") or []
            if at is not None:
                at.append(number(answer.get("header", {}).get("revision")))
            for one in pairs:
                key = decoded(one.get("key")).decode("utf-8", "replace")
                yield key, decoded(one.get("value")), number(one.get("mod_revision"))
            if not answer.get("more") or not pairs:
                return
            last = decoded(pairs[-1].get("key"))
            span = {**span, "key": encoded(last + b"\0")}

    def _folder(self, folder: str, *, keys_only: bool = False) -> Folder:
        found = Folder({}, {})
        start = f"{self.prefix}{folder}/"
        at: Numbers = []
        for key, value, revision in self._range(start, keys_only=keys_only, at=at):
            last = key.removeprefix(start)
            if "/" not in last:
                found.values[last], found.revisions[last] = value, revision
        return found._replace(at=at[0])

    def _is_still(self, folder: str, seen: Folder) -> Operations:
        """Conditions that a folder is as it was seen: its keys, and no others."""
        latest = max(seen.revisions.values(), default=0)
        start = self._key(folder, "")
        # Names of files sort before "0": a folder within this one is another matter, but then it
        # has no files of its own.
        return [
            none_later(start, latest),
            *(
                changed_at(self._key(folder, last), revision)
                for last, revision in seen.revisions.items()
            ),
        ]

    def _put_files(
        self, folder: str, seen: Folder, files: Files, operations: dict[str, Operation]
    ) -> None:
        try:
            held = self._opened_together(folder, seen, _TOGETHER)
        except Unreadable:
            held = {}  # it makes way
        if len(files) == 1 and not held.keys() & files.keys():
            for name, data in files.items():
                operations[self._key(folder, name)] = self._put(folder, name, data, into=seen)
            return
        if held:
            joined = _joined(held)
            operations[self._key(folder, _BEFORE)] = self._put(folder, _BEFORE, joined, into=seen)
        joined = _joined({**held, **files})
        operations[self._key(folder, _TOGETHER)] = self._put(folder, _TOGETHER, joined, into=seen)

    def _put(
        self, folder: str, last: str, data: bytes, lease: int = 0, into: Folder | None = None
    ) -> Operation:
        key = self._key(folder, last)
        sealed = self._seals.seal(key, folder, data)
        if into is not None:
            into.values[last] = sealed
        return writing(key, sealed, lease=str(lease))

    def _opened(self, folder: str, last: str, sealed: bytes) -> bytes:
        key = self._key(folder, last)
        try:
            return self._seals.open(key, folder, sealed)
        except NotOpened as why:
            raise Unreadable(errno.EBADMSG, f"{key} cannot be used: {why}") from None

    def _opened_together(self, folder: str, seen: Folder, last: str) -> dict[str, bytes]:
        if last not in seen.values:
            return {}
        data = self._opened(folder, last, seen.values[last])
        try:
            return _parted(data)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Unreadable(errno.EBADMSG, f"{self._key(folder, last)} is no document") from None

    def _files_or_fault(self, folder: str, seen: Folder) -> dict[str, bytes] | Unreadable:
        try:
            return self._files(folder, seen)
        except Unreadable as fault:
            return fault

    def _files(self, folder: str, seen: Folder) -> dict[str, bytes]:
        alone = {
            last: self._opened(folder, last, value)
            for last, value in seen.values.items()
            if not last.startswith(":")
        }
        return alone | self._opened_together(folder, seen, _TOGETHER)

    def _try(
        self,
        compose: Callable[[], tuple[Operations, Operations]],
        by: Lock | None = None,
    ) -> None:
        """Make a step that depends on what it has read; again while other writers are faster."""
        fence = _fence(by)
        if by is not None and not by.holds():
            self.api.figures.fenced()
            raise Fenced(errno.EPERM, "the lock has been lost")
        for _attempt in range(_TRIES):
            compares, operations = compose()
            if not operations and not fence:
                return
            asked = [{"request_range": {"key": one["key"]}} for one in fence]
            answer = self._transaction([*fence, *compares], operations, asked)
            if answer.get("succeeded"):
                return
            for response, one in zip(answer.get("responses") or (), fence, strict=False):
                found = response.get("response_range", {}).get("kvs") or [{}]
                if number(found[0].get("create_revision")) != number(one["create_revision"]):
                    self.api.figures.fenced()
                    raise Fenced(errno.EPERM, "the lock has been lost")
            self.api.figures.conflict()
        raise Conflict(errno.EAGAIN, "others change it all the time")

    def _transaction(
        self,
        compares: Sequence[Operation],
        operations: Sequence[Operation],
        otherwise: Sequence[Operation] = (),
    ) -> Answer:
        if max(len(compares), len(operations)) > _OPERATIONS_MOST:
            raise OSError(errno.E2BIG, f"more than {_OPERATIONS_MOST} keys change in one step")
        said = {"compare": compares, "success": operations, "failure": otherwise}
        return self.api.call("/v3/kv/txn", said)


class _EtcdLock:
    def __init__(self, store: EtcdStore, key: str, token: int, lease: Lease) -> None:
        self.token = token
        self.key = key
        self._store = store
        self._lease = lease
        self._given_back = False

    def holds(self) -> bool:
        return not self._given_back and self._lease.lives()

    def release(self) -> None:
        self._given_back = True
        try:
            self._store._transaction(_fence(self), [removal(self.key)])
        except OSError:
            self._store._left.append((self.key, created_at(self.key, self.token)))
            raise


def _fence(by: object) -> Operations:
    """The condition that a lock is its holder's still."""
    if not isinstance(by, _EtcdLock):
        return []
    return [created_at(by.key, by.token)]


def _joined(files: Files) -> bytes:
    """Encode files in one document: a line with their lengths, and then their contents."""
    head = json.dumps({name: len(data) for name, data in files.items()})
    return head.encode() + b"\n" + b"".join(files.values())


def _parted(data: bytes) -> dict[str, bytes]:
    head, _newline, rest = data.partition(b"\n")
    files = {}
    for name, length in json.loads(head).items():
        files[str(name)], rest = rest[:length], rest[length:]
    return files
