"""Which filters act on which route, and in which order: the one place that knows.

On a request: addresses, client certificates, rates, passwords; then the handler. On a response:
compression, then the fields of the site and the operator's `headers`. The order is that of
docs/architecture.md ("The life of a request"). Routes with the same filters share a chain, so that
what is kept with a shared response is kept once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..config import model
from ..config.schema.rules import BasicAuth, Compression, Rules
from ..config.syntax.password_hashes import read_users
from ..ipc.rate_buckets import RateLimits
from . import encoders
from .access import ClientCertificate, RateLimit
from .addresses import AddressRule, networks
from .compression import Compress
from .field_rules import FixedFields, filter_of
from .filters import Chain, FieldFilter, Fixed, RequestFilter, ResponseFilter
from .response_fields import StrictTransportSecurity

if TYPE_CHECKING:
    from .basic_auth import BasicAuthentication

# What decides which chain a route has.
_Key = tuple[object, ...]


class Chains:
    """Makes the chains of a generation. ``rates`` makes the counters of a site's rate limits.

    Files that rules name are read here, before the process is confined.
    """

    def __init__(self, tls: model.Tls, rates: Callable[[model.Site], RateLimits]) -> None:
        self._rates = rates
        self._hsts = None if tls.hsts is None else StrictTransportSecurity(tls.hsts)
        self._made: dict[_Key, Chain | None] = {}
        self._rates_of: dict[tuple[str, tuple[model.RateLimit, ...]], RateLimit] = {}
        self._addresses: dict[_Key, AddressRule] = {}
        self._certificates: dict[str, ClientCertificate] = {}
        self._logins: dict[BasicAuth, BasicAuthentication] = {}
        self._compressors: dict[Compression, Compress] = {}

    def of(self, site: model.Site, rules: Rules) -> Chain | None:
        """The chain for routes of ``site`` that have these rules; None where there is nothing to
        filter."""
        limits = _limits(site, rules)
        key = (
            site.names[0] if limits or site.client_auth is not None else None,
            limits,
            rules.allow,
            rules.deny,
            rules.basic_auth,
            rules.compress,
            rules.headers,
        )
        if key not in self._made:
            before = tuple(self._before(site, rules))
            after = tuple(self._after(rules))
            self._made[key] = Chain(before, after) if before or after else None
        return self._made[key]

    def _before(self, site: model.Site, rules: Rules) -> list[RequestFilter]:
        found: list[RequestFilter] = []
        if rules.allow is not None or rules.deny:
            found.append(self._address_rule(rules))
        if site.client_auth is not None:
            first = site.names[0]
            found.append(self._certificates.setdefault(first, ClientCertificate(first)))
        limits = _limits(site, rules)
        if limits:
            name = site.names[0], limits
            if name not in self._rates_of:  # routes of a site with the same limits share counters
                self._rates_of[name] = RateLimit(self._rates(replace(site, rate_limits=limits)))
            found.append(self._rates_of[name])
        if rules.basic_auth is not None:
            found.append(self._basic_auth(rules.basic_auth))
        return found

    def _address_rule(self, rules: Rules) -> AddressRule:
        """One for all routes with the same lists: the router asks whether filters are the same."""
        key = rules.allow, rules.deny
        made = self._addresses.get(key)
        if made is None:
            allow = None if rules.allow is None else networks(rules.allow)
            made = self._addresses[key] = AddressRule(allow, networks(rules.deny))
        return made

    def _basic_auth(self, rules: BasicAuth) -> BasicAuthentication:
        """One for all routes with the same users, so that a password is verified once."""
        made = self._logins.get(rules)
        if made is None:
            from . import passwords  # argon2 and bcrypt: for those who have passwords
            from .basic_auth import BasicAuthentication

            passwords.preload()
            users = dict(rules.users)
            if rules.users_file is not None:
                users |= read_users(rules.users_file.read_text())
            made = self._logins[rules] = BasicAuthentication(rules, users)
        return made

    def _after(self, rules: Rules) -> list[ResponseFilter]:
        fixed: list[FieldFilter] = []
        if self._hsts is not None:
            fixed.append(self._hsts)
        fields = filter_of(rules.headers)
        if isinstance(fields, FixedFields):
            fixed.append(fields)
        found: list[ResponseFilter] = []
        if rules.compress.mode != "false":
            found.append(self._compress(rules.compress))
        if fixed:
            found.append(Fixed(fixed))
        if fields is not None and not isinstance(fields, FixedFields):
            found.append(fields)
        return found

    def _compress(self, rules: Compression) -> Compress:
        """One for all routes with the same rules, so that files are kept once."""
        made = self._compressors.get(rules)
        if made is None:
            encoders.load()
            made = self._compressors[rules] = Compress(rules)
        return made


def _limits(site: model.Site, rules: Rules) -> tuple[model.RateLimit, ...]:
    """Return a route's own rate limits, or those of its site."""
    if rules.rate_limit is None or rules.rate_limit == site.rules.rate_limit:
        return site.rate_limits
    return model.rate_limits(rules)
