"""Which certificate is shown for a name: the same as if all had been put in order of their end."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from proxy.tls.shared_names import SharedNames

HOSTS = ("a.test", "b.test", "*.test")


@dataclass(frozen=True, eq=False)
class One:
    names: tuple[str, ...]
    not_after: float


ones = st.builds(
    One, st.lists(st.sampled_from(HOSTS), min_size=1, max_size=4).map(tuple), st.integers(1, 5)
)
steps = st.lists(st.one_of(ones, st.integers(0, 20)), max_size=30)


@given(steps)
def test_however_they_come_and_go_the_one_that_lasts_longest_is_shown(
    several: list[One | int],
) -> None:
    """A number takes away one of those that are there."""
    names: SharedNames[One] = SharedNames()
    present: list[One] = []
    for one in several:
        if isinstance(one, One):
            names.add(one)
            present.append(one)
        elif present:
            names.remove(present.pop(one % len(present)))
        for host in HOSTS:
            covering = [each.not_after for each in present if host in each.names]
            shown = names._shown.exact(host)
            assert (shown.not_after if shown else None) == max(covering, default=None)
            assert shown is None or shown in present
    for one in present:
        names.remove(one)
    assert names._behind == {}
    assert names.find("a.test") is None
