"""Defines what every issuer is asked for, and what it gives: `Issuer`, `Order`, `Issued`."""

from __future__ import annotations

from dataclasses import field
from typing import Protocol

from ..certificates.renewal import Suggestion
from ..certificates.unfinished_order import UnfinishedOrder
from ..challenges.dns_persist import PersistRecord
from ..late_dataclass import dataclass
from ..x509.verify import CertificateAndKey


class Reservation(Protocol):
    """Room for one order within the limits of its CA. The issuer says how far the order has
    come."""

    def reserve(self, *, exempt: bool) -> None:
        """Call before the order is placed. ``exempt``: the CA has said that it counts for no limit.
        Raises `errors.IssuanceError` for an order that should wait."""
        ...

    def finalizing(self) -> None:
        """Call before the CSR is sent: from then on, the CA may issue."""
        ...

    def take_up(self, order: UnfinishedOrder, *, is_issuing: bool) -> None:
        """Go on with what an earlier attempt has taken for this order. ``is_issuing``: the CA has
        the CSR."""
        ...

    def come_to_nothing(self, order: UnfinishedOrder) -> None:
        """Call when the CA has given up an order of an earlier attempt."""
        ...


class OrderNote(Protocol):
    """The note about the one order that is under way for a certificate. It outlives the process."""

    def read(self) -> UnfinishedOrder | None:
        """Return the order that an earlier attempt has left unfinished and that this one may go on
        with; None: order anew."""
        ...

    def write(self, order: UnfinishedOrder) -> None:
        """Call when the CA has taken an order. Raises `errors.IssuanceError`."""
        ...

    def refuse(self, why: str) -> None:
        """The order that was read leads to nothing of use; another one is to be placed."""
        ...

    def objection(self, pair: CertificateAndKey) -> str:
        """Say why the certificate of an earlier attempt's order is not to be used; empty where it
        may be."""
        ...


class NoNote:
    """An `OrderNote` where nothing is remembered."""

    def read(self) -> UnfinishedOrder | None:
        return None

    def write(self, order: UnfinishedOrder) -> None:
        pass

    def refuse(self, why: str) -> None:
        pass

    def objection(self, pair: CertificateAndKey) -> str:
        return ""


class Unlimited:
    """A `Reservation` where nothing is counted."""

    def reserve(self, *, exempt: bool) -> None:
        pass

    def finalizing(self) -> None:
        pass

    def take_up(self, order: UnfinishedOrder, *, is_issuing: bool) -> None:
        pass

    def come_to_nothing(self, order: UnfinishedOrder) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Order:
    """A certificate to be ordered. ``name`` is what it is kept by."""

    name: str
    names: tuple[str, ...]
    key_type: str
    challenges: tuple[str, ...]  # kinds, the preferred one first
    # PEM chain of the certificate that this one follows (RFC 9773 §5), and the URL of the account
    # that ordered that one: another account may not say that it replaces it.
    replaces: bytes | None = None
    account: str | None = None
    reservation: Reservation = field(default=Unlimited(), compare=False)
    note: OrderNote = field(default=NoNote(), compare=False)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that has come."""

    pair: CertificateAndKey
    challenge: str | None  # the kind that satisfied the CA; None where none was needed
    account: str | None = None  # the URL of the account that ordered it
    remark: str = ""  # what else the operator is to know


class Issuer(Protocol):
    """A CA at work for us. May be used by several threads."""

    def issue(self, order: Order) -> Issued:
        """Returns when the certificate is here; raises `errors.IssuanceError` when it will not
        come."""
        ...

    def suggestion(self, chain_pem: bytes) -> Suggestion | None:
        """Return when the CA would renew this certificate; None where it does not say. Raises
        `errors.IssuanceError`."""
        ...

    def revoke(self, chain_pem: bytes, key_pem: bytes, reason: int) -> None:
        """Have the certificate revoked; ``reason``: RFC 5280 §5.3.1. Raises
        `errors.IssuanceError`."""
        ...

    def standing_records(self, names: tuple[str, ...]) -> tuple[PersistRecord, ...]:
        """Return the records of dns-persist-01 for these names. Raises
        `errors.IssuanceError`."""
        ...

    def roll_account_key(self) -> None:
        """Give the account a new key (RFC 8555 §7.3.5). Raises `errors.IssuanceError`."""
        ...
