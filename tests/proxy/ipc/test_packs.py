"""Certificates in shared memory: read by place, moved without being read, closed with the last."""

from __future__ import annotations

import fcntl
import os

import pytest

from proxy.ipc.packs import NotInPack, Pack, alone, packed, repacked


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_many_lie_in_one_descriptor_and_it_is_closed_with_the_last() -> None:
    before = descriptors()
    contents = [f"certificate {number}".encode() for number in range(100)]
    fd, places = packed(contents)
    pack = Pack(fd)
    bundles = [pack.bundle(*place) for place in places]
    assert descriptors() == before + 1
    assert [one.content() for one in bundles] == contents
    again = bundles[0].again()
    for one in bundles:
        one.release()
    assert again.content() == contents[0]
    again.release()
    assert descriptors() == before


def test_nobody_can_change_or_shorten_a_pack() -> None:
    bundle = alone(b"chain and key")
    for made in (bundle, *repacked([bundle])):
        fd = made.pack.fd
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        for seal in ("WRITE", "SHRINK", "GROW", "SEAL"):
            assert seals & getattr(fcntl, f"F_SEAL_{seal}"), seal
        assert os.fstat(fd).st_mode & 0o777 == 0o600
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        made.release()


@pytest.mark.parametrize("place", [(0, 14), (13, 1), (-1, 3), (3, -1), (2**70, 1)])
def test_a_place_outside_is_refused(place: tuple[int, int]) -> None:
    before = descriptors()
    bundle = alone(b"chain and key")
    with pytest.raises(NotInPack):
        bundle.pack.bundle(*place)
    bundle.release()
    assert descriptors() == before


def test_what_lies_in_many_packs_comes_together_in_one() -> None:
    before = descriptors()
    bundles = [alone(f"certificate {number}".encode()) for number in range(20)]
    made = repacked(bundles)
    assert len({one.pack for one in made}) == 1
    assert [one.content() for one in made] == [one.content() for one in bundles]
    for one in (*bundles, *made):
        one.release()
    assert descriptors() == before
