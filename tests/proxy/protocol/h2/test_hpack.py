"""RFC 7541: its own examples, what the table does at its edges, and other people's code as the judge."""

from __future__ import annotations

import hpack as reference
import pytest
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.protocol.h2 import huffman
from proxy.protocol.h2.hpack import STATIC, CompressionError, Decoder, encode

Fields = list[tuple[bytes, bytes]]


def accept(name: bytes, value: bytes) -> str | None:
    return None


def decode(decoder: Decoder, block: bytes) -> Fields:
    return decoder.decode(block, 1 << 20, 1000).fields


REQUEST_1 = [
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":path", b"/"),
    (b":authority", b"www.example.com"),
]
REQUEST_2 = [*REQUEST_1, (b"cache-control", b"no-cache")]
REQUEST_3 = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":path", b"/index.html"),
    (b":authority", b"www.example.com"),
    (b"custom-key", b"custom-value"),
]
DATE = b"Mon, 21 Oct 2013 20:13:21 GMT"
LATER = b"Mon, 21 Oct 2013 20:13:22 GMT"
COOKIE = b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
ANSWER_1 = [
    (b":status", b"302"),
    (b"cache-control", b"private"),
    (b"date", DATE),
    (b"location", b"https://www.example.com"),
]
ANSWER_2 = [(b":status", b"307"), *ANSWER_1[1:]]
ANSWER_3 = [
    (b":status", b"200"),
    (b"cache-control", b"private"),
    (b"date", LATER),
    (b"location", b"https://www.example.com"),
    (b"content-encoding", b"gzip"),
    (b"set-cookie", COOKIE),
]  # fmt: skip

# RFC 7541 Appendix C: the size of the table, and block after block with what it says.
VECTORS = {
    "C.2.1": (4096, [("400a637573746f6d2d6b65790d637573746f6d2d686561646572", [(b"custom-key", b"custom-header")])]),
    "C.2.2": (4096, [("040c2f73616d706c652f70617468", [(b":path", b"/sample/path")])]),
    "C.2.3": (4096, [("100870617373776f726406736563726574", [(b"password", b"secret")])]),
    "C.2.4": (4096, [("82", [(b":method", b"GET")])]),
    "C.3": (4096, [
        ("828684410f7777772e6578616d706c652e636f6d", REQUEST_1),
        ("828684be58086e6f2d6361636865", REQUEST_2),
        ("828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565", REQUEST_3),
    ]),
    "C.4": (4096, [
        ("828684418cf1e3c2e5f23a6ba0ab90f4ff", REQUEST_1),
        ("828684be5886a8eb10649cbf", REQUEST_2),
        ("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", REQUEST_3),
    ]),
    "C.5": (256, [
        ("4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d", ANSWER_1),
        ("4803333037c1c0bf", ANSWER_2),
        ("88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31", ANSWER_3),
    ]),
    "C.6": (256, [
        ("488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3", ANSWER_1),
        ("4883640effc1c0bf", ANSWER_2),
        ("88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007", ANSWER_3),
    ]),
}  # fmt: skip


@pytest.mark.parametrize("name", VECTORS)
def test_the_examples_of_the_rfc(name: str) -> None:
    size, blocks = VECTORS[name]
    decoder = Decoder(accept, size)
    for block, fields in blocks:
        assert decode(decoder, bytes.fromhex(block)) == fields


def test_the_tables_are_those_of_the_rfc() -> None:
    assert list(STATIC) == list(reference.hpack.HeaderTable.STATIC_TABLE)
    assert list(REQUEST_CODES) == huffman.CODES
    assert list(REQUEST_CODES_LENGTH) == huffman.LENGTHS


@given(st.binary(max_size=200))
def test_huffman_there_and_back(text: bytes) -> None:
    coded = huffman.encode(text)
    assert huffman.decode(coded) == text
    assert len(coded) == huffman.encoded_size(text)


@given(st.binary(max_size=40))
def test_huffman_refuses_what_the_reference_refuses(coded: bytes) -> None:
    try:
        expected = reference.huffman_table.decode_huffman(coded)
    except reference.HPACKDecodingError:
        with pytest.raises(huffman.HuffmanError):
            huffman.decode(coded)
    else:
        assert huffman.decode(coded) == expected


NAMES = st.sampled_from([b"a", b"cookie", b"x-y", b":path", b"content-length", b"n" * 90])
VALUES = st.one_of(st.binary(max_size=20), st.just(b"v" * 150), st.just(b"/"))


