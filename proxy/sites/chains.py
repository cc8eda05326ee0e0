"""Which filters act on which route, and in which order: the one place that knows.

`Chains._on_request` and `Chains._on_response` are that order, a row of slots. A slot is a method
that makes the filter which a route's rules ask for, or None. It makes one filter for equal rules
(`Chains._once`), because routes with the same filters share a chain, so that what is kept with a
shared response is kept once, and because the router asks whether two routes are guarded alike.

A new filter is a class in a file of its own, a slot here, and the slot's name in its place in the
order. What acts on requests and on responses has a slot in both rows, which make the same object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TypeVar

from ..config import model
from ..config.schema.rules import UNLIMITED, Rules
from ..config.syntax.password_hashes import read_users
from ..filters.code import FilterCode
from ..handlers.upstream.login_service import LoginService
from ..ipc.rate_buckets import RateLimits
from . import encoders
from .access import ClientCertificate, RateLimit
from .addresses import AddressRule, networks
from .compression import Compress
from .cross_origin import CrossOrigin
from .error_pages import ErrorPages
from .field_rules import FilledFields, FixedFields, filter_of
from .filters import Chain, FieldFilter, Fixed, RequestFilter, ResponseFilter
from .forward_auth import ForwardAuthentication, LoginAnswers
from .own_filters import RequestHooks, ResponseHooks, hooks, own_filter
from .request_limits import RequestLimits
from .response_fields import StrictTransportSecurity

_Made = TypeVar("_Made")

# The keys that the slots of requests go by, and those of responses: routes that have the same of
# them are treated alike (`explain.request` makes no filters, and compares these).
ON_REQUEST = (
    "allow", "deny", "rate_limit", "cors", "forward_auth", "basic_auth", "body_size",
    "body_timeout", "use",
)  # fmt: skip
ON_RESPONSE = ("error_pages", "intercept", "use", "compress", "headers")


class Chains:
    """Makes the chains of a generation. ``limits`` are the server's; ``rates`` makes the counters
    of a site's rate limits, ``login_service`` who is asked by `forward_auth`, ``code`` loads
    filters of users.

    Files that rules name are read here, before the process is confined.
    """

    def __init__(
        self,
        tls: model.Tls,
        limits: model.Limits,
        rates: Callable[[model.Site], RateLimits],
        login_service: Callable[[model.ForwardAuth], LoginService],
        code: FilterCode | None = None,
    ) -> None:
        self._limits = limits
        self._rates = rates
        self._login_service = login_service
        self._code = code or FilterCode()
        self._hsts = None if tls.hsts is None else StrictTransportSecurity(tls.hsts)
        self._made: dict[tuple[object, ...], object] = {}
        # From the client to the handler.
        self._on_request: tuple[Callable[[model.Site, Rules], RequestFilter | None], ...] = (
            self._addresses,
            self._client_certificate,
            self._rate_limit,
            self._cors,  # preflights, which come without credentials
            self._forward_auth,
            self._basic_auth,
            self._request_limits,
            self._use_on_requests,
            # strip_prefix and rewrite stand between these and the handler (`rewriting`)
        )
        # From the handler to the client.
        self._on_response: tuple[Callable[[model.Site, Rules], ResponseFilter | None], ...] = (
            self._error_pages,
            self._use_on_responses,
            self._login_answers,
            self._compress,
            self._cors,
            self._fixed_fields,
            self._filled_fields,
        )

    def of(self, site: model.Site, rules: Rules) -> Chain | None:
        """The chain for routes of ``site`` that have these rules; None where there is nothing to
        filter."""
        guards = (slot(site, rules) for slot in self._on_request)
        changes = (slot(site, rules) for slot in self._on_response)
        before = tuple(one for one in guards if one is not None)
        after = tuple(one for one in changes if one is not None)
        if not before and not after:
            return None
        return self._once(("chain", before, after), lambda: Chain(before, after))

    def _once(self, key: tuple[object, ...], make: Callable[[], _Made]) -> _Made:
        """What has been made under this key, which begins with the name of a slot."""
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = make()
        return made  # type: ignore[return-value] # the key says what it is

    # Slots of requests

    def _addresses(self, _site: model.Site, rules: Rules) -> RequestFilter | None:
        if rules.allow is None and not rules.deny:
            return None

        def make() -> AddressRule:
            allow = None if rules.allow is None else networks(rules.allow)
            return AddressRule(allow, networks(rules.deny))

        return self._once(("addresses", rules.allow, rules.deny), make)

    def _client_certificate(self, site: model.Site, _rules: Rules) -> RequestFilter | None:
        if site.client_auth is None:
            return None
        name = site.names[0]
        return self._once(("client certificate", name), lambda: ClientCertificate(name))

    def _rate_limit(self, site: model.Site, rules: Rules) -> RequestFilter | None:
        """Routes of a site with the same limits share counters."""
        limits = _limits(site, rules)
        if not limits:
            return None
        return self._once(
            ("rate limit", site.names[0], limits),
            lambda: RateLimit(self._rates(replace(site, rate_limits=limits))),
        )

    def _basic_auth(self, _site: model.Site, rules: Rules) -> RequestFilter | None:
        """One for all routes with the same users, so that a password is verified once."""
        if (login := rules.basic_auth) is None:
            return None

        def make() -> RequestFilter:
            from . import passwords  # argon2 and bcrypt: for those who have passwords
            from .basic_auth import BasicAuthentication

            passwords.preload()
            users = dict(login.users)
            if login.users_file is not None:
                users |= read_users(login.users_file.read_text())
            return BasicAuthentication(login, users)

        return self._once(("basic_auth", login), make)

    def _forward_auth(self, _site: model.Site, rules: Rules) -> RequestFilter | None:
        """One for all routes with the same rule, so that a verdict is remembered once."""
        if (rule := rules.forward_auth) is None:
            return None
        return self._once(
            ("forward_auth", rule),
            lambda: ForwardAuthentication(rule, self._login_service(rule)),
        )

    def _request_limits(self, _site: model.Site, rules: Rules) -> RequestFilter | None:
        size, patience = rules.body_size, rules.body_timeout
        if size is None and patience is None:
            return None
        limits = self._limits
        if size is not None:
            limits = replace(limits, body_size=None if size == UNLIMITED else size)
        if patience is not None:
            limits = replace(limits, body_timeout=patience)
        return self._once(("request limits", size, patience), lambda: RequestLimits(limits))

    # Slots of both

    def _cors(self, _site: model.Site, rules: Rules) -> CrossOrigin | None:
        if (rule := rules.cors) is None:
            return None
        return self._once(("cors", rule), lambda: CrossOrigin(rule))

    def _use_on_requests(self, _site: model.Site, rules: Rules) -> RequestFilter | None:
        return self._own_filters(rules)[0] if rules.use else None

    def _use_on_responses(self, _site: model.Site, rules: Rules) -> ResponseFilter | None:
        return self._own_filters(rules)[1] if rules.use else None

    def _own_filters(self, rules: Rules) -> tuple[RequestHooks | None, ResponseHooks | None]:
        """Each filter is made once, wherever it is used."""
        filters = tuple(
            self._once(("own filter", one), partial(own_filter, one, self._code))
            for one in rules.use
        )
        return self._once(("own filters", rules.use), lambda: hooks(filters))

    # Slots of responses

    def _error_pages(self, _site: model.Site, rules: Rules) -> ResponseFilter | None:
        if not rules.error_pages:
            return None
        key = rules.error_pages, rules.intercept
        return self._once(("error_pages", *key), lambda: ErrorPages(*key))

    def _login_answers(self, _site: model.Site, rules: Rules) -> ResponseFilter | None:
        if rules.forward_auth is None:
            return None
        return self._once(("login answers",), LoginAnswers)

    def _compress(self, _site: model.Site, rules: Rules) -> ResponseFilter | None:
        """One for all routes with the same rules, so that files are kept once."""
        if rules.compress.mode == "false":
            return None

        def make() -> Compress:
            encoders.load()
            return Compress(rules.compress)

        return self._once(("compress", rules.compress), make)

    def _fixed_fields(self, _site: model.Site, rules: Rules) -> ResponseFilter | None:
        """The field filters in a row, as one filter."""
        filters = tuple(self._field_filters(rules))
        if not filters:
            return None
        return self._once(("fixed fields", filters), lambda: Fixed(filters))

    def _field_filters(self, rules: Rules) -> Iterator[FieldFilter]:
        if self._hsts is not None:
            yield self._hsts
        fields = self._headers(rules)
        if isinstance(fields, FixedFields):
            yield fields

    def _filled_fields(self, _site: model.Site, rules: Rules) -> ResponseFilter | None:
        fields = self._headers(rules)
        return fields if isinstance(fields, FilledFields) else None

    def _headers(self, rules: Rules) -> FixedFields | FilledFields | None:
        return self._once(("headers", rules.headers), lambda: filter_of(rules.headers))


def _limits(site: model.Site, rules: Rules) -> tuple[model.RateLimit, ...]:
    """Return a route's own rate limits, or those of its site."""
    if rules.rate_limit is None or rules.rate_limit == site.rules.rate_limit:
        return site.rate_limits
    return model.rate_limits(rules)
