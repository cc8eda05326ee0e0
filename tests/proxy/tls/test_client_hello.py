"""ClientHellos of a real client, whole, in pieces and spoilt."""

from __future__ import annotations

import functools
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.tls.acme_alpn import asked_as
from proxy.tls.client_hello import Incomplete, parse


def hello(name: str | None, protocols: list[str]) -> bytes:
    """What OpenSSL says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without all the CAs of the machine
    context.check_hostname = name is not None
    if protocols:
        context.set_alpn_protocols(protocols)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("name", [None, "a.test", "A.Test"])
@pytest.mark.parametrize("protocols", [[], ["acme-tls/1"], ["h2", "http/1.1"]])
def test_what_it_asks_for_is_found(name: str | None, protocols: list[str]) -> None:
    found = parse(hello(name, protocols))
    assert found is not None
    assert found.server_name == (name.lower().encode() if name else None)
    assert found.protocols == tuple(one.encode() for one in protocols)


def test_a_part_is_incomplete_and_more_does_not_matter() -> None:
    data = hello("a.test", ["acme-tls/1"])
    for end in range(len(data)):
        with pytest.raises(Incomplete):
            parse(data[:end])
    assert parse(data + b"more") == parse(data)


def test_one_in_two_records_is_put_together() -> None:
    data = hello("a.test", ["acme-tls/1"])
    message = data[5:]
    cut = b"".join(
        b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part
        for part in (message[:50], message[50:])
    )
    assert parse(cut) == parse(data)


@functools.cache
def sound() -> bytes:
    """One for all examples: each has random bytes."""
    return hello("a.test", ["acme-tls/1"])


@given(st.binary(max_size=300), st.integers(0, 299), st.integers(0, 255))
def test_nothing_it_is_given_is_worse_than_none(data: bytes, at: int, byte: int) -> None:
    spoilt = bytearray(sound())
    spoilt[at % len(spoilt)] = byte
    for given_ in (data, b"\x16\x03\x01" + data, bytes(spoilt)):
        try:
            parse(given_)
        except Incomplete:
            continue


def test_addresses_are_asked_for_by_their_reverse() -> None:
    assert asked_as("a.test") == b"a.test"
    assert asked_as("192.0.2.7") == b"7.2.0.192.in-addr.arpa"
    assert asked_as("2001:db8::1").endswith(b".8.b.d.0.1.0.0.2.ip6.arpa")
