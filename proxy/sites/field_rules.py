"""Changes fields of responses as the operator says: `headers`.

Rules whose values hold nothing of the request are a field filter, and applied once to a cached
file. Rules with places to fill in are applied to each response.
"""

from __future__ import annotations

from ..config.schema.rules import ResponseFieldRules
from ..config.syntax.field_rules import PLACE
from ..protocol.exchange import Exchange
from ..protocol.message import Fields, Response
from ..protocol.placeholders import filled

# A default wherever a site says nothing itself (OWASP Secure Headers Project).
_LAX = (
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
    ("x-frame-options", "SAMEORIGIN"),
)
_STRICT = (
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    ("content-security-policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'self'"),
    ("cross-origin-opener-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
)
PRESETS = {"lax": _LAX, "strict": _STRICT}


def filter_of(rules: ResponseFieldRules) -> FixedFields | FilledFields | None:
    """The filter of these rules; None where they change nothing."""
    preset = PRESETS[rules.security] if rules.security else ()
    default = tuple((dict(preset) | dict(rules.default)).items())
    if not (default or rules.set or rules.add or rules.remove):
        return None
    values = (value for pairs in (default, rules.set, rules.add) for _, value in pairs)
    kind = FilledFields if any(PLACE.search(value) for value in values) else FixedFields
    return kind(default, rules.set, rules.add, rules.remove)


Pairs = tuple[tuple[str, str], ...]


class FixedFields:
    """A field filter: the same for every request."""

    def __init__(self, default: Pairs, put: Pairs, add: Pairs, remove: tuple[str, ...]) -> None:
        self._default = _encoded(default)
        self._put = _encoded(put)
        self._add = _encoded(add)
        self._gone = frozenset(name.encode() for name in remove) | {name for name, _ in self._put}

    def change(self, response: Response) -> None:
        _change(response, self._gone, self._default, [*self._put, *self._add])


class FilledFields:
    """A response filter: values hold something of the request."""

    def __init__(self, default: Pairs, put: Pairs, add: Pairs, remove: tuple[str, ...]) -> None:
        self._default = default
        self._put = (*put, *add)
        self._gone = frozenset(name.encode() for name in (*remove, *(name for name, _ in put)))

    def response(self, exchange: Exchange, response: Response) -> Response:
        changed = response.copy() if response.shared else response
        request = exchange.request
        default, put = (
            [(name.encode(), filled(value, request)) for name, value in pairs]
            for pairs in (self._default, self._put)
        )
        _change(changed, self._gone, default, put)
        return changed


def _change(response: Response, gone: frozenset[bytes], default: Fields, put: Fields) -> None:
    fields = [field for field in response.fields if field[0] not in gone]
    present = {name for name, _ in fields}
    present.update(name for name, _ in put)
    fields += [field for field in default if field[0] not in present]
    response.fields = fields + put
    response.cached = None


def _encoded(pairs: Pairs) -> Fields:
    return [(name.encode(), value.encode("ascii")) for name, value in pairs]