@given(
    st.lists(st.lists(st.tuples(NAMES, VALUES), max_size=8), max_size=8),
    st.booleans(),
    st.sampled_from([0, 100, 4096]),
)
def test_what_the_reference_encodes_is_read(blocks: list[Fields], coded: bool, size: int) -> None:
    encoder, decoder = reference.Encoder(), Decoder(accept)
    encoder.header_table_size = size
    for fields in blocks:
        assert decode(decoder, encoder.encode(fields, huffman=coded)) == fields


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8), st.booleans())
def test_what_is_encoded_the_reference_reads(fields: Fields, compact: bool) -> None:
    block = encode(fields, compact)
    decoder = reference.Decoder()
    assert [(bytes(k), bytes(v)) for k, v in decoder.decode(block, raw=True)] == fields
    assert len(decoder.header_table.dynamic_entries) == 0  # nothing is left behind
    assert decode(Decoder(accept), block) == fields


def test_secrets_are_never_indexed() -> None:
    for name in (b"authorization", b"cookie", b"set-cookie", b"proxy-authorization"):
        assert encode([(name, b"x")])[0] & 0xF0 == 0x10
    block = Decoder(accept).decode(encode([(b"a", b"b"), (b"cookie", b"c")]), 1000, 10)
    assert block.never_indexed == [b"cookie"]
    assert encode([(b"token", b"x")], secret={b"token"})[0] == 0x10


def test_a_list_that_is_too_large_is_read_for_the_table_alone() -> None:
    decoder = Decoder(accept)
    large = b"\x40\x01a\x7f\x81\x05" + b"v" * 768
    block = decoder.decode(large + b"\xbe" * 10_000, 8 * 1024, 1000)
    assert block.too_large
    assert len(block.fields) == 8, "for the log"
    assert decode(decoder, b"\xbe") == [(b"a", b"v" * 768)]
    assert decoder.decode(b"\xbe" * 11, 1 << 20, 10).too_large


def test_references_are_shared_and_not_copied() -> None:
    decoder = Decoder(accept)
    decoder.decode(b"\x40\x01a\x01b", 1000, 10)
    fields = decode(decoder, b"\xbe" * 100)
    assert len({id(field) for field in fields}) == 1


def test_a_field_is_judged_once_and_stays_what_it_is() -> None:
    judged = []

    def judge(name: bytes, value: bytes) -> str | None:
        judged.append(name)
        return "bad" if name == b"B" else None

    decoder = Decoder(judge)
    decoder.decode(b"\x40\x01B\x01x\x40\x01a\x01y", 1000, 10)
    assert decoder.decode(b"\xbe", 1000, 10).fault is None
    assert decoder.decode(b"\xbf\xbe", 1000, 10).fault == "bad"
    assert judged == [b"B", b"a"]


def test_any_change_of_the_table_is_a_new_generation() -> None:
    decoder = Decoder(accept)
    first = decoder.generation
    decoder.decode(b"\x82\x04\x02/a\x00\x01a\x01b", 1000, 10)
    assert decoder.generation == first
    decoder.decode(b"\x40\x01a\x01b", 1000, 10)
    assert decoder.generation != first
    second = decoder.generation
    decoder.decode(b"\x20", 1000, 10)
    assert decoder.generation != second


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4))
def test_any_bytes_mean_what_they_mean_to_the_reference(blocks: list[bytes]) -> None:
    ours, theirs = Decoder(accept), reference.Decoder(max_header_list_size=1 << 30)
    for block in blocks:
        try:
            expected = [(bytes(k), bytes(v)) for k, v in theirs.decode(block, raw=True)]
        except Exception:  # it lets IndexError and the like through
            # Ours may be as strict or stricter; the connection has ended for both.
            with pytest.raises(CompressionError):
                decode(ours, block)
            return
        found, reason = attempt(ours, block)
        if found is None:
            assert reason in STRICTER
            return
        assert found == expected


def attempt(decoder: Decoder, block: bytes) -> tuple[Fields | None, str]:
    try:
        return decode(decoder, block), ""
    except CompressionError as error:
        return None, str(error)


# What the reference lets through and we do not, with the reason.
STRICTER = {
    "an integer without end": "more than 28 bits, or leading zeros without end (RFC 7541 §7.4)",
    "the table's size changes a third time": "more than two changes at a block's beginning (§4.2)",
}
