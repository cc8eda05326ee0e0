"""What is told of accounts from their files alone."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from josepy.jwk import JWKEC, JWKRSA
from josepy.util import ComparableECKey, ComparableRSAKey

from acme_client.drill.memory_store import MemoryStore
from acme_client.issuers import account_files, accounts
from acme_client.x509 import keys

DIRECTORY = "https://ca.example/directory"


def thumbprint(data: bytes) -> str:
    store = MemoryStore()
    store.store(account_files.folder(store, DIRECTORY), {account_files.KEY: data})
    return account_files.thumbprint(store, DIRECTORY)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=["256", "384"])
def test_the_thumbprint_is_what_josepy_says(curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    assert thumbprint(keys.to_pem(key)) == accounts.thumbprint(JWKEC(key=ComparableECKey(key)))


def test_an_account_of_another_program_may_have_an_rsa_key() -> None:
    key = rsa.generate_private_key(65537, 2048)
    assert thumbprint(keys.to_pem(key)) == accounts.thumbprint(JWKRSA(key=ComparableRSAKey(key)))


def test_what_cannot_be_read_has_none() -> None:
    assert account_files.thumbprint(MemoryStore(), DIRECTORY) == ""
    assert thumbprint(b"no key") == ""
    assert thumbprint(keys.to_pem(ed25519.Ed25519PrivateKey.generate())) == ""
