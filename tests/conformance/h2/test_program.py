"""HTTP/2 at the real program: the table of frames (`cases`) and the table of requests (`requests`), a
canary behind each, with our own engine, with python-hyper's h2, and towards backends over HTTP/2."""

from __future__ import annotations

import pytest

from conformance.h2.cases import TIMELESS, Case
from conformance.h2.requests import CASES, tagged
from conformance.proxied import Proxied
from support.h2_peer import HELLO, data
from support.http.h2_talk import H2Talk, h2_context, request
from support.http.strict_backend import echo
from support.http.strict_h2_backend import lengthless


def talk(proxied: Proxied, hello: bytes = HELLO) -> H2Talk:
    return H2Talk(proxied.port, "a.test", h2_context(proxied.ca), hello=hello)


def canary(proxied: Proxied, on: H2Talk, stream: int) -> None:
    """A request of our own, which must be answered with its own body."""
    tag = proxied.tag()
    text = b"sings %d" % tag
    fields = request(f"/@{tag}@canary", "a.test", method=b"POST")
    on.asks(fields, data(stream, text, end=True), stream=stream)
    assert (on.status(stream), on.body(stream)) == (200, b"POST /@%d@canary [%b]\n" % (tag, text))


@pytest.mark.parametrize("case", TIMELESS, ids=lambda case: case.name)
def test_frames(proxied: Proxied, case: Case) -> None:
    with talk(proxied, hello=case.hello) as on:
        try:
            for piece in case.frames:
                on.says(piece)
        except OSError:
            assert case.expected.what == "connection"
        what, codes = case.expected.what, case.expected.codes
        if what == "connection":
            on.hears_the_end()
            assert on.goaways
            assert set(on.goaways) <= codes | {1}
            return
        own = proxied.own_engine
        if what == "stream":
            on.hears(lambda one: type(one).__name__ in ("RstStreamFrame", "GoAwayFrame"))
            if on.goaways:
                assert not own
                return
            assert {one.error_code for one in on.of("RstStreamFrame")} <= codes
        canary(proxied, on, 101)


@pytest.mark.parametrize("name", CASES)
def test_requests(proxied_anyhow: Proxied, name: str) -> None:
    proxied = proxied_anyhow
    case, tag = CASES[name], proxied.tag()
    with talk(proxied) as on:
        frames = case.frames(1, tag)
        on.says(*frames)
        on.hears(
            lambda one: (one.stream_id == 1 and ("END_STREAM" in one.flags or type(one).__name__ == "RstStreamFrame"))
            or type(one).__name__ == "GoAwayFrame"
        )  # fmt: skip
        reaches = [] if case.reaches is None else [tagged(case.reaches, tag)]
        if on.goaways:
            assert not proxied.own_engine  # h2 may end the connection for one bad stream
            assert not case.status
        else:
            assert on.status(1) == case.status
            assert (on.reset_with(1) is not None) is (case.status == 0)
            if reaches and case.fields[0][1] != b"HEAD":
                method, target = case.fields[0][1], reaches[0].split(b" ")[1]
                assert on.body(1).startswith(
                    echo(method, target, b"").partition(b"\r\n\r\n")[2][:10]
                )
            canary(proxied, on, 3)
    with talk(proxied) as another:
        canary(proxied, another, 1)
    assert [lengthless(one) for one in proxied.backend.whole[tag]] == [
        lengthless(one) for one in reaches
    ]
    proxied.expect(tag, reaches, tagged(case.begins, tag))


def test_nothing_strayed(proxied_anyhow: Proxied) -> None:
    """Last of all, when every message has had the time to arrive."""
    proxied = proxied_anyhow
    assert [
        one for one in proxied.backend.strays if b"/ HTTP/1.1" not in one.split(b"\r\n")[0]
    ] == []
    assert proxied.backend.ill_formed == []
    for tag, (reaches, begins) in proxied.expected.items():
        allowed = [lengthless(one).partition(b"\r\n\r\n")[0] for one in [*reaches, begins]]
        for head in proxied.backend.begun[tag]:
            assert lengthless(head).partition(b"\r\n\r\n")[0] in allowed
    proxied.assert_sound()
