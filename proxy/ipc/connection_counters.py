"""Counts connections, in all and for each address, over all workers of all generations.

Each worker writes into a region of its own and reads everybody's, so there is no lock that a dead
or stopped worker could keep, and no count that two could write. A worker counts itself first and
looks at the sum then; two that do so in the same moment may both step back, and none goes beyond
the limit. What a killed worker leaves behind is wiped by the supervisor when it is reaped.

A region holds words of eight bytes, each written at once: a few totals, then buckets of eight words
(a cache line), each a tag and a count. An address has two buckets, by a hash with a secret that
nobody outside knows, and takes a word in the emptier one; of as many words as twice the connections
there may be, one is always free.

A generation's regions lie in a memfd that is made before its workers are forked: they inherit its
mapping, and those of the generations that still drain. The workers that serve until then are sent
the descriptor, because both accept for a moment. A successor (`supervisor.upgrade`) counts anew:
what its predecessor finishes is not in its sums.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
from collections.abc import Iterable

# The totals, by their place.
CONNECTIONS, TUNNELS = 0, 1
_WAYS = 8  # words in a bucket: 64 bytes
_HEAD = 8  # the totals have a line of their own
_COUNT_BITS = 20
_COUNT = (1 << _COUNT_BITS) - 1
_TAGS = (1 << 44) - 1
_LEAST_BUCKETS = 16
# A worker is ahead with so many connections more than five quarters of the mean.
_AHEAD = 4
# Nobody can shorten what others have mapped.
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class CounterMemory:
    """The memory in which the workers of one generation count: a region for each of ``workers``,
    with so many ``buckets`` (a power of two)."""

    def __init__(self, fd: int, workers: int, buckets: int) -> None:
        """``fd`` stays the caller's."""
        self.workers = workers
        self.buckets = buckets
        self.size = _HEAD + buckets * _WAYS  # of a region, in words
        self._map = mmap.mmap(fd, workers * self.size * 8)
        self.words = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls, workers: int, connections: int) -> tuple[CounterMemory, int]:
        """Make an empty one, in which each worker has room for all the connections there may be.
        Returns its memfd as well, which the caller closes."""
        buckets = _LEAST_BUCKETS
        while buckets * _WAYS < 2 * connections:
            buckets *= 2
        fd = os.memfd_create("counters", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, workers * (_HEAD + buckets * _WAYS) * 8)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            return cls(fd, workers, buckets), fd
        except BaseException:
            os.close(fd)
            raise

    def at(self, number: int) -> int:
        """Where the region of worker ``number`` (from 1) begins."""
        return (number - 1) * self.size

    def regions(self) -> list[tuple[memoryview[int], int, int]]:
        """Of each: the words that it is in, where it begins there, and the mask for its buckets."""
        return [
            (self.words, self.at(number), self.buckets - 1) for number in range(1, self.workers + 1)
        ]

    def clear(self, number: int) -> None:
        """Wipe what a worker has counted: it has ended, however it ended."""
        begin = self.at(number) * 8
        self._map[begin : begin + self.size * 8] = bytes(self.size * 8)

    def close(self) -> None:
        self.words.release()
        with contextlib.suppress(BufferError):
            self._map.close()


class ConnectionCounters:
    """What worker ``number`` of the generation ``own`` counts and sees. ``others``: the generations
    that live beside it. ``secret`` is the same for all."""

    def __init__(
        self, own: CounterMemory, number: int, others: Iterable[CounterMemory], secret: bytes
    ) -> None:
        self._words = own.words
        self._workers = own.workers
        self._total = 0  # of connections, when one was counted last
        self._at = own.at(number)
        self._mask = own.buckets - 1
        self._regions = [one for memory in (own, *others) for one in memory.regions()]
        self._secret = secret
        self._places: dict[str, int] = {}  # the word that an address has in our region
        # The address whose last connection has ended last, its place then, and its tag as in a
        # word: it often comes again at once.
        self._latest = ("", 0, 0)

    @classmethod
    def for_one_worker(cls, connections: int) -> ConnectionCounters:
        """Counters for a single worker (tests)."""
        own, fd = CounterMemory.create(1, connections)
        os.close(fd)
        return cls(own, 1, (), b"")

    def add_generation(self, memory: CounterMemory) -> None:
        """See the counts of another generation as well: its workers accept from now on."""
        self._regions += memory.regions()

    # Totals

    def acquire(self, kind: int, most: int) -> bool:
        """Count one more, unless there were more than ``most`` in all workers then. Whether it was
        counted; if so, `release` must follow."""
        self._words[self._at + kind] += 1
        total = self.total(kind)
        if kind == CONNECTIONS:
            self._total = total
        if total <= most:
            return True
        self.release(kind)
        return False

    def ahead(self) -> bool:
        """Whether this worker has many more connections than the mean, as of the last that was
        counted."""
        return (self._words[self._at + CONNECTIONS] - _AHEAD) * self._workers * 4 > self._total * 5

    def release(self, kind: int) -> None:
        self._words[self._at + kind] -= 1

    def total(self, kind: int) -> int:
        found = 0
        for words, at, _mask in self._regions:
            found += words[at + kind]
        return found

    # Addresses

    def acquire_for(self, address: str, most: int) -> bool:
        """Count one more for this address, unless there were more than ``most`` of it then. Whether
        it was counted; if so, `release_for` must follow. `acquire` comes first."""
        most = min(most, _COUNT)
        place = self._places.get(address)
        hashed = None
        if place is not None:
            self._words[place] += 1
        else:
            latest, place, word = self._latest
            if latest != address or self._words[place]:
                tag, first, second = hashed = self._hashed(address)
                place = self._free(first, second)
                if place is None:
                    return False
                word = tag << _COUNT_BITS
            self._places[address] = place
            self._words[place] = word + 1
        # Where all addresses together have at most so many, this address has no more either.
        if self.total(CONNECTIONS) <= most or self._of(*(hashed or self._hashed(address))) <= most:
            return True
        self.release_for(address)
        return False

    def release_for(self, address: str) -> None:
        place = self._places[address]
        word = self._words[place]
        if word & _COUNT == 1:
            del self._places[address]
            self._words[place] = 0
            self._latest = address, place, word - 1
        else:
            self._words[place] = word - 1

    def _hashed(self, address: str) -> tuple[int, int, int]:
        """The tag, never 0, and two numbers that name its buckets in a region of any size."""
        digest = hashlib.blake2b(address.encode(), key=self._secret, digest_size=16).digest()
        hashed = int.from_bytes(digest, "little")
        return hashed & _TAGS | 1, hashed >> 64 & 0xFFFFFFFF, hashed >> 96

    def _free(self, first: int, second: int) -> int | None:
        """A free word of our region, in the emptier bucket."""
        words = self._words
        choices = []
        for bucket in (first & self._mask, second & self._mask):
            at = self._at + _HEAD + bucket * _WAYS
            choices.append([place for place in range(at, at + _WAYS) if not words[place]])
        best = max(choices, key=len)
        return best[0] if best else None

    def _of(self, tag: int, first: int, second: int) -> int:
        """How many the address has in all regions."""
        found = 0
        for words, begin, mask in self._regions:
            if not words[begin + CONNECTIONS]:
                continue
            for bucket in {first & mask, second & mask}:
                at = begin + _HEAD + bucket * _WAYS
                for word in words[at : at + _WAYS]:
                    if word and word >> _COUNT_BITS == tag:
                        found += word & _COUNT
        return found
