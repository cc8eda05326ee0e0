"""When a worker gives memory back."""

from __future__ import annotations

import pytest

from proxy.worker.memory_trim import MemoryTrim, trim

# What is seen, at which second, and whether memory is given back then.
COURSES = {
    "few connections are nothing to speak of": [(200, 0, False), (0, 1, False), (0, 60, False)],
    "a peak that is over": [(2000, 0, False), (1000, 1, False), (40, 3, False), (2, 6, True)],
    "more than half of it stays": [(2000, 0, False), (1500, 1, False), (1001, 60, False)],
    "it comes again at once": [(2000, 0, False), (900, 1, False), (1500, 2, False), (900, 7, False)],
    "only once for each": [(2000, 0, False), (900, 1, False), (800, 6, True), (545, 60, False)],
    "the next one, too": [(2000, 0, False), (0, 1, False), (0, 6, True), (600, 7, False),
                          (300, 8, False), (0, 13, True)],
    "a peak in steps counts from its top": [(300, 0, False), (600, 1, False), (250, 2, False),
                                            (250, 7, True)],
}  # fmt: skip


@pytest.mark.parametrize("course", COURSES.values(), ids=COURSES.keys())
def test_memory_is_given_back_after_a_peak(course: list[tuple[int, float, bool]]) -> None:
    given_back = 0

    def give_back() -> None:
        nonlocal given_back
        given_back += 1

    memory = MemoryTrim(give_back)
    for connections, now, expected in course:
        before = given_back
        memory.observe(connections, now)
        assert (given_back > before) == expected, (connections, now)


def test_freed_memory_goes_back_from_the_middle_of_the_heap() -> None:
    def resident() -> int:
        with open("/proc/self/smaps_rollup", "rb") as rollup:
            (line,) = [line for line in rollup if line.startswith(b"Rss:")]
        return int(line.split()[1])

    # Each above pymalloc's 512 bytes, and so malloc's; every sixteenth stays.
    parts = [bytes(4096) for _ in range(16_384)]
    kept = parts[::16]
    full = resident()
    del parts
    trim()
    assert full - resident() > 32 * 1024  # of 64 MiB
    assert len(kept) == 1024
