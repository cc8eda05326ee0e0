"""Both engines and the table of `cases`: what an engine makes of each, and that the connection lives on
where only a stream was to end."""

from __future__ import annotations

import pytest

from conformance.h2.cases import CASES, Case
from proxy.protocol.h2.engine import StreamGone, Terms
from proxy.protocol.h2.events import Head, Reset
from support.h2_engines import ENGINES, Make, authority
from support.h2_peer import GET, STREAM_CLOSED, Peer, headers

# Where python-hyper's h2 differs, and why that is left.
AUTHORITY_DIFFERS = {
    "the reserved bit of an update": "hyperframe takes it for a part of the number and ends the connection",
}


@pytest.mark.parametrize("make", ENGINES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_engine_and_the_case(case: Case, make: Make) -> None:
    if make is authority and case.name in AUTHORITY_DIFFERS:
        pytest.xfail(AUTHORITY_DIFFERS[case.name])
    engine = make(Terms(), 0.0)
    peer = Peer(engine, case.hello)
    heads, resets = 0, set()
    for piece in case.frames:
        for event in peer.say(piece):
            match event:
                case Head() if case.answered:
                    heads += 1
                    engine.head(event.stream, 200, [], True)
                    engine.release(event.stream)
                case Head():
                    heads += 1
                case Reset(by_us=True):
                    resets.add(event.code)
        peer.heard()
    what, codes = case.expected.what, case.expected.codes
    if peer.failure is not None:
        if what == "stream":
            # A stream error may be taken for a connection error (RFC 9113 §5.4.2). Ours is only so
            # where the stream is gone, and there is nothing left to reset.
            assert make is authority or "behind a RST_STREAM" in case.name
        else:
            assert what == "connection", peer.failure
        assert peer.failure.code in codes | ({1} if make is authority else set()), peer.failure
        assert peer.goaways[-1:] == [peer.failure.code]
        assert list(engine.receive(headers(101, GET), 0.0)) == []  # nothing more is taken
        with pytest.raises(StreamGone):
            engine.head(1, 200, [], True)
        return
    if what == "connection":
        assert make is authority
        assert codes >= {STREAM_CLOSED}  # which h2 says of a stream where it may (RFC 9113 §5.1)
    if what in ("stream", "connection"):
        assert resets <= codes
        assert peer.resets
        assert set(peer.resets.values()) <= codes
    else:
        assert not resets
        assert bool(heads) is (what == "request")
    assert isinstance(peer.say(headers(101, GET))[-1], Head)
    engine.head(101, 204, [], True)
    assert [one.stream_id for one in peer.heard()][-1] == 101
