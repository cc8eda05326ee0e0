"""A TLS client that goes on with records of its own making once a real handshake has been made.

OpenSSL makes the handshake and tells its secrets (SSLKEYLOGFILE's format); after it every record is
sealed here, so that it may hold what no library would send: KeyUpdates by the thousand, nothing at all,
one byte, a ClientHello in the middle (RFC 8446 §5, §7; RFC 5246 §6.2.3.3, RFC 5288). Made beforehand,
a flood costs its sender nothing but the sending.
"""

from __future__ import annotations

import hmac
import socket
import ssl
import struct
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ALERT, HANDSHAKE, DATA = 21, 22, 23
_SUITES = {"TLSv1.3": "TLS_AES_256_GCM_SHA384", "TLSv1.2": "ECDHE-ECDSA-AES256-GCM-SHA384"}


class Records:
    """``sock`` is the plain socket; `seal` makes the next record that the server will accept."""

    def __init__(self, sock: socket.socket, name: str, version: str = "TLSv1.3") -> None:
        self.sock = sock
        with tempfile.NamedTemporaryFile() as told:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.set_alpn_protocols(["http/1.1"])
            context.keylog_filename = told.name
            if version == "TLSv1.2":
                context.maximum_version = ssl.TLSVersion.TLSv1_2
                context.set_ciphers(_SUITES[version])
            heard = self._handshake(context, name)
            secrets = {
                line.split()[0]: line.split()[1:]
                for line in Path(told.name).read_text().splitlines()
                if not line.startswith("#")
            }
        self._sequence = 0
        if version == "TLSv1.3":
            self._traffic_secret = bytes.fromhex(secrets["CLIENT_TRAFFIC_SECRET_0"][1])
            self._new_keys()
            self.seal = self._seal_13
        else:
            client_random, master = map(bytes.fromhex, secrets["CLIENT_RANDOM"])
            server_random = heard[11:43]  # of the ServerHello, which comes first
            block = _prf(master, b"key expansion" + server_random + client_random, 72)
            self._aead, self._salt = AESGCM(block[:32]), block[64:68]
            self._sequence = 1  # Finished was the first
            self.seal = self._seal_12

    def _handshake(self, context: ssl.SSLContext, name: str) -> bytes:
        incoming, outgoing, heard = ssl.MemoryBIO(), ssl.MemoryBIO(), b""
        tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self.sock.sendall(outgoing.read())
                heard += (piece := self.sock.recv(65536))
                if not piece:
                    raise ConnectionError("the server ended the handshake") from None
                incoming.write(piece)
            else:
                break
        self.sock.sendall(outgoing.read())
        suite = tls.cipher()
        assert suite is not None
        assert suite[0] == _SUITES[tls.version() or ""]
        return heard

    def key_update(self, answer: bool = False) -> bytes:
        """RFC 8446 §4.6.3; ``answer``: one of the server's is asked for."""
        record = self.seal(b"\x18\0\0\1" + bytes([answer]), HANDSHAKE)
        self._traffic_secret = _expand(self._traffic_secret, b"traffic upd", 48)
        self._new_keys()
        return record

    def _new_keys(self) -> None:
        self._aead = AESGCM(_expand(self._traffic_secret, b"key", 32))
        self._salt = _expand(self._traffic_secret, b"iv", 12)
        self._sequence = 0

    def _seal_13(self, data: bytes, kind: int = DATA) -> bytes:
        head = struct.pack("!BHH", DATA, 0x303, len(data) + 1 + 16)
        counter = self._sequence.to_bytes(12, "big")
        nonce = bytes(one ^ other for one, other in zip(self._salt, counter, strict=True))
        self._sequence += 1
        return head + self._aead.encrypt(nonce, data + bytes([kind]), head)

    def _seal_12(self, data: bytes, kind: int = DATA) -> bytes:
        explicit = self._sequence.to_bytes(8, "big")
        known = explicit + struct.pack("!BHH", kind, 0x303, len(data))
        self._sequence += 1
        sealed = explicit + self._aead.encrypt(self._salt + explicit, data, known)
        return struct.pack("!BHH", kind, 0x303, len(sealed)) + sealed


def _expand(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label (RFC 8446 §7.1) for lengths of one block."""
    label = b"tls13 " + label
    about = struct.pack("!HB", length, len(label)) + label + b"\0\1"
    return hmac.digest(secret, about, "sha384")[:length]


def _prf(secret: bytes, seed: bytes, length: int) -> bytes:
    """RFC 5246 §5, with the hash of the suite."""
    made, link = b"", seed
    while len(made) < length:
        link = hmac.digest(secret, link, "sha384")
        made += hmac.digest(secret, link + seed, "sha384")
    return made[:length]
