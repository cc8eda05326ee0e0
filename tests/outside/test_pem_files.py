"""PEM as the world writes it: one table of texts that mean a chain, one of files that are none.

A new case is a line. What is accepted is the same certificates, written anew, and OpenSSL loads
them as a worker does.
"""

from __future__ import annotations

import base64
import re
import ssl
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs7, pkcs12
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acme_client.errors import IssuanceError
from acme_client.names import covers
from acme_client.x509 import loadable, pem
from acme_client.x509.own_files import Examined, examine_files
from acme_client.x509.trust_bundle import authorities
from acme_client.x509.verify import CertificateAndKey, read
from support.acme.chains import chain, joined, split

NOW = datetime.now(UTC).timestamp()
CA = trustme.CA()
LOWER = CA.create_child_ca()
PAIR = chain("shop.test", now=NOW, ca=LOWER)
LEAF, ISSUER = split(PAIR.chain_pem)
ROOT = CA.cert_pem.bytes()
KEY = serialization.load_pem_private_key(PAIR.key_pem, None)
OTHER_EC = ec.generate_private_key(ec.SECP256R1())
OTHER_RSA = rsa.generate_private_key(65537, 2048)


def pkcs8(key: Any, password: bytes | None = None) -> bytes:
    return bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption(),
        )
    )


def legacy(key: Any, password: bytes | None = None) -> bytes:
    return bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption(),
        )
    )


def lines(text: bytes, change: Callable[[bytes], bytes]) -> bytes:
    return b"\n".join(change(line) for line in text.splitlines()) + b"\n"


def one_line(text: bytes) -> bytes:
    return re.sub(rb"(?<!-)\n(?!-)", b"", text)


def relabelled(text: bytes, label: bytes) -> bytes:
    return text.replace(b" CERTIFICATE-", b" " + label + b"-")


def trusted(text: bytes, auxiliary: bytes) -> bytes:
    der = x509.load_pem_x509_certificate(text).public_bytes(serialization.Encoding.DER)
    return pem.written(pem.TRUSTED_CERTIFICATE, der + auxiliary)


WHOLE = PAIR.chain_pem
# SEQUENCE { [0] { serverAuth } }: a root that is kept and distrusted.
REJECTS_SERVERS = bytes.fromhex("300ca00a06082b06010505070301")
TRUSTS_CLIENTS = bytes.fromhex("300c300a06082b06010505070302")

