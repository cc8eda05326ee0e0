"""What goes on to a backend, and what does not: tables, and the rule that nothing hop-by-hop
survives, whatever the fields."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config.schema.rules import RequestFieldRules
from proxy.errors import Fault
from proxy.handlers.upstream.request_head import OURS, PSEUDONYM, Forwarder, end_to_end
from proxy.protocol import claims
from proxy.protocol.client_address import TrustedProxies
from proxy.protocol.h1.grammar import FIELD_LINE, HOP_BY_HOP
from proxy.protocol.message import Connection, Fields, Login, Request

PEER = Connection("192.0.2.1", 1, "192.0.2.2", 443, b"https")


def forwarded(fields: Fields, *trusted: str, peer: Connection = PEER, via: bool = False) -> Fields:
    """The fields of the head that a backend gets."""
    request = Request(b"GET", b"/a", b"1.1", b"x.test", b"x.test", fields, peer)
    head = Forwarder(trusted, via).head(request, None, b"")
    assert head.startswith(b"GET /a HTTP/1.1\r\n")
    assert head.endswith(b"\r\n\r\n")
    found = []
    for line in head[:-4].split(b"\r\n")[1:]:
        assert FIELD_LINE.fullmatch(line), line
        name, _, value = line.partition(b": ")
        found.append((name, value))
    return found


def values(fields: Fields, name: bytes) -> list[bytes]:
    return [value for key, value in fields if key == name]


HOST = (b"host", b"x.test")


def test_fields_end_to_end_go_on_in_their_order() -> None:
    given_ = [HOST, (b"accept", b"*/*"), (b"cookie", b"a=b"), (b"cookie", b"c=d"), (b"x-a", b"")]
    got = [field for field in forwarded(given_) if field in given_]
    assert got == given_


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP - {b"te"}))
def test_hop_by_hop_fields_stay(name: bytes) -> None:
    value = b"close" if name == b"connection" else b"x"
    assert values(forwarded([HOST, (name, value)]), name) == []


def test_what_connection_names_stays() -> None:
    got = forwarded(
        [HOST, (b"connection", b"X-A, close, x-b"), (b"x-a", b"1"), (b"x-b", b"2"), (b"x-c", b"3")]
    )
    assert values(got, b"x-a") == values(got, b"x-b") == []
    assert values(got, b"x-c") == [b"3"]


def test_forwarding_fields_cannot_be_named_away() -> None:
    got = forwarded([HOST, (b"connection", b"X-Forwarded-For, CDN-Loop, X-Real-IP")])
    assert values(got, b"x-forwarded-for") == values(got, b"x-real-ip") == [b"192.0.2.1"]
    assert values(got, b"cdn-loop") == [PSEUDONYM]


@pytest.mark.parametrize(
    "more", [[], [(b"connection", b"Remote-User, X-A")], [(b"connection", b"close")]]
)
@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (RequestFieldRules(), [b"alice"]),
        (RequestFieldRules(remove=("remote-user",)), []),
        (RequestFieldRules(set=(("remote-user", "bob"),)), [b"bob"]),
    ],
)
def test_who_has_logged_in_is_told_once_whatever_connection_names(
    more: Fields, rules: RequestFieldRules, told: list[bytes]
) -> None:
    request = Request(b"GET", b"/a", b"1.1", b"x.test", b"x.test", [HOST, *more], PEER)
    request.login = Login(b"alice", [(b"remote-user", b"alice")])
    lines = Forwarder((), rules=rules).head(request, None, b"").split(b"\r\n")
    assert [line[13:] for line in lines if line.startswith(b"remote-user: ")] == told


@pytest.mark.parametrize("tells_users", [False, True])
@pytest.mark.parametrize("trusted", [(), ("192.0.2.1/32",)])
@pytest.mark.parametrize("name", [b"remote-user", b"remote_user"])
def test_where_users_log_in_no_client_says_who_it_is(
    tells_users: bool, trusted: tuple[str, ...], name: bytes
) -> None:
    request = Request(b"GET", b"/a", b"1.1", b"x.test", b"x.test", [HOST, (name, b"root")], PEER)
    head = Forwarder(trusted, told=frozenset({b"remote-user"} if tells_users else ())).head(
        request, None, b""
    )
    vouched = bool(trusted) and name == b"remote-user"
    assert head.count(b"root") == (not tells_users or vouched)


def test_te_keeps_trailers_only() -> None:
    assert values(forwarded([HOST, (b"te", b"trailers, deflate")]), b"te") == [b"trailers"]
    assert values(forwarded([HOST, (b"te", b"deflate")]), b"te") == []
    assert values(forwarded([HOST, (b"te", b"xtrailers")]), b"te") == []


@pytest.mark.parametrize("connection", [b"TE", b"keep-alive, te", b"te, x-a"])
@pytest.mark.parametrize("te", [b"trailers", b"Trailers", b"gzip;q=0.5, trailers"])
def test_te_is_named_in_a_connection_of_our_own(connection: bytes, te: bytes) -> None:
    got = forwarded([HOST, (b"connection", connection), (b"te", te), (b"x-a", b"1")])
    assert values(got, b"te") == [b"trailers"]
    assert values(got, b"connection") == [b"te"]
    got = forwarded([HOST, (b"te", te)])
    assert values(got, b"connection") == [b"te"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_what_a_stranger_says_of_itself_is_replaced(name: bytes) -> None:
    for spelt in (name, name.replace(b"-", b"_")):
        got = forwarded([HOST, (spelt, b"6.6.6.6")])
        assert all(b"6.6.6.6" not in value for _, value in got)


def test_what_is_said_of_the_client() -> None:
    got = forwarded([HOST])
    assert values(got, b"x-forwarded-for") == [b"192.0.2.1"]
    assert values(got, b"x-forwarded-proto") == [b"https"]
    assert values(got, b"x-forwarded-host") == [b"x.test"]
    assert values(got, b"forwarded") == [b'for=192.0.2.1;host="x.test";proto=https']
    assert values(got, b"x-real-ip") == [b"192.0.2.1"]
    assert values(got, b"cdn-loop") == [PSEUDONYM]
    assert values(got, b"via") == []


def test_an_ipv6_client_is_quoted_where_it_must_be() -> None:
    got = forwarded([HOST], peer=Connection("2001:db8::1", 1, "::", 443, b"https"))
    assert values(got, b"x-forwarded-for") == [b"2001:db8::1"]
    assert values(got, b"forwarded") == [b'for="[2001:db8::1]";host="x.test";proto=https']


def test_a_trusted_proxy_is_believed_and_added() -> None:
    given_ = [
        HOST,
        (b"x-forwarded-for", b"203.0.113.7"),
        (b"x-forwarded-proto", b"http"),
        (b"forwarded", b"for=203.0.113.7"),
    ]
    got = forwarded(given_, "192.0.2.0/24")
    assert values(got, b"x-forwarded-for") == [b"203.0.113.7, 192.0.2.1"]
    assert values(got, b"x-forwarded-proto") == [b"http"]
    assert values(got, b"forwarded")[0].startswith(b"for=203.0.113.7, for=192.0.2.1;")


def test_request_ids_are_kept_or_made() -> None:
    assert values(forwarded([HOST, (b"x-request-id", b"abc-1")]), b"x-request-id") == [b"abc-1"]
    (made,) = values(forwarded([HOST, (b"x-request-id", b"a b\x80" + b"c" * 200)]), b"x-request-id")
    assert made.isascii()
    assert len(made) < 40


def test_via_is_sent_where_it_is_asked_for() -> None:
    other = (b"via", b"1.0 other")
    assert values(forwarded([HOST]), b"via") == []
    assert values(forwarded([HOST, other]), b"via") == [b"1.0 other"], "not ours to take away"
    assert values(forwarded([HOST], via=True), b"via") == [b"1.1 " + PSEUDONYM]
    grown = [b"1.0 other, 1.1 " + PSEUDONYM]
    assert values(forwarded([HOST, other], via=True), b"via") == grown


@pytest.mark.parametrize(
    "ours", [PSEUDONYM, b"a.example; x=1, " + PSEUDONYM + b"; y"], ids=["alone", "in a list"]
)
def test_a_cdn_loop_of_others_grows_and_ours_is_a_loop(ours: bytes) -> None:
    """RFC 8586 §2."""
    other = (b"cdn-loop", b'a.example:80; trace="b"')
    assert values(forwarded([HOST, other]), b"cdn-loop") == [other[1] + b", " + PSEUDONYM]
    with pytest.raises(Fault, match="loop"):
        forwarded([HOST, (b"cdn-loop", ours)])
    with pytest.raises(Fault, match="loop"):
        forwarded([HOST, other, (b"cdn-loop", ours)])


_TOKEN = st.from_regex(r"[a-z0-9!#$%&'*+.^_`|~-]{1,12}", fullmatch=True)
_NAME = st.one_of(
    st.sampled_from(sorted(HOP_BY_HOP | OURS)).map(bytes.decode),
    st.sampled_from(["x-a", "x_forwarded_for", "content_length", "transfer_encoding", "accept"]),
    _TOKEN,
)
_VALUE = st.one_of(_TOKEN, st.lists(_NAME, max_size=3).map(", ".join), st.just("close"))


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(_NAME, _VALUE), max_size=10))
def test_nothing_hop_by_hop_survives_and_a_second_time_changes_nothing(
    pairs: list[tuple[str, str]],
) -> None:
    fields = [
        HOST,
        *((name.encode(), value.encode()) for name, value in pairs if name != "host"),
    ]
    got = forwarded(fields)
    named = {
        token.strip().lower()
        for name, value in fields
        if name == b"connection"
        for token in value.split(b",")
    }
    ours = OURS | {b"cdn-loop", b"x-request-id", b"host"}
    te = {(b"te", b"trailers"), (b"connection", b"te")}
    for name, value in got:
        assert name not in HOP_BY_HOP or (name, value) in te
        assert name not in named or name in ours or (name, value) in te
        assert name.replace(b"_", b"-") == name or name.replace(b"_", b"-") not in HOP_BY_HOP | OURS
    again = forwarded([field for field in got if field[0] != b"cdn-loop"])
    keep = {b"x-request-id", b"cdn-loop"}
    assert [one for one in again if one[0] not in keep] == [
        one for one in got if one[0] not in keep
    ]


@given(st.lists(st.tuples(_NAME, _VALUE), max_size=10))
def test_answers_lose_the_same(pairs: list[tuple[str, str]]) -> None:
    fields = [(name.encode(), value.encode()) for name, value in pairs]
    got = end_to_end(fields)
    assert all(name not in HOP_BY_HOP for name, _ in got)
    assert end_to_end(got) == got


MORE = [(b"x-forwarded-prefix", b"/a"), (b"x-forwarded-port", b"1"), (b"x-forwarded-ssl", b"off")]


def test_nothing_like_x_forwarded_comes_from_a_client() -> None:
    """Frameworks build links of them, and none of them is ours to vouch for."""
    spelt = [(name.replace(b"-", b"_"), value) for name, value in MORE]
    also = [*MORE, *spelt, (b"x-forwarded_prefix", b"/a"), (b"x-real-ip", b"10.0.0.1")]
    got = forwarded([HOST, *also])
    ours = {b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"}
    assert {name for name, _ in got if b"forwarded" in name.replace(b"_", b"-")} == {
        *ours, b"forwarded"
    }  # fmt: skip
    assert values(got, b"x-real-ip") == [b"192.0.2.1"]


@pytest.mark.parametrize("name", sorted(claims.NAMES) + [one + b"x" for one in claims.PREFIXES])
def test_a_claim_passes_from_a_trusted_proxy_alone(name: bytes) -> None:
    for spelt in (name, name.replace(b"-", b"_")):
        assert b"6.6.6.6" not in b"".join(
            value for _, value in forwarded([HOST, (spelt, b"6.6.6.6")])
        )
    assert b"6.6.6.6" in b"".join(
        value for _, value in forwarded([HOST, (name, b"6.6.6.6")], "192.0.2.0/24")
    )


@pytest.mark.parametrize(
    ("said", "client"),
    [
        ([(b"x-forwarded-for", b"203.0.113.7")], b"203.0.113.7"),
        ([(b"x-forwarded-for", b"6.6.6.6, 203.0.113.7, 192.0.2.9")], b"203.0.113.7"),
        ([(b"x-forwarded-for", b"203.0.113.7"), (b"x-real-ip", b"6.6.6.6")], b"203.0.113.7"),
        ([(b"x-real-ip", b"203.0.113.7")], b"203.0.113.7"),
        ([], b"192.0.2.1"),
    ],
)
def test_x_real_ip_is_the_client_that_a_trusted_proxy_names(said: Fields, client: bytes) -> None:
    assert values(forwarded([HOST, *said], "192.0.2.0/24"), b"x-real-ip") == [client]
    assert values(forwarded([HOST, *said]), b"x-real-ip") == [b"192.0.2.1"]


def test_a_path_of_the_backend_is_put_before_the_requests() -> None:
    for target, sent in ((b"/a?b", b"/app/a?b"), (b"/", b"/app/"), (b"*", b"*")):
        request = Request(b"OPTIONS", target, b"1.1", b"x.test", b"x.test", [HOST], PEER)
        head = Forwarder(()).head(request, None, b"", b"/app")
        assert head.startswith(b"OPTIONS %b HTTP/1.1\r\n" % sent)


def test_what_a_trusted_proxy_says_of_the_client_goes_on() -> None:
    said = [*MORE, (b"x-real-ip", b"198.51.100.1")]
    got = forwarded([HOST, *said, (b"x_forwarded_prefix", b"/b")], "192.0.2.0/24")
    assert [field for field in got if field in said] == said
    assert not [name for name, _ in got if b"_" in name]


def test_own_fields_follow_who_asks_and_for_what() -> None:
    rules = RequestFieldRules(
        set=(("x-client", "{client}"), ("x-site", "{scheme}://{host}")), add=(("x-fixed", "a b"),)
    )
    by_client, by_path = (
        Forwarder(("192.0.2.0/24",), rules=rules),
        Forwarder(
            (), rules=RequestFieldRules(set=(("x-path", "{path}"), ("x-client", "{client}")))
        ),
    )

    def own(forwarder: Forwarder, peer: Connection, host: bytes, path: bytes) -> list[bytes]:
        fields = [HOST, (b"x-forwarded-for", b"203.0.113.7"), (b"x-client", b"forged")]
        request = Request(b"GET", path, b"1.1", host, host, fields, peer)
        lines = forwarder.head(request, None, b"").split(b"\r\n")
        names = (b"x-client: ", b"x-site: ", b"x-fixed: ", b"x-path: ")
        return [line for line in lines if line.startswith(names)]

    trusted = Connection("192.0.2.9", 1, "192.0.2.2", 443, b"http")
    trusted.proxies = TrustedProxies(("192.0.2.0/24",))
    for _ in range(2):  # the second time they are known
        assert own(by_client, PEER, b"a.test", b"/") == [
            b"x-client: 192.0.2.1", b"x-site: https://a.test", b"x-fixed: a b"
        ]  # fmt: skip
        assert own(by_client, PEER, b"b.test", b"/")[1] == b"x-site: https://b.test"
        assert own(by_client, trusted, b"a.test", b"/") == [
            b"x-client: 203.0.113.7", b"x-site: http://a.test", b"x-fixed: a b"
        ]  # fmt: skip
        for path in (b"/one", b"/two"):
            assert own(by_path, PEER, b"a.test", path) == [
                b"x-path: " + path, b"x-client: 192.0.2.1"
            ]  # fmt: skip
