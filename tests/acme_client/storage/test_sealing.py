"""What lies in the engine can be neither read nor forged, and there is no secret by default."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acme_client.storage.etcd.sealing import NotOpened, Seals, SecretFault, new_secret, read_secrets

KEY = "/treehouse/shop/certificates/a.example/:together"
FOLDER = "certificates/a.example"
# The same in each process that collects these tests.
OLD, NEW = (hashlib.sha256(name).hexdigest() for name in (b"old", b"new"))
SEALS = Seals(read_secrets(NEW))


@given(data=st.binary(max_size=200))
def test_what_was_sealed_is_opened_and_cannot_be_read(data: bytes) -> None:
    sealed = SEALS.seal(KEY, FOLDER, data)
    assert SEALS.open(KEY, FOLDER, sealed) == data
    assert len(data) < 4 or data not in sealed.removeprefix(b"treehouse1")
    assert sealed != SEALS.seal(KEY, FOLDER, data)


@given(at=st.integers(0, 200), by=st.integers(1, 255), cut=st.integers(0, 200))
def test_what_was_changed_or_cut_off_is_not_opened(at: int, by: int, cut: int) -> None:
    sealed = SEALS.seal(KEY, FOLDER, b"x" * 100)
    changed = bytearray(sealed)
    changed[at % len(sealed)] ^= by
    for forged in (bytes(changed), sealed[: cut % len(sealed)], sealed + b"\0"):
        with pytest.raises(NotOpened):
            SEALS.open(KEY, FOLDER, forged)


@given(data=st.binary(max_size=100))
def test_what_nobody_has_sealed_is_not_opened(data: bytes) -> None:
    for forged in (data, b"treehouse1" + data):
        with pytest.raises(NotOpened):
            SEALS.open(KEY, FOLDER, forged)


def test_a_document_that_was_moved_is_not_opened() -> None:
    sealed = SEALS.seal(KEY, FOLDER, b"x")
    with pytest.raises(NotOpened, match="another key"):
        SEALS.open(KEY.replace("a.example", "b.example"), FOLDER, sealed)
    with pytest.raises(NotOpened, match="another secret"):
        SEALS.open(KEY, "accounts/a", sealed)


def test_a_new_secret_seals_and_the_old_one_opens_still() -> None:
    old, both = Seals(read_secrets(OLD)), Seals(read_secrets(f"# new\n{NEW}\n\n{OLD}\n"))
    sealed = old.seal(KEY, FOLDER, b"x")
    assert both.open(KEY, FOLDER, sealed) == b"x"
    assert SEALS.open(KEY, FOLDER, both.seal(KEY, FOLDER, b"y")) == b"y"
    with pytest.raises(NotOpened, match="another secret"):
        SEALS.open(KEY, FOLDER, sealed)
    assert both.fingerprint() == SEALS.fingerprint() != old.fingerprint()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no secret"),
        ("# only this\n\n", "no secret"),
        ("password\n", "line 1 is no hexadecimal number"),
        (f"{NEW}\nabcd\n", "line 2 has 2 bytes, where 32 are needed"),
        (NEW + NEW, "line 1 has 64 bytes"),
        ("00" * 32, "line 1 is no random number"),
        ("0102" * 16, "line 1 is no random number"),
    ],
)
def test_a_secret_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(SecretFault, match=said):
        read_secrets(text)


def test_it_is_known_which_secret_has_sealed() -> None:
    old, new = (read_secrets(new_secret()) for _ in range(2))
    sealed = Seals(old).seal("/k", "members", b"x")
    assert Seals(old).is_first("members", sealed)
    both = Seals([*new, *old])
    assert not both.is_first("members", sealed)
    assert both.is_first("members", both.seal("/k", "members", b"x"))
    assert not both.is_first("members", b"")