# Texts that mean leaf and issuer, from a CA and from people alike.
TEXTS: dict[str, bytes] = {
    "as it should be": WHOLE,
    "no last line end": WHOLE.rstrip(),
    "CRLF": WHOLE.replace(b"\n", b"\r\n"),
    "CRLF without the last": WHOLE.rstrip().replace(b"\n", b"\r\n"),
    "CR": WHOLE.replace(b"\n", b"\r"),
    "CR without the last": WHOLE.rstrip().replace(b"\n", b"\r"),
    "CR CR LF": WHOLE.replace(b"\n", b"\r\r\n"),
    "line ends of two kinds": LEAF.replace(b"\n", b"\r\n") + ISSUER,
    "END and BEGIN on one line": LEAF.rstrip() + ISSUER,
    "END and BEGIN on one line, nothing last": LEAF.rstrip() + ISSUER.rstrip(),
    "indented by blanks": lines(WHOLE, lambda line: b"  " + line),
    "indented by tabs": lines(WHOLE, lambda line: b"\t" + line),
    "blanks behind the lines": lines(WHOLE, lambda line: line + b"  "),
    "empty lines everywhere": WHOLE.replace(b"\n", b"\n\n"),
    "empty lines around": b"\n\n" + LEAF + b"\n\n\n" + ISSUER + b"\n\n",
    "base64 on one line": one_line(WHOLE),
    "everything on one line": WHOLE.replace(b"\n", b" "),
    "line ends as a shell prints them": WHOLE.replace(b"\n", b"\\n"),
    "a text in JSON": b'{"chain": "' + WHOLE.replace(b"\n", b"\\r\\n") + b'"}',
    "in quotation marks": b'"' + WHOLE.rstrip() + b'"\n',
    "a NUL behind": WHOLE + b"\0",
    "many NULs behind": WHOLE + bytes(512),
    "a form feed behind": WHOLE + b"\f",
    "form feeds between": LEAF + b"\f\n" + ISSUER + b"\f",
    "control Z behind": WHOLE + b"\x1a",
    "words behind": WHOLE + b"issued by us\n",
    "words behind without line end": WHOLE + b"issued by us",
    "words before": b"Dear customer, your chain:\n" + WHOLE,
    "words between": LEAF + b"and the issuer\n" + ISSUER,
    "words on the line of END": LEAF.rstrip() + b" that was it\n" + ISSUER,
    "words that speak of PEM": b"copy from -----BEGIN CERTIFICATE----- on\n" + WHOLE,
    "a lone END before": b"-----END CERTIFICATE-----\n" + WHOLE,
    "a comment in UTF-8": "# Főtanúsítvány\n".encode() + WHOLE,
    "a comment in Latin-1": b"# Hauptzertifikat f\xfcr\n" + WHOLE,
    "a comment in UTF-8 between": LEAF + "Πιστοποιητικό\n".encode() + ISSUER,
    "OpenSSL's own text": b"Certificate:\n    Data:\n        Version: 3 (0x2)\n" + WHOLE,
    "bag attributes": b"Bag Attributes\n    localKeyID: 01 02\nsubject=CN = x\n" + WHOLE,
    "a block that is a comment": lines(LEAF, lambda line: b"# " + line) + WHOLE,
    "a byte order mark": b"\xef\xbb\xbf" + WHOLE,
    "a byte order mark in the middle": LEAF + b"\xef\xbb\xbf" + ISSUER,
    "UTF-16 of Windows": b"\xff\xfe" + WHOLE.decode().replace("\n", "\r\n").encode("utf-16-le"),
    "UTF-16, big end first": b"\xfe\xff" + WHOLE.decode().encode("utf-16-be"),
    "no-break spaces": lines(WHOLE, lambda line: line + b"\xc2\xa0"),
    "HTML around": b"<html><body><pre>" + WHOLE.rstrip() + b"</pre></body></html>\n",
    "HTML with a heading": b"<html><h1>Your chain</h1>\n<pre>\n" + WHOLE + b"</pre></html>",
    "header lines": WHOLE.replace(
        b"-----BEGIN CERTIFICATE-----\n", b"-----BEGIN CERTIFICATE-----\nComment: ours\nX: y\n\n"
    ),
    "header lines without an empty one": WHOLE.replace(
        b"-----BEGIN CERTIFICATE-----\n", b"-----BEGIN CERTIFICATE-----\nComment: ours\n"
    ),
    "the older label": relabelled(WHOLE, b"X509 CERTIFICATE"),
    "OpenSSL's trusted form": trusted(LEAF, b"") + trusted(ISSUER, TRUSTS_CLIENTS),
    "issuer first": ISSUER + LEAF,
    "twice": WHOLE + WHOLE,
    "the leaf twice": LEAF + WHOLE,
    "the issuer twice": WHOLE + ISSUER,
    "another CA's root as well": WHOLE + trustme.CA().cert_pem.bytes(),
    "another CA's root first": trustme.CA().cert_pem.bytes() + WHOLE,
    "base64 without its padding": b"".join(
        pem.written("CERTIFICATE", one).replace(b"=", b"") for one in pem.certificates(WHOLE)
    ),
}

