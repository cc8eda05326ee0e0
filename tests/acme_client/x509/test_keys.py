"""Keys of every type, and what a signing request says."""

from __future__ import annotations

import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from acme_client.names import is_address
from acme_client.x509 import keys


@pytest.mark.parametrize(
    ("key_type", "kind", "size"),
    [
        ("ecdsa-p256", ec.EllipticCurvePrivateKey, 256),
        ("ecdsa-p384", ec.EllipticCurvePrivateKey, 384),
        ("rsa-2048", rsa.RSAPrivateKey, 2048),
        ("rsa-4096", rsa.RSAPrivateKey, 4096),
    ],
)
def test_each_type_is_what_it_says_and_survives_the_disk(
    key_type: str, kind: type, size: int
) -> None:
    key = keys.generate(key_type)
    assert isinstance(key, kind)
    assert key.key_size == size
    assert keys.from_pem(keys.to_pem(key)).private_numbers() == key.private_numbers()  # type: ignore[comparison-overlap]  # one type each
    assert keys.to_pem(key).startswith(b"-----BEGIN PRIVATE KEY-----")


def test_no_key_is_made_twice() -> None:
    assert keys.to_pem(keys.generate(keys.DEFAULT)) != keys.to_pem(keys.generate(keys.DEFAULT))


def test_a_type_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="dsa-1024 is no type of key"):
        keys.generate("dsa-1024")


def locked() -> bytes:
    return keys.generate(keys.DEFAULT).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


def of_another_kind() -> bytes:
    return ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.mark.parametrize(
    ("pem", "complaint"),
    [
        (locked(), "passphrase"),
        (of_another_kind(), "neither ECDSA nor RSA"),
        (b"", "(?i)pem"),
        (b"-----", "(?i)pem"),
    ],
)
def test_a_key_that_cannot_be_used_is_a_value_error(pem: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        keys.from_pem(pem)


@pytest.mark.parametrize("key_type", ["ecdsa-p256", "rsa-2048"])
def test_a_request_says_the_names_and_nothing_else(key_type: str) -> None:
    key = keys.generate(key_type)
    names = ("example.org", "*.example.org", "192.0.2.7", "2001:db8::1")
    request = x509.load_pem_x509_csr(keys.signing_request(key, names))
    assert request.is_signature_valid
    assert request.public_key() == key.public_key()
    assert list(request.subject) == []
    (extension,) = request.extensions
    assert isinstance(extension.value, x509.SubjectAlternativeName)
    assert [one.value for one in extension.value] == [
        "example.org",
        "*.example.org",
        ipaddress.ip_address("192.0.2.7"),
        ipaddress.ip_address("2001:db8::1"),
    ]


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("192.0.2.7", True),
        ("::1", True),
        ("example.org", False),
        ("1.2.3", False),
        ("[::1]", False),
    ],
)
def test_addresses_are_told_from_names(name: str, address: bool) -> None:
    assert is_address(name) is address
