"""Random frames into three readers of HTTP/2: the same requests come out, or a difference that is known."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.h2_scripts import compare, script


@settings(max_examples=1500)
@given(st.binary(min_size=1, max_size=120), st.sampled_from([0, 0, 1, 3, 11]))
def test_three_readers_tell_the_same(source: bytes, cut: int) -> None:
    compare(script(source), cut)
