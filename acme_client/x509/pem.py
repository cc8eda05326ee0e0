"""Reads PEM as certificate authorities and people write it (RFC 7468 and what is older).

PEM is a convention rather than a format: files carry comments in any encoding, byte order marks,
line ends of three systems or none at the end, indentation, keys beside certificates, words behind
the last block. OpenSSL, Python's `ssl` and `cryptography` each read such a file differently, so
that a file which one of them has examined may fail in another. Here is the only reader: everybody
takes the blocks from it and writes them anew with `written`, and that is what is examined, stored
and served.

It never asks for a passphrase and never guesses: a block that is cut off or damaged is an error,
and what is no PEM at all is named for what it is, with the command that makes PEM of it.

Pure.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import field

from ..late_dataclass import dataclass

# RFC 7468 §5.1 has the first; the others are OpenSSL's, from before and beside the RFC.
CERTIFICATE = "CERTIFICATE"
TRUSTED_CERTIFICATE = "TRUSTED CERTIFICATE"
_CERTIFICATES = (CERTIFICATE, "X509 CERTIFICATE", TRUSTED_CERTIFICATE)
_PRIVATE_KEY = "PRIVATE KEY"
# The largest bundles of roots have some 250 blocks; a file of more is no bundle and no chain.
MOST_BLOCKS = 2000

_MARK = re.compile(rb"-----(BEGIN|END) ([ -~]{1,100}?)-----")
_NUL_LINE = re.compile(rb"(?:\A|\n)\x00")
_LINE_END = re.compile(rb"\r\n|\r|\n")
# Besides white space and control bytes: what copying from a web page leaves between characters
# (no-break space, zero-width space, byte order mark, each in UTF-8), and line ends that a shell or
# JSON has written as a backslash and a letter.
_INVISIBLE = re.compile(rb"[\x00-\x20\x7f]|\xc2\xa0|\xe2\x80\x8b|\xef\xbb\xbf|\\[nr]")
_COMMENT = (b"#", b";", b"//", b"--")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class PemError(ValueError):
    """Says what is wrong with a text that should be PEM. ``command`` mends it, if there is such a
    command; its ``{file}`` and ``{new}`` stand for the file at hand and the one to be made.
    ``words`` say what to do where no command mends it, if there is anything particular to say."""

    def __init__(self, text: str, command: str | None = None, words: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.command = command
        self.words = words

    def mending(self, path: str, new: str | None = None) -> str | None:
        """Return the command for the file at ``path``; None where no command mends it."""
        if self.command is None:
            return None
        stem, dot, _suffix = path.rpartition(".")
        made = new or f"{stem if dot and '/' not in _suffix else path}-plain.pem"
        return self.command.format(file=shlex.quote(path), new=shlex.quote(made))

    def about(self, path: str) -> str:
        """Say it in one sentence, with the file's path and the command."""
        command = self.mending(path)
        return f"{path}: {self.text}" + (f" ({command})" if command else "")


class EncryptedKey(PemError):
    """The private key has a passphrase, which a server has nobody to ask for."""

    def __init__(self) -> None:
        super().__init__(
            "the key is encrypted with a passphrase, and a server has nobody to ask for it",
            "openssl pkey -in {file} -out {new}",
        )


@dataclass(frozen=True, slots=True)
class Block:
    """One block: its ``label``, its header lines' names in lower case (RFC 1421), and its bytes."""

    label: str
    der: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def is_certificate(self) -> bool:
        return self.label in _CERTIFICATES

    @property
    def is_key(self) -> bool:
        """Whether it is a private key, of any kind."""
        return self.label.endswith(_PRIVATE_KEY)

    @property
    def is_encrypted(self) -> bool:
        """Whether it needs a passphrase: PKCS#8's own label, or the older header line."""
        legacy = any(name == "proc-type" and "ENCRYPTED" in value for name, value in self.headers)
        return self.label == f"ENCRYPTED {_PRIVATE_KEY}" or legacy

    @property
    def certificate(self) -> bytes:
        """The DER of a certificate alone: OpenSSL's TRUSTED CERTIFICATE has more behind it."""
        return self.der[: element_length(self.der)]

    @property
    def pem(self) -> bytes:
        """The block as it is stored and served."""
        if self.is_certificate:
            return written(CERTIFICATE, self.certificate)
        return written(self.label, self.der)


def written(label: str, der: bytes) -> bytes:
    """Write a block as RFC 7468 §2 wants it: ASCII, lines of 64 characters, each with its line
    end."""
    text = base64.b64encode(der).decode()
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", "")).encode()