# The same with what a CA must not send (RFC 8555 §11.4), and people have in their files.
COMBINED: dict[str, bytes] = {
    "key behind": WHOLE + PAIR.key_pem,
    "key behind, nothing last": WHOLE + PAIR.key_pem.rstrip(),
    "key before": PAIR.key_pem + WHOLE,
    "key before, no line end between": PAIR.key_pem.rstrip() + WHOLE,
    "key between": LEAF + PAIR.key_pem + ISSUER,
    "key of the older form": legacy(KEY) + WHOLE,
    "parameters of the curve": pem.written("EC PARAMETERS", bytes.fromhex("06082a8648ce3d030107"))
    + PAIR.key_pem
    + WHOLE,
    "a group for Diffie and Hellman": WHOLE
    + PAIR.key_pem
    + pem.written("DH PARAMETERS", b"\x30\0"),
    "another key first": pkcs8(OTHER_EC) + PAIR.key_pem + WHOLE,
    "an encrypted one beside": pkcs8(OTHER_EC, b"secret") + PAIR.key_pem + WHOLE,
    "CRLF": (WHOLE + PAIR.key_pem).replace(b"\n", b"\r\n"),
    "CR": (WHOLE + PAIR.key_pem).replace(b"\n", b"\r"),
    "BOM": b"\xef\xbb\xbf" + PAIR.key_pem + WHOLE,
    "UTF-16": (PAIR.key_pem + WHOLE).decode().encode("utf-16"),
    "indented": lines(PAIR.key_pem + WHOLE, lambda line: b"    " + line),
}


def examined(chain_text: bytes, key_text: bytes, *names: str) -> Examined:
    return examine_files(
        chain_text,
        key_text,
        names or ("shop.test",),
        NOW,
        chain_path="/etc/c.pem",
        key_path="/etc/k.pem",
    )


@pytest.mark.parametrize("case", TEXTS)
def test_a_chain_from_a_ca(case: str) -> None:
    served, facts = read(CertificateAndKey(TEXTS[case], PAIR.key_pem))
    assert served.chain_pem == WHOLE
    assert facts.names == ("shop.test",)
    assert loadable.fault(served) is None


@pytest.mark.parametrize("case", TEXTS)
def test_a_chain_of_ones_own(case: str) -> None:
    found = examined(TEXTS[case], PAIR.key_pem)
    assert found.faults == ()
    assert found.pair is not None
    assert found.pair.chain_pem == WHOLE
    assert loadable.fault(found.pair) is None


