"""The limits that each CA publishes, and what an order takes of them.

A figure that a CA changes is changed here, and nowhere else. Pure.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from publicsuffixlist import PublicSuffixList

from ..late_dataclass import dataclass

_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Limit:
    """``count`` tokens, which come back within ``window`` seconds."""

    what: str
    count: int
    window: float

    @property
    def interval(self) -> float:
        return self.window / self.count


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one CA; None where it has no such limit."""

    orders: Limit | None = None  # per account
    domain: Limit | None = None  # certificates per registered domain
    names: Limit | None = None  # certificates for exactly the same names
    failures: Limit | None = None  # failed authorizations per name
    accounts: Limit | None = None  # new ones from one address


# https://letsencrypt.org/docs/rate-limits/, as of 12 June 2025; the figures of 5 August 2026 are
# the same. A validation may also fail 1,152 times in a row, of which one is forgiven a day: at an
# attempt a day (`retry`) nobody gets there.
LETSENCRYPT = Limits(
    Limit("orders of this account", 300, 3 * 3600.0),
    Limit("certificates for the domain {}", 50, 7 * _DAY),
    Limit("certificates for exactly these names", 5, 7 * _DAY),
    Limit("failed validations of {}", 5, 3600.0),
    Limit("new accounts from this address", 10, 3 * 3600.0),
)
# https://letsencrypt.org/docs/staging-environment/, as of 1 April 2025 (and not changed by its
# revision of November 2025): the same limits with other figures. That for a registered domain is
# 30,000 a second, which is none for us.
LETSENCRYPT_STAGING = Limits(
    Limit("orders of this account", 1500, 3 * 3600.0),
    None,
    Limit("certificates for exactly these names", 30000, 7 * _DAY),
    Limit("failed validations of {}", 200, 3600.0),
    Limit("new accounts from this address", 50, 3 * 3600.0),
)
_KNOWN = {
    "acme-v02.api.letsencrypt.org": LETSENCRYPT,
    "acme-staging-v02.api.letsencrypt.org": LETSENCRYPT_STAGING,
}


def limits_of(directory: str) -> Limits:
    """Return the limits of a CA. Other CAs than these publish no figures that a client could count
    with, or have no limits; what they answer to too many orders is kept for them as well."""
    return _KNOWN.get(urlsplit(directory).hostname or "", Limits())


class OrderKind(enum.Enum):
    """How a CA counts an order against its limits (Let's Encrypt's rules)."""

    NEW = "new"
    # For exactly the names of a certificate that this CA has issued: free of the limits for orders
    # and domains, so that a certificate can always be renewed.
    RENEWAL = "renewal"
    # It names by ARI which certificate it replaces, and the CA accepts that: free of all limits.
    EXEMPT = "exempt"


@functools.cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


@functools.lru_cache(4096)
def registered_domain(name: str) -> str:
    """Return the registered domain of a name, below a public suffix. A public suffix or an address
    is its own (an IPv6 address: its /64, as the CAs count)."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        bare = name.removeprefix("*.")
        return _suffixes().privatesuffix(bare) or bare
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return name


def is_public_suffix(name: str) -> bool:
    """Whether a registry sells domains below this name (``com``, ``co.uk``)."""
    return bool(_registries().publicsuffix(name) == name)


@functools.cache
def _registries() -> PublicSuffixList:
    return PublicSuffixList(only_icann=True, accept_unknown=False)


@dataclass(frozen=True, slots=True)
class Cost:
    """One token of one bucket."""

    key: str
    limit: Limit
    about: str = ""

    def __str__(self) -> str:
        return self.limit.what.format(self.about)


def costs(names: tuple[str, ...], limits: Limits, kind: OrderKind) -> tuple[Cost, ...]:
    """What an order takes if it succeeds."""
    if kind is OrderKind.EXEMPT:
        return ()
    if kind is OrderKind.RENEWAL:
        return tuple(_exact(names, limits))
    orders = [Cost("orders", limits.orders)] if limits.orders else []
    return (*orders, *_exact(names, limits), *_domains(names, limits))


def _exact(names: tuple[str, ...], limits: Limits) -> Iterable[Cost]:
    if limits.names:
        yield Cost(names_key(names), limits.names)


def _domains(names: tuple[str, ...], limits: Limits) -> Iterable[Cost]:
    if limits.domain:
        for domain in sorted({registered_domain(name) for name in names}):
            yield Cost(f"domain {domain}", limits.domain, domain)


def failures(names: tuple[str, ...], limits: Limits) -> Iterable[Cost]:
    if limits.failures:
        for name in names:
            yield Cost(failures_key(name), limits.failures, name)


def failures_key(name: str) -> str:
    return f"failures {name}"


def names_key(names: tuple[str, ...]) -> str:
    return "names " + ",".join(sorted(set(names)))


def window_of(key: str, limits: Limits) -> float:
    limit = limit_of(key, limits)
    return limit.window if limit else 0.0


def limit_of(key: str, limits: Limits) -> Limit | None:
    """Return the limit of a bucket; None where the CA has none."""
    kind = key.partition(" ")[0]
    limit: Limit | None = getattr(limits, kind) if kind in Limits.__slots__ else None
    return limit
