"""Keeps a store (`storage.store`) on etcd: documents under keys, steps as transactions.

A folder "certificates/example.org" lies below "/treehouse/NAME/certificates/example.org/":

    :together    its files that are stored together, in one sealed document
    :before      what was there before that
    meta.json    a file that was stored alone

A step reads what it will change, and is refused by the engine when anything of that is another
thing meanwhile, or when the lock that it is made under is not its holder's any more.

Nothing is kept in memory but our session (`sessions`), and what is followed; what is read is read
with a quorum.
"""

from __future__ import annotations

import errno
import itertools
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
from .api import EtcdApi, below, decoded, encoded, number
from .folders import BEFORE, TOGETHER, Folder, is_alone, joined, parted
from .lease import LASTS
from .operations import (
    Operation,
    changed_at,
    has_lease,
    none_later,
    reading,
    removal,
    transact,
    writing,
)
from .passage import steady_time
from .place import Place
from .sealing import NotOpened, Seals
from .sessions import Sessions, fence, is_of_a_session
from .watch import Value, Watch

_TRIES = 20
# Keys that are read at a time: with few, others need not wait while a machine reads thousands.
_PAGE = 200

# Said here, because `list` means something else inside the class.
Operations = list[Operation]
Numbers = list[int]


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
        self._sessions = Sessions(api, prefix, lasts, lost)
        self._watches: list[Watch] = []

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
        return self._opened_together(folder, self._folder(folder), BEFORE)

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
            held = self._opened_together(folder, seen, TOGETHER)
            if held.pop(file, None) is not None:
                operations.append(self._put(folder, TOGETHER, joined(held)))
            return compares, operations

        self._try(compose)

    def put_while_here(self, folder: str, file: str, data: bytes) -> int:
        """Store a file alone that vanishes with our session; returns the revision of the store at
        which it is there."""
        operation = self._put(folder, file, data, self._sessions.lease().name)
        answer = transact(self.api, [], [operation])
        return number(answer.get("header", {}).get("revision"))

    def delete_ours(self, folder: str, file: str) -> bool:
        """Delete a file that was put while we are here; returns False where it is another session's
        by now, and stays. Raises OSError."""
        key = self._key(folder, file)
        ours = [has_lease(key, self._sessions.lease().name)]
        answer = transact(self.api, ours, [removal(key)], [reading(key)])
        if answer.get("succeeded"):
            return True
        (found,) = answer["responses"]
        return not found.get("response_range", {}).get("kvs")

    def put_for(self, folder: str, file: str, data: bytes, seconds: float) -> None:
        """Store a file alone that the engine deletes by itself, at the earliest after these seconds
        and a minute later at the latest, whether or not we live. Raises OSError."""
        lease = self._sessions.passing(seconds)
        try:
            transact(self.api, [], [self._put(folder, file, data, lease)])
        except OSError:
            self._sessions.forget_passing(seconds)
            raise

    def sealed_otherwise(self, folder: str) -> Names:
        """Name the files of a folder, stored alone, that the first secret has not sealed. Raises
        OSError."""
        found = self._folder(folder).values
        return [last for last, value in found.items() if not self._seals.is_first(folder, value)]

    def seal_anew(self) -> tuple[int, Names]:
        """Seal everything with the first secret; returns how many documents were, and the keys of
        those that cannot be opened. What another machine writes meanwhile stays. Raises
        OSError."""
        done, closed = 0, []
        for key, value, revision in self._range(self.prefix):
            rest = key.removeprefix(self.prefix)
            if is_of_a_session(rest) or not value:
                continue
            folder = rest.rpartition("/")[0]
            try:
                sealed = self._seals.seal(key, folder, self._seals.open(key, folder, value))
            except NotOpened:
                closed.append(key)
                continue
            # The lease stays what it is.
            put = writing(key, sealed, ignore_lease=True)
            answer = transact(self.api, [changed_at(key, revision)], [put])
            done += bool(answer.get("succeeded"))
        return done, closed

    # Locks and sessions

    def lock(self, folder: str, lease: float) -> Lock | None:
        return self._sessions.lock(folder)

    def give_back(self) -> None:
        """Give back the locks that the engine has not heard of that they are nobody's. Raises
        OSError."""
        self._sessions.give_back()

    def session(self) -> str:
        return f"{self._sessions.lease().name:x}"

    def is_ours(self, mark: str) -> bool:
        return self._sessions.is_ours(mark)

    def is_over(self, mark: str) -> bool:
        return self._sessions.is_over(mark)

    # Watches

    def watch(self, folder: str, wake: Callable[[], object] | None = None) -> Changes:
        watch = Watch(self.api, f"{self.prefix}{folder}/", wake or (lambda: None))
        self._watches.append(watch)
        return watch.changed

    def watch_from(self, folder: str, wake: Callable[[], object], place: Place | None) -> Watch:
        """Watch a folder, and go on from a place if the engine knows it. Raises OSError."""
        watch = Watch(self.api, f"{self.prefix}{folder}/", wake, place=place)
        self._watches.append(watch)
        return watch

    def fingerprint(self) -> str:
        """Tell the secret that seals from others."""
        return self._seals.fingerprint()

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
                if not is_alone(last):
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
        watches, self._watches = self._watches, []
        for watch in watches:
            watch.close()
        self._sessions.end()
        self.api.close()

    # Inside

    def _key(self, folder: str, last: str) -> str:
        return f"{self.prefix}{folder}/{last}"

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
            held = self._opened_together(folder, seen, TOGETHER)
        except Unreadable:
            held = {}  # it makes way
        if len(files) == 1 and not held.keys() & files.keys():
            for name, data in files.items():
                operations[self._key(folder, name)] = self._put(folder, name, data, into=seen)
            return
        if held:
            before = self._put(folder, BEFORE, joined(held), into=seen)
            operations[self._key(folder, BEFORE)] = before
        together = self._put(folder, TOGETHER, joined({**held, **files}), into=seen)
        operations[self._key(folder, TOGETHER)] = together

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
            return parted(data)
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
            if is_alone(last)
        }
        return alone | self._opened_together(folder, seen, TOGETHER)

    def _try(
        self,
        compose: Callable[[], tuple[Operations, Operations]],
        by: Lock | None = None,
    ) -> None:
        """Make a step that depends on what it has read; again while other writers are faster."""
        held = fence(by)
        if by is not None and not by.holds():
            self.api.figures.fenced()
            raise Fenced(errno.EPERM, "the lock has been lost")
        for _attempt in range(_TRIES):
            compares, operations = compose()
            if not operations and not held:
                return
            asked = [{"request_range": {"key": one["key"]}} for one in held]
            answer = transact(self.api, [*held, *compares], operations, asked)
            if answer.get("succeeded"):
                return
            for response, one in zip(answer.get("responses") or (), held, strict=False):
                found = response.get("response_range", {}).get("kvs") or [{}]
                if number(found[0].get("create_revision")) != number(one["create_revision"]):
                    self.api.figures.fenced()
                    raise Fenced(errno.EPERM, "the lock has been lost")
            self.api.figures.conflict()
        raise Conflict(errno.EAGAIN, "others change it all the time")