def blocks(data: bytes) -> tuple[Block, ...]:
    """Return all blocks of a text, in their order. What stands around them means nothing. Raises
    `PemError` for a text without any, and for one with a block that is cut off or damaged; where
    OpenSSL would not even see such a block, because it does not stand on lines of its own, it is
    taken for a part of the text around."""
    text = _bytes_of_text(data)
    found: list[Block] = []
    damage: PemError | None = None
    end_before = 0
    marks = list(_MARK.finditer(text))
    for mark, following in itertools.zip_longest(marks, marks[1:]):
        start, end_before = end_before, mark.end()
        if mark[1] == b"END" or _on_its_line(text, start, mark.start()).startswith(_COMMENT):
            continue
        try:
            found.append(_block(text, mark, following))
        except PemError as error:
            if _has_a_line(text, mark):
                raise
            damage = damage or error
        if len(found) > MOST_BLOCKS:
            raise PemError(f"it has more than {MOST_BLOCKS} blocks")
    if not found:
        raise damage or _no_blocks(data, text)
    return tuple(found)


def certificates(data: bytes) -> tuple[bytes, ...]:
    """Return the certificates (DER) of a text, in their order. Raises `PemError` where there is
    none."""
    found = blocks(data)
    listed = tuple(one.certificate for one in found if one.is_certificate)
    if not listed:
        raise _only(found, "certificate")
    return listed


def keys(data: bytes) -> tuple[Block, ...]:
    """Return the private keys of a text, none of them encrypted. Raises `PemError` where there is
    none, `EncryptedKey` where there are only such that need a passphrase."""
    found = blocks(data)
    listed = [one for one in found if one.is_key]
    plain = tuple(one for one in listed if not one.is_encrypted)
    if listed and not plain:
        raise EncryptedKey
    if not plain:
        raise _only(found, "private key")
    return plain


def element_length(der: bytes) -> int:
    """Return how many bytes the first DER element has (X.690 §8.1), its own head included; all that
    there are if its length makes no sense, which whoever parses it will say."""
    if len(der) < 2:
        return len(der)
    length, head = der[1], 2
    if length & 0x80:
        size = length & 0x7F
        head += size
        length = int.from_bytes(der[2:head])
    return min(head + length, len(der))


def elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and contents of DER elements one behind the other (X.690 §8.1)."""
    while der:
        length = element_length(der)
        long_form = len(der) > 1 and der[1] & 0x80
        head = 2 + (der[1] & 0x7F if long_form else 0)
        yield der[0], der[head:length]
        der = der[length:]


# Reading


def _bytes_of_text(data: bytes) -> bytes:
    """Return a text in an encoding of which ASCII is a part. Windows writes UTF-16 where a
    command's output goes to a file."""
    if data.startswith(_UTF_16):
        return data.decode("utf-16", "replace").encode()
    return data


def _on_its_line(text: bytes, start: int, end: int) -> bytes:
    """Return what stands before a mark on its line, after the mark before it, but for what is
    invisible and for tags of HTML."""
    line = re.split(rb"[\r\n]", text[start:end])[-1]
    return _INVISIBLE.sub(b"", re.sub(rb"<[^<>]*>", b"", line))


def _has_a_line(text: bytes, mark: re.Match[bytes]) -> bool:
    """Whether a mark is all that stands on its line, as OpenSSL sees lines; it sees none from a
    line on that begins with a NUL."""
    if _NUL_LINE.search(text, 0, mark.start()):
        return False
    before = text[text.rfind(b"\n", 0, mark.start()) + 1 : mark.start()]
    behind = text[mark.end() :].partition(b"\n")
    return not before and bool(behind[1]) and not behind[0].strip()


def _block(text: bytes, begin: re.Match[bytes], end: re.Match[bytes] | None) -> Block:
    label = begin[2].decode()
    if end is None or end[1] != b"END":
        said = f"the block {label} has no end; the file is cut off, or lines are missing"
        raise PemError(said, words=_COPY_AGAIN)
    if end[2] != begin[2]:
        raise PemError(f"the block {label} ends as {end[2].decode()}", words=_COPY_AGAIN)
    headers, body = _parts(text[begin.end() : end.start()])
    packed = _INVISIBLE.sub(b"", body)
    try:
        der = binascii.a2b_base64(packed + b"=" * (-len(packed) % 4), strict_mode=True)
    except binascii.Error:
        said = f"the block {label} is damaged: it is not base64"
        raise PemError(said, words=_COPY_AGAIN) from None
    if not der:
        raise PemError(f"the block {label} is empty", words=_COPY_AGAIN)
    return Block(label, der, headers)


