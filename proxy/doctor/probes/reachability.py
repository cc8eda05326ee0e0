"""Visiting a name's addresses as a CA and as a browser would: port 80 with a nonce, port 443.

The address is connected to as DNS has it, the name goes into Host and SNI. Nothing is trusted and
nothing is followed to anywhere else but where a CA would follow it to.
"""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
from datetime import UTC, datetime
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from ..rules.reachability import HttpVisit, Met, TlsVisit

PATH = "/.well-known/acme-challenge/"
# CAs give up after ten; who does not answer in five will hardly be waited for by visitors.
_WITHIN = 5.0
_REDIRECTS = 10  # Let's Encrypt follows as many
_BODY = 1024
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def http_visit(name: str, address: str, nonce: tuple[str, str] | None) -> HttpVisit:
    """``nonce``: token and answer, if a server that runs has one."""
    token, expected = nonce or ("doctor", "")
    host, at, port, secure, target = name, address, 80, False, PATH + token
    for hops in range(_REDIRECTS + 1):
        try:
            answer, body = _get(host, at, port, secure, target)
        except (OSError, http.client.HTTPException) as error:
            met, said = _met(error)
            if hops:
                break
            return HttpVisit(address, met, error=said)
        ours = bool(expected) and answer.status == 200 and body.strip() == expected.encode()
        location = answer.headers.get("Location")
        visit = HttpVisit(
            address,
            "answer",
            ours,
            answer.status,
            (answer.headers.get("Server") or "").strip() or None,
            location,
            hops,
        )
        if ours or location is None or not 300 <= answer.status < 400:
            return visit
        parts = urlsplit(location)
        if parts.scheme not in ("", "http", "https"):
            return visit
        if parts.hostname:
            # A CA looks another name up; the same one we go on visiting where we are.
            at = address if parts.hostname == name else parts.hostname
            host, secure = parts.hostname, parts.scheme == "https"
            port = parts.port or (443 if secure else 80)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return visit


def _get(
    host: str, at: str, port: int, secure: bool, target: str
) -> tuple[http.client.HTTPResponse, bytes]:
    sock = socket.create_connection((at, port), _WITHIN)
    try:
        if secure:
            sock = _blind().wrap_socket(sock, server_hostname=host)
        connection = http.client.HTTPConnection(host, port)
        connection.sock = sock
        connection.request(
            "GET", target, headers={"Host": host, "User-Agent": "treehouse-proxy doctor"}
        )
        answer = connection.getresponse()
        return answer, answer.read(_BODY)
    finally:
        sock.close()


def tls_visit(name: str, address: str) -> TlsVisit:
    try:
        with (
            socket.create_connection((address, 443), _WITHIN) as raw,
            _blind().wrap_socket(raw, server_hostname=name) as tls,
        ):
            shown = tls.getpeercert(binary_form=True)
    except ssl.SSLError as error:
        return TlsVisit(
            address, "broken", error=(error.reason or str(error)).lower().replace("_", " ")
        )
    except OSError as error:
        met, said = _met(error)
        return TlsVisit(address, met, error=said)
    if shown is None:
        return TlsVisit(address, "broken", error="no certificate is shown")
    leaf = x509.load_der_x509_certificate(shown)
    issuers = leaf.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    issuers = issuers or leaf.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    return TlsVisit(
        address,
        "answer",
        f"{leaf.serial_number:x}",
        _names(leaf),
        str(issuers[0].value) if issuers else None,
        leaf.not_valid_after_utc < datetime.now(UTC),
    )


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return (
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    )


def _blind() -> ssl.SSLContext:
    """Whoever it is: it is looked at, and trusted with nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _met(error: Exception) -> tuple[Met, str]:
    if isinstance(error, ConnectionRefusedError):
        return "refused", "refused"
    if isinstance(error, TimeoutError):
        return "silent", "no answer"
    if isinstance(error, OSError) and error.errno in _NO_WAY:
        return "unreachable", (error.strerror or "no route").lower()
    return "broken", str(error) or type(error).__name__
