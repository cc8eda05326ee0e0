"""The serial number that a probe reads, beside what cryptography reads."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from proxy.worker.self_probe import serial_of

KEY = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a.test")])
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
# A Certificate with a TBSCertificate without [0], as version 1 is: serial number 1, then anything.
VERSION_1 = bytes.fromhex("3007 3005 020101 0500".replace(" ", ""))


@pytest.mark.parametrize("serial", [1, 0x7F, 0x80, 0xFF, 0x100, 1 << 158, (1 << 159) - 1])
@pytest.mark.parametrize("names", [1, 300], ids=["short", "long"])
def test_it_is_the_certificate_s(serial: int, names: int) -> None:
    several = x509.SubjectAlternativeName([x509.DNSName(f"n{at}.test") for at in range(names)])
    made = (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(KEY.public_key())
        .serial_number(serial)
        .not_valid_before(NOW)
        .not_valid_after(NOW)
        .add_extension(several, False)
        .sign(KEY, hashes.SHA256())
    )
    assert serial_of(made.public_bytes(Encoding.DER)) == made.serial_number == serial


def test_a_certificate_of_version_1() -> None:
    assert serial_of(VERSION_1) == 1
