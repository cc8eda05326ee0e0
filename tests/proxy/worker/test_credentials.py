"""Challenges in force: each ends by itself, and takes no other one along."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.handlers.http01 import Http01Handler
from proxy.ipc.channel import sealed
from proxy.ipc.messages import ChallengeFacts, DropChallenge
from proxy.tls.acme_alpn import PROTOCOL, AlpnChallenges
from proxy.tls.client_hello import Hello
from proxy.tls.unheard import UnheardChallenges
from proxy.worker.credentials import Credentials

HELLO = Hello(b"a.test", (PROTOCOL,))


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder: Path = tmp_path_factory.mktemp("alpn")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-subj", "/CN=a.test", "-keyout", "k.pem", "-out", "c.pem", "-days", "2"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return (folder / "c.pem").read_bytes() + (folder / "k.pem").read_bytes()


@pytest.fixture
def credentials() -> Credentials:
    """As far as challenges are concerned."""
    made = object.__new__(Credentials)
    unheard = UnheardChallenges()
    made.http01, made.alpn = Http01Handler(unheard), AlpnChallenges(unheard)
    return made


@pytest.fixture
def bundle(pem: bytes) -> Iterator[int]:
    fd = sealed("challenge", pem)
    yield fd
    os.close(fd)


def facts(kind: str, token: str) -> ChallengeFacts:
    return ChallengeFacts(kind, "a.test", token, token + ".x")  # type: ignore[arg-type]


def answered(credentials: Credentials) -> set[str]:
    kinds = {"tls-alpn-01"} if credentials.alpn.find(HELLO) is not None else set()
    return kinds | {token.decode() for _host, token in credentials.http01._known}


def test_the_end_of_one_kind_leaves_the_other_for_the_same_host(
    credentials: Credentials, bundle: int
) -> None:
    credentials.put_challenge(facts("http-01", "one"), None)
    credentials.put_challenge(facts("tls-alpn-01", "two"), bundle)
    assert answered(credentials) == {"one", "tls-alpn-01"}
    credentials.drop_challenge(DropChallenge("http-01", "a.test", "one", 1))
    assert answered(credentials) == {"tls-alpn-01"}
    credentials.put_challenge(facts("http-01", "one"), None)
    credentials.drop_challenge(DropChallenge("tls-alpn-01", "a.test", "two", 2))
    assert answered(credentials) == {"one"}


def test_the_end_of_an_earlier_challenge_leaves_the_one_that_took_its_place(
    credentials: Credentials, bundle: int
) -> None:
    credentials.put_challenge(facts("tls-alpn-01", "first"), bundle)
    credentials.put_challenge(facts("tls-alpn-01", "second"), bundle)
    credentials.drop_challenge(DropChallenge("tls-alpn-01", "a.test", "first", 1))
    assert answered(credentials) == {"tls-alpn-01"}
    credentials.drop_challenge(DropChallenge("tls-alpn-01", "a.test", "second", 2))
    assert answered(credentials) == set()


def test_a_certificate_that_did_not_come_is_asked_for_again(credentials: Credentials) -> None:
    """The inbox does so for whatever cannot be taken in."""
    with pytest.raises(ValueError, match="without its certificate"):
        credentials.put_challenge(facts("tls-alpn-01", "two"), None)