def _parts(body: bytes) -> tuple[tuple[tuple[str, str], ...], bytes]:
    """Return header lines and what follows. Base64 has no colon, so a line with one is a header;
    headers end with an empty line, and their continuation lines begin with a blank (RFC 1421
    §4.6)."""
    if b":" not in body:
        return (), body
    lines = _LINE_END.split(body)
    last = max(number for number, line in enumerate(lines) if b":" in line)
    rest = last + 1
    while rest < len(lines) and lines[rest][:1] in (b" ", b"\t") and lines[rest].strip():
        if not any(not line.strip() for line in lines[rest:]):
            break  # no empty line follows: all of it is indented
        rest += 1
    headers = []
    for line in lines[:rest]:
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            headers.append((name.strip().lower(), value.strip()))
    return tuple(headers), b"\n".join(lines[rest:])


# What it is instead


_COPY_AGAIN = "copy it again from where it was made"
_OF_THE_CA = "name the certificate that the CA has sent for this request"
_REQUEST = "it is a certificate request, and not the certificate that a CA made of it"
# What people take for a certificate or a key, by label.
_MISTAKEN = {
    "CERTIFICATE REQUEST": (_REQUEST, None),
    "NEW CERTIFICATE REQUEST": (_REQUEST, None),
    "PKCS7": ("it is PKCS#7", "openssl pkcs7 -print_certs -in {file} -out {new}"),
    "CMS": ("it is PKCS#7", "openssl pkcs7 -print_certs -in {file} -out {new}"),
}


def _only(found: tuple[Block, ...], wanted: str) -> PemError:
    """Say why a file has none of what is ``wanted``."""
    if found[0].label in _MISTAKEN:
        text, command = _MISTAKEN[found[0].label]
        return PemError(text, command, None if command else _OF_THE_CA)
    labels = ", ".join(dict.fromkeys(one.label for one in found))
    text = f"there is no {wanted} in it, but {labels}"
    return PemError(text, words=f"name the file with the {wanted}")


def _no_blocks(data: bytes, text: bytes) -> PemError:
    if not data.strip():
        return PemError("it is empty, and not PEM", words=_COPY_AGAIN)
    return next(_recognised(data, text), PemError("it is not PEM: no line begins with -----BEGIN"))


# Beginnings and inner object identifiers of binary files.
_JAVA_KEYSTORE = b"\xfe\xed\xfe\xed"
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")  # PKCS#7, RFC 2315 §14
_PFX_VERSION = b"\x02\x01\x03"  # RFC 7292 §4


def _recognised(data: bytes, text: bytes) -> Iterator[PemError]:
    if data.startswith(b"\x30"):
        yield from _der(data)
    if data.startswith(_JAVA_KEYSTORE):
        yield PemError(
            "it is a Java keystore and not PEM",
            "keytool -importkeystore -srckeystore {file} -destkeystore {new}.p12 "
            "-deststoretype PKCS12",
        )
    bare = _INVISIBLE.sub(b"", text)
    if re.fullmatch(rb"MII[A-Za-z0-9+/]+={0,2}", bare):
        yield PemError("the lines -----BEGIN ...----- and -----END ...----- around it are missing")
    if re.match(rb"(?i)\s*(<!doctype|<html|<\?xml)", text.removeprefix(b"\xef\xbb\xbf")):
        words = "save the file itself, and not the page that shows it"
        yield PemError("it is a web page and not PEM", words=words)


def _der(data: bytes) -> Iterator[PemError]:
    # Every process of the server reads PEM, and none of them comes here.
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    head = data[:40]
    if _SIGNED_DATA in head:
        yield PemError(
            "it is PKCS#7 in DER and not PEM",
            "openssl pkcs7 -inform DER -print_certs -in {file} -out {new}",
        )
    if _PFX_VERSION in head[:8]:
        yield PemError("it is PKCS#12 and not PEM", "openssl pkcs12 -nodes -in {file} -out {new}")
    whole = data[: element_length(data)]
    try:
        x509.load_der_x509_certificate(whole)
        yield PemError(
            "it is a certificate in DER and not PEM",
            "openssl x509 -inform DER -in {file} -out {new}",
        )
    except (ValueError, x509.InvalidVersion):
        pass
    as_key = PemError(
        "it is a key in DER and not PEM", "openssl pkey -inform DER -in {file} -out {new}"
    )
    try:
        serialization.load_der_private_key(whole, None)
        yield as_key
    except TypeError:
        yield as_key
    except (ValueError, UnsupportedAlgorithm):
        pass
    try:
        x509.load_der_x509_csr(whole)
        yield PemError(_REQUEST, words=_OF_THE_CA)
    except (ValueError, x509.InvalidVersion):
        pass
    yield PemError("it is binary (DER) and not PEM")
