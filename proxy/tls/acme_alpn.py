"""TLS-ALPN-01 (RFC 8737): the challenge's certificate, for who asks for ``acme-tls/1`` and nothing
else, under exactly that name. Everybody else of the same name gets the ordinary certificate."""

from __future__ import annotations

import ipaddress
import ssl

from .client_hello import Hello
from .unheard import UnheardChallenges

PROTOCOL = b"acme-tls/1"


class AlpnChallenges:
    """The challenges in force, as told by the supervisor. False when there is none, and none may be
    in force that is ``unheard`` of."""

    def __init__(self, unheard: UnheardChallenges) -> None:
        self._unheard = unheard
        self._contexts: dict[bytes, ssl.SSLContext] = {}
        self._tokens: dict[bytes, str] = {}

    def __bool__(self) -> bool:
        return bool(self._contexts) or self._unheard.expected

    def put(self, host: str, token: str, bundle: int) -> None:
        """Answer this challenge, in the place of another one for the host. ``bundle`` is a memfd
        with the challenge's certificate and its key."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([PROTOCOL.decode()])
        context.load_cert_chain(f"/proc/self/fd/{bundle}")
        name = asked_as(host)
        self._contexts[name], self._tokens[name] = context, token
        self._unheard.come()

    def remove(self, host: str, token: str) -> None:
        """Stop answering this challenge; one that has taken its place stays."""
        name = asked_as(host)
        if self._tokens.get(name) == token:
            del self._contexts[name], self._tokens[name]

    def find(self, hello: Hello) -> ssl.SSLContext | None:
        if hello.server_name is None or not _is_validation(hello):
            return None
        return self._contexts.get(hello.server_name)

    def may_come(self, hello: Hello) -> bool:
        """Whether a client is to wait for the challenge that it asks for (`wait_for`)."""
        return self._unheard.expected and _is_validation(hello)

    async def wait_for(self, hello: Hello) -> ssl.SSLContext | None:
        return await self._unheard.wait_for(lambda: self.find(hello))


def _is_validation(hello: Hello) -> bool:
    return hello.protocols == (PROTOCOL,)


def asked_as(host: str) -> bytes:
    """The name that a CA sends as SNI: for an address that of its reverse (RFC 8738 §6)."""
    try:
        return ipaddress.ip_address(host).reverse_pointer.encode("ascii")
    except ValueError:
        return host.encode("ascii")
