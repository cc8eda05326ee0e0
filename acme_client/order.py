"""What is asked of an issuer, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .proof import Pair
from .renewal import Suggestion


@dataclass(frozen=True, slots=True)
class Order:
    names: tuple[str, ...]
    key_type: str
    challenges: tuple[str, ...]  # kinds, the preferred one first
    replaces: bytes | None = (
        None  # PEM chain of the certificate that this one follows (RFC 9773 §5)
    )


@dataclass(frozen=True, slots=True)
class Issued:
    pair: Pair
    challenge: str | None  # the kind that satisfied the CA; None where none was needed


class Issuer(Protocol):
    """A CA at work for us. May be used by several threads."""

    def issue(self, order: Order) -> Issued:
        """Returns when the certificate is here; raises `errors.Problem` when it will not come."""
        ...

    def suggestion(self, chain_pem: bytes) -> Suggestion | None:
        """When the CA would renew this certificate; None where it does not say. Raises
        `errors.Problem`."""
        ...

    def revoke(self, chain_pem: bytes, key_pem: bytes, reason: int) -> None:
        """Have the certificate revoked; ``reason``: RFC 5280 §5.3.1. Raises `errors.Problem`."""
        ...

    def roll_account_key(self) -> None:
        """A new key for the account (RFC 8555 §7.3.5). Raises `errors.Problem`."""
        ...