@pytest.mark.parametrize("case", TEXTS)
def test_a_bundle_of_authorities(case: str) -> None:
    """As `ca_file` everywhere: what stands in it is trusted, whatever stands around."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    wanted = set(pem.certificates(WHOLE))
    context.load_verify_locations(cadata=authorities(TEXTS[case], "clients"))
    assert context.cert_store_stats()["x509"] >= len(wanted)


@pytest.mark.parametrize("case", COMBINED)
def test_a_file_with_key_and_chain(case: str) -> None:
    found = examined(COMBINED[case], COMBINED[case])
    assert found.faults == ()
    assert found.pair is not None
    assert found.pair.chain_pem == WHOLE
    assert loadable.fault(found.pair) is None


@pytest.mark.parametrize("case", COMBINED)
def test_a_ca_that_sends_more_than_certificates_is_refused(case: str) -> None:
    with pytest.raises(IssuanceError, match="something else than certificates") as refusal:
        read(CertificateAndKey(COMBINED[case], PAIR.key_pem))
    assert refusal.value.kind == "unproven"


def test_the_root_stays_where_it_was_sent() -> None:
    served, _facts = read(CertificateAndKey(ROOT + ISSUER + LEAF, PAIR.key_pem))
    assert served.chain_pem == joined([LEAF, ISSUER, ROOT])


@pytest.mark.parametrize("form", [pkcs8, legacy])
@pytest.mark.parametrize("key", [OTHER_EC, OTHER_RSA], ids=["EC", "RSA"])
def test_a_key_with_a_passphrase_is_named(form: Callable[..., bytes], key: Any) -> None:
    (fault,) = examined(WHOLE, form(key, b"secret")).faults
    assert fault.fatal
    assert str(fault).startswith("/etc/k.pem: the key is encrypted with a passphrase")
    assert fault.command == "openssl pkey -in /etc/k.pem -out /etc/k-plain.pem"


@pytest.mark.parametrize("key", [OTHER_EC, OTHER_RSA, ed25519.Ed25519PrivateKey.generate()])
def test_a_key_of_another_certificate(key: Any) -> None:
    """Whatever the kinds of the two keys: the same words."""
    (fault,) = examined(WHOLE, pkcs8(key)).faults
    assert (fault.kind, fault.fatal) == ("mismatch", True)
    assert str(fault) == "/etc/c.pem, /etc/k.pem: the key does not belong to the certificate"


def der(text: bytes) -> bytes:
    return pem.certificates(text)[0]


def key_in_der(key: Any) -> bytes:
    return bytes(
        key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


CERTIFICATES = [x509.load_pem_x509_certificate(one) for one in (LEAF, ISSUER)]
NOT_A_CHAIN: dict[str, tuple[bytes, str]] = {
    "DER": (der(LEAF), "a certificate in DER.*openssl x509 -inform DER -in /etc/c.pem"),
    "PKCS#12": (
        pkcs12.serialize_key_and_certificates(
            b"x", OTHER_EC, None, CERTIFICATES, serialization.NoEncryption()
        ),
        "PKCS#12.*openssl pkcs12",
    ),
    "PKCS#7 in DER": (
        pkcs7.serialize_certificates(CERTIFICATES, serialization.Encoding.DER),
        "PKCS#7.*openssl pkcs7 -inform DER -print_certs",
    ),
    "PKCS#7 in PEM": (
        pkcs7.serialize_certificates(CERTIFICATES, serialization.Encoding.PEM),
        "PKCS#7.*openssl pkcs7 -print_certs",
    ),
    "a key in DER": (key_in_der(OTHER_EC), "a key in DER.*openssl pkey -inform DER"),
    "a key": (PAIR.key_pem, "no certificate in it, but .*PRIVATE KEY"),
    "base64 alone": (base64.encodebytes(der(LEAF)), "lines -----BEGIN"),
    "nothing": (b"", "is empty"),
    "blanks": (b" \n\n", "is empty"),
    "a web page": (b"<!DOCTYPE html><p>404</p>", "a web page"),
    "words": (b"TODO: ask Anna for it\n", "not PEM"),
    "cut off": (LEAF[:-40], "no end; the file is cut off"),
    "cut off in the second": (LEAF + ISSUER[:300], "no end; the file is cut off"),
    "damaged": (LEAF.replace(b"M", b"?"), "damaged: it is not base64"),
    "not a certificate inside": (pem.written("CERTIFICATE", b"hello"), "cannot be read"),
    "an empty block": (pem.written("CERTIFICATE", b""), "is empty"),
    "a Java keystore": (b"\xfe\xed\xfe\xed\0\0\0\2\0\0\0\0", "Java keystore.*keytool"),
    "random bytes": (bytes(range(256)) * 4, "not PEM"),
    "a request": (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(OTHER_EC, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM),
        "a certificate request",
    ),
}


@pytest.mark.parametrize("case", NOT_A_CHAIN)
def test_what_is_no_chain_is_named_for_what_it_is(case: str) -> None:
    text, words = NOT_A_CHAIN[case]
    found = examined(text, PAIR.key_pem)
    assert found.fatal is not None
    assert re.match(f"/etc/c.pem: .*{words}", str(found.fatal)), str(found.fatal)
    with pytest.raises(IssuanceError):
        read(CertificateAndKey(text, PAIR.key_pem))


NOT_A_KEY: dict[str, tuple[bytes, str]] = {
    "a chain": (WHOLE, "no private key in it, but CERTIFICATE"),
    "DER": (key_in_der(KEY), "a key in DER.*openssl pkey -inform DER -in /etc/k.pem"),
    "a public key": (
        KEY.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        "no private key in it, but PUBLIC KEY",
    ),
    "for SSH": (
        ed25519.Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        ),
        "SSH",
    ),
    "cut off": (PAIR.key_pem[:100], "no end"),
    "nothing": (b"", "is empty"),
}


@pytest.mark.parametrize("case", NOT_A_KEY)
def test_what_is_no_key_is_named_for_what_it_is(case: str) -> None:
    text, words = NOT_A_KEY[case]
    (fault,) = examined(WHOLE, text).faults
    assert re.match(f"/etc/k.pem: .*{words}", str(fault)), str(fault)


def test_the_commands_make_what_is_served(tmp_path: Path) -> None:
    """The command that a message shows is one that works."""
    key_file, chain_file = tmp_path / "k.pem", tmp_path / "c.der"
    key_file.write_bytes(legacy(KEY, b"secret"))
    chain_file.write_bytes(der(LEAF))
    found = examine_files(
        chain_file.read_bytes(),
        key_file.read_bytes(),
        ("shop.test",),
        NOW,
        chain_path=str(chain_file),
        key_path=str(key_file),
    )
    for fault in found.faults:
        assert fault.command is not None
        command = fault.command.replace("openssl pkey", "openssl pkey -passin pass:secret")
        subprocess.run(command, shell=True, check=True, capture_output=True)
    mended = examine_files(
        (tmp_path / "c-plain.pem").read_bytes(),
        (tmp_path / "k-plain.pem").read_bytes(),
        ("shop.test",),
        NOW,
    )
    assert mended.pair is not None


@pytest.mark.parametrize(
    ("pair", "names", "kind", "words"),
    [
        (PAIR, ("shop.test", "www.shop.test"), "names", "does not cover: www.shop.test; it is for"),
        (PAIR, ("*.shop.test",), "names", r"does not cover: \*.shop.test; it is for shop.test"),
        (chain("a.test", now=NOW, ends=-3600), ("a.test",), "expired", "has expired, on 20"),
        (chain("a.test", now=NOW, begins=3600), ("a.test",), "early", "not valid before 20"),
        (
            CertificateAndKey(LEAF + ROOT, PAIR.key_pem),
            ("shop.test",),
            "gap",
            "the chain has a gap",
        ),
    ],
)
def test_what_is_served_all_the_same_is_told(
    pair: CertificateAndKey, names: tuple[str, ...], kind: str, words: str
) -> None:
    found = examined(pair.chain_pem, pair.key_pem, *names)
    assert found.pair is not None
    (fault,) = found.faults
    assert (fault.kind, fault.fatal) == (kind, False)
    assert re.match(f"/etc/c.pem: .*{words}", fault.text), fault.text


def test_a_root_that_is_distrusted_is_not_trusted() -> None:
    """As distributions keep roots that browsers have thrown out."""
    text = trusted(ROOT, REJECTS_SERVERS)
    assert authorities(text, "clients") == der(ROOT)
    with pytest.raises(pem.PemError, match="trusts none of its certificates with servers"):
        authorities(text, "servers")
    with pytest.raises(pem.PemError):
        authorities(trusted(ROOT, TRUSTS_CLIENTS), "servers")
    assert authorities(ROOT + text, "servers") == der(ROOT)


def test_a_key_that_openssl_finds_too_short() -> None:
    """What fits together and is still not served: told before a good one has made way."""
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([])
    names = x509.SubjectAlternativeName([x509.DNSName("shop.test")])
    at = datetime.fromtimestamp(NOW, UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), 7, at, at.replace(year=2099))
    leaf = built.add_extension(names, critical=True).sign(key, hashes.SHA256())
    pair, _facts = read(
        CertificateAndKey(leaf.public_bytes(serialization.Encoding.PEM), pkcs8(key))
    )
    assert loadable.fault(pair) == "the key is too short"
    with pytest.raises(IssuanceError, match="OpenSSL does not take the certificate"):
        loadable.demand(pair)


# Property: what is accepted loads in OpenSSL, and what OpenSSL and the proof accept is accepted.

_BLOCKS = {
    "leaf": LEAF,
    "issuer": ISSUER,
    "root": ROOT,
    "stranger": trustme.CA().cert_pem.bytes(),
    "key": PAIR.key_pem,
    "other key": pkcs8(OTHER_EC),
    "parameters": pem.written("EC PARAMETERS", bytes.fromhex("06082a8648ce3d030107")),
    "older label": relabelled(ISSUER, b"X509 CERTIFICATE"),
    "cut": LEAF[:200],
    "damaged": ISSUER.replace(b"M", b"*"),
}
_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n"])
_TEXTS = st.one_of(
    st.just(b""),
    st.text(max_size=30).map(lambda text: text.encode("utf-8", "replace") + b"\n"),
    st.binary(max_size=20).map(lambda text: text + b"\n"),
    st.sampled_from([b"\xef\xbb\xbf", b"# -----BEGIN CERTIFICATE-----\n", b"<pre>", b"\0", b"\f"]),
)


@st.composite
def pem_texts(draw: st.DrawFn) -> bytes:
    text = b""
    for name in draw(st.lists(st.sampled_from(sorted(_BLOCKS)), max_size=5)):
        end = draw(_ENDS)
        block = _BLOCKS[name].replace(b"\n", end)
        indent = draw(st.sampled_from([b"", b"", b"", b"  "]))
        if indent:
            block = lines(block, lambda line, indent=indent: indent + line)  # type: ignore[misc]
        text += draw(_TEXTS) + (block if draw(st.integers(0, 3)) else block.rstrip())
    return text + draw(_TEXTS)


def by_openssl(folder: Path, chain_text: bytes) -> bool:
    """Whether OpenSSL takes the bytes as they are, with our key."""
    chain_file, key_file = folder / "chain.pem", folder / "key.pem"
    chain_file.write_bytes(chain_text)
    key_file.write_bytes(PAIR.key_pem)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            chain_file, key_file, password=lambda: ""
        )
    except (ssl.SSLError, OSError):
        return False
    return True


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=pem_texts())
def test_what_is_accepted_loads_and_what_openssl_and_the_proof_accept_is_accepted(
    tmp_path: Path, text: bytes
) -> None:
    own = examined(text, PAIR.key_pem)
    if own.pair is not None:
        assert loadable.fault(own.pair) is None
        leaf = x509.load_pem_x509_certificate(own.pair.chain_pem)
        assert leaf.public_key() == KEY.public_key()
    elif by_openssl(tmp_path, text):
        raise AssertionError("OpenSSL takes it, and we do not")
    try:
        served, facts = read(CertificateAndKey(text, PAIR.key_pem))
    except IssuanceError:
        return
    assert own.pair is not None
    assert served.chain_pem == own.pair.chain_pem
    assert covers(facts.names, "shop.test")
    assert loadable.fault(served) is None


def trusted_by_openssl(bundle: bytes | Path) -> int:
    """How many certificates OpenSSL takes from a file, or from what we have made of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if isinstance(bundle, Path):
        context.load_verify_locations(cafile=bundle)
    else:
        context.load_verify_locations(cadata=bundle)
    return context.cert_store_stats()["x509"]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=pem_texts())
