"""Values that are more than a word or a number: what `syntax` reads and the whole program uses."""

from __future__ import annotations

from typing import Literal

from acme_client.late_dataclass import dataclass

KeyType = Literal["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-4096"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. ``host`` "" is every address, IPv4 and IPv6."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Backend:
    """One backend. ``scheme`` is http, https, h2c (HTTP/2 without TLS) or tcp (FastCGI) with host
    and port, or unix with ``path``.
    ``prefix`` begins with a slash and does not end with one."""

    url: str  # as configured, for log and status
    scheme: Literal["http", "https", "h2c", "tcp", "unix"]
    host: str = ""
    port: int = 0
    path: str = ""  # of the socket; "@name" in the abstract namespace (unix(7))
    weight: int = 1  # its share of the requests, beside the other backends' weights
    drain: bool = False  # in maintenance: only clients bound to it by a cookie still get there
    prefix: str = ""  # put before the path that is asked for, like "/app"


@dataclass(frozen=True, slots=True, repr=False)
class ServiceUrl:
    """A service that this server itself asks: ``backend`` is asked for ``target``, a path with its
    query. It is shown without the query, which may hold a secret."""

    backend: Backend
    target: str

    def __repr__(self) -> str:
        return self.backend.url


@dataclass(frozen=True, slots=True)
class HashKey:
    """What ``balance: hash`` goes by; ``name`` is the header's (lower-case) or the cookie's."""

    kind: Literal["address", "path", "header", "cookie"] = "address"
    name: str = ""


@dataclass(frozen=True, slots=True)
class Runway:
    """How much of a certificate's life should be left: seconds, or a share of the whole."""

    seconds: float = 0.0
    share: float = 0.0

    def of(self, lifetime: float) -> float:
        return self.seconds or self.share * lifetime
