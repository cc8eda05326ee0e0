"""What may be served, and what is said about the rest."""

from __future__ import annotations

import base64
import itertools
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from acme_client.errors import IssuanceError
from acme_client.names import canonical, covers
from acme_client.x509.keys import generate, to_pem
from acme_client.x509.verify import CLOCK_BEHIND, CertificateAndKey, read, verify_pair
from support.acme.chains import DAY, chain, joined, split

NOW = 1_795_521_600.0
GOOD = chain("example.org", "*.example.org", "192.0.2.7", "2001:db8::1", now=NOW)
ROOT_CA = trustme.CA()
MIDDLE = ROOT_CA.create_child_ca()
BOTTOM = MIDDLE.create_child_ca()


def test_a_good_one_tells_its_facts() -> None:
    facts = verify_pair(GOOD, ("example.org", "www.example.org", "192.0.2.7"), NOW)
    assert set(facts.names) == {"example.org", "*.example.org", "192.0.2.7", "2001:db8::1"}
    assert (facts.not_before, facts.not_after) == (NOW - DAY, NOW + 89 * DAY)
    assert int(facts.serial, 16) > 0
    assert facts.serial == facts.serial.lower()


def test_a_chain_of_three_is_whole() -> None:
    verify_pair(chain("example.org", now=NOW, ca=BOTTOM), (), NOW)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_is_put_right(order: tuple[int, ...]) -> None:
    pair = chain("example.org", now=NOW, ca=BOTTOM)
    parts = split(pair.chain_pem)
    root = ROOT_CA.cert_pem.bytes()
    given = joined([*(parts[number] for number in order), root, parts[0]])
    served, facts = read(CertificateAndKey(given, pair.key_pem))
    assert served.chain_pem == joined([*parts, root])
    assert facts.names == ("example.org",)


def test_what_does_not_belong_to_the_chain_is_left_out() -> None:
    parts = split(GOOD.chain_pem)
    stranger = trustme.CA().cert_pem.bytes()
    served, _facts = read(CertificateAndKey(joined([stranger, *parts]), GOOD.key_pem))
    assert served.chain_pem == GOOD.chain_pem


LEAF, ISSUER = split(GOOD.chain_pem)
DEEP = chain("example.org", now=NOW, ca=BOTTOM)
DEEP_LEAF, LOWER, UPPER = split(DEEP.chain_pem)


@pytest.mark.parametrize(
    ("pair", "names", "complaint"),
    [
        (CertificateAndKey(GOOD.chain_pem, to_pem(generate("ecdsa-p256"))), (), "for another key"),
        (CertificateAndKey(GOOD.chain_pem, to_pem(generate("rsa-2048"))), (), "for another key"),
        (CertificateAndKey(joined([DEEP_LEAF, UPPER]), DEEP.key_pem), (), "has a gap"),
        (
            CertificateAndKey(GOOD.chain_pem + GOOD.key_pem, GOOD.key_pem),
            (),
            "something else than certif",
        ),
        (
            CertificateAndKey(joined([LEAF, trustme.CA().cert_pem.bytes()]), GOOD.key_pem),
            (),
            "has a gap",
        ),
        (GOOD, ("example.org", "example.net", "example.com"), "not cover example.net, example.com"),
        (GOOD, ("a.b.example.org",), "not cover a.b.example.org"),
        (GOOD, ("192.0.2.8",), "not cover 192.0.2.8"),
        (chain("example.org", now=NOW, ends=0), (), "expired, or this machine's clock is ahead"),
        (
            chain("example.org", now=NOW, begins=CLOCK_BEHIND + 60),
            (),
            "not valid yet, or this machine's clock is behind",
        ),
        (CertificateAndKey(b"", GOOD.key_pem), (), "cannot be read"),
        (CertificateAndKey(GOOD.chain_pem[:300], GOOD.key_pem), (), "cannot be read"),
        (CertificateAndKey(GOOD.chain_pem, GOOD.key_pem[:60]), (), "cannot be read"),
        (CertificateAndKey(b"\xff\xfe", b"\0"), (), "cannot be read"),
    ],
)
def test_a_bad_one_is_refused_with_the_reason(
    pair: CertificateAndKey, names: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(IssuanceError, match=complaint) as refusal:
        verify_pair(pair, names, NOW)
    assert refusal.value.kind == "unproven"


def test_one_that_comes_alone_and_says_where_its_issuer_is_to_be_fetched() -> None:
    """A public CA's leaf without its intermediate: browsers may fetch that, others fail."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a CA")])
    at = datetime.fromtimestamp(NOW, UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(at)
        .not_valid_after(at + timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("example.org")]), False)
    )
    issuers = AuthorityInformationAccessOID.CA_ISSUERS
    where = x509.UniformResourceIdentifier("http://ca.example/issuer.der")
    told = builder.add_extension(
        x509.AuthorityInformationAccess([x509.AccessDescription(issuers, where)]), False
    )
    for built, whole in ((builder, True), (told, False)):
        leaf = built.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
        pair = CertificateAndKey(leaf, to_pem(key))
        if whole:
            verify_pair(pair, ("example.org",), NOW)
            continue
        with pytest.raises(IssuanceError, match="the certificate's issuer is missing"):
            verify_pair(pair, ("example.org",), NOW)


def test_one_that_begins_within_the_day_may_be_served() -> None:
    """The CA's clock is the better one."""
    verify_pair(chain("example.org", now=NOW, begins=CLOCK_BEHIND - 60), (), NOW)


@pytest.mark.parametrize(
    ("certified", "name", "covered"),
    [
        (("example.org",), "example.org", True),
        (("example.org",), "EXAMPLE.org", True),
        (("example.org",), "www.example.org", False),
        (("*.example.org",), "www.example.org", True),
        (("*.example.org",), "*.example.org", True),
        (("*.example.org",), "example.org", False),
        (("*.example.org",), "a.b.example.org", False),
        (("*.0.2.7",), "192.0.2.7", False),
        (("2001:db8::1",), "2001:0DB8:0::1", True),
        (("localhost",), "localhost", True),
        ((), "example.org", False),
    ],
)
def test_a_name_is_covered_as_clients_see_it(
    certified: tuple[str, ...], name: str, covered: bool
) -> None:
    assert covers(certified, name) is covered


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("Example.ORG", "example.org"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("192.0.2.7", "192.0.2.7"),
    ],
)
def test_names_and_addresses_have_one_spelling(name: str, spelling: str) -> None:
    assert canonical(name) == spelling


def test_the_key_is_not_shown_where_a_pair_is_printed() -> None:
    assert "PRIVATE" not in repr(GOOD)


@pytest.mark.parametrize(
    "curve",
    [
        # Of a curve that the library has not: the last byte of secp256r1's OID is another one.
        bytes.fromhex("2a8648ce3d030109"),
        bytes.fromhex("2a8648ce3d030177"),
    ],
)
def test_a_certificate_of_an_unknown_kind_is_a_problem_and_no_surprise(curve: bytes) -> None:
    der = x509.load_pem_x509_certificate(LEAF).public_bytes(serialization.Encoding.DER)
    known = bytes.fromhex("2a8648ce3d030107")
    assert known in der
    odd = base64.encodebytes(der.replace(known, curve))
    pem = b"-----BEGIN CERTIFICATE-----\n" + odd + b"-----END CERTIFICATE-----\n"
    with pytest.raises(IssuanceError, match="cannot be read"):
        verify_pair(CertificateAndKey(pem + ISSUER, GOOD.key_pem), (), NOW)