def test_a_bundle_is_trusted_whole_where_openssl_trusts_it(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "bundle.pem"
    file.write_bytes(text)
    try:
        wanted = trusted_by_openssl(file)
    except (ssl.SSLError, OSError):
        wanted = 0
    try:
        ours = trusted_by_openssl(authorities(text, "servers"))
    except pem.PemError:
        ours = 0
    assert ours >= wanted


def made(*extensions: x509.ExtensionType, key: Any = OTHER_EC, by: Any = OTHER_RSA) -> bytes:
    """A certificate for a key, by a CA whose key this is."""
    title = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a CA of the test's")])
    first, last = datetime.fromtimestamp(NOW - 60, UTC), datetime.fromtimestamp(NOW + 86400, UTC)
    builder = x509.CertificateBuilder(title, x509.Name([]), key.public_key(), 7, first, last)
    for one in (x509.SubjectAlternativeName([x509.DNSName("shop.test")]), *extensions):
        builder = builder.add_extension(one, critical=False)
    return builder.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


SERVER_AUTH, CLIENT_AUTH = (
    x509.ExtendedKeyUsage([use])
    for use in (x509.ExtendedKeyUsageOID.SERVER_AUTH, x509.ExtendedKeyUsageOID.CLIENT_AUTH)
)


@pytest.mark.parametrize(
    ("extensions", "words"),
    [
        ((), None),
        ((SERVER_AUTH,), None),
        ((x509.BasicConstraints(ca=False, path_length=None),), None),
        ((CLIENT_AUTH,), "not for servers"),
        ((x509.BasicConstraints(ca=True, path_length=None),), "a CA's own"),
    ],
)
def test_a_certificate_for_something_else_is_served_and_told(
    extensions: tuple[x509.ExtensionType, ...], words: str | None
) -> None:
    found = examined(made(*extensions), pkcs8(OTHER_EC))
    assert found.pair is not None
    assert [one.kind for one in found.faults] == ([] if words is None else ["purpose"])
    for fault in found.faults:
        assert words is not None
        assert words in fault.text
        assert fault.remedy == "name the certificate that was made for this server"


def test_nothing_is_said_of_a_certificate_that_signed_itself() -> None:
    """As openssl req -x509 makes them: whoever trusts it, trusts it."""
    builder = x509.CertificateBuilder(
        x509.Name([]), x509.Name([]), OTHER_EC.public_key(), 7,
        datetime.fromtimestamp(NOW - 60, UTC), datetime.fromtimestamp(NOW + 86400, UTC),
    ).add_extension(x509.SubjectAlternativeName([x509.DNSName("shop.test")]), critical=False)  # fmt: skip
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    own = builder.sign(OTHER_EC, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    assert examined(own, pkcs8(OTHER_EC)).faults == ()


@pytest.mark.parametrize(
    ("chain_text", "key_text", "remedy"),
    [
        (PAIR.key_pem, WHOLE, "exchange the two: chain: /etc/k.pem, key: /etc/c.pem"),
        (b"", PAIR.key_pem, "copy it again"),
        (WHOLE[:300], PAIR.key_pem, "copy it again"),
        (WHOLE.replace(b"M", b"?"), PAIR.key_pem, "copy it again"),
        (pem.written("CERTIFICATE", b"hello"), PAIR.key_pem, "copy it again"),
        (b"TODO\n", PAIR.key_pem, "give PEM: BEGIN CERTIFICATE"),
        (b"<!doctype html>", PAIR.key_pem, "save the file itself"),
        (NOT_A_CHAIN["a request"][0], PAIR.key_pem, "name the certificate that the CA has sent"),
        (NOT_A_CHAIN["DER"][0], PAIR.key_pem, "openssl x509 -inform DER"),
        (WHOLE, NOT_A_KEY["a public key"][0], "name the file with the private key"),
        (WHOLE, NOT_A_KEY["for SSH"][0], "name the key that the certificate was made with"),
        (WHOLE, pkcs8(OTHER_EC), "name the key that the certificate was made with"),
        (WHOLE, pkcs8(OTHER_EC, b"secret"), "openssl pkey -in /etc/k.pem"),
    ],
)  # fmt: skip
def test_what_is_to_be_done_fits_the_fault(chain_text: bytes, key_text: bytes, remedy: str) -> None:
    fault = examined(chain_text, key_text).faults[0]
    assert fault.remedy.startswith(remedy)


def test_of_a_key_that_is_too_short_a_better_one_is_asked_for() -> None:
    short = rsa.generate_private_key(65537, 1024)
    found = examined(made(key=short), pkcs8(short))
    assert found.pair is not None
    why = loadable.fault(found.pair)
    assert why == "the key is too short"
    assert "RSA key of 2048 bits or more" in loadable.remedy(why)
    assert "PEM" not in loadable.remedy(why)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (OTHER_EC, None),
        (OTHER_RSA, None),
        (ec.generate_private_key(ec.SECP384R1()), None),
        (ec.generate_private_key(ec.SECP256K1()), "secp256k1"),
        (ed25519.Ed25519PrivateKey.generate(), "ed25519"),
    ],
    ids=["P-256", "RSA", "P-384", "secp256k1", "Ed25519"],
)
def test_a_key_that_no_browser_takes_is_told(key: Any, kind: str | None) -> None:
    found = examined(made(key=key), pkcs8(key))
    assert found.pair is not None
    told = [one.text.rpartition("(")[2].rstrip(")") for one in found.faults]
    assert told == ([] if kind is None else [kind])
    assert all("ECDSA P-256" in one.remedy for one in found.faults)
