"""Whether a route takes a request that its path lets in: `methods` and `match`. Pure."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl

from ..config.schema.matching import PATTERN, Match
from ..config.syntax.expressions import Expression
from ..protocol.client_address import from_text, network
from ..protocol.message import Request

Test = Callable[[str], bool]
# Longer values fit no expression: a character costs half a microsecond.
_LONGEST_SEARCHED = 4096


class Condition:
    """``methods``: those that are taken, none for all; HEAD goes with GET. ``match``: what the
    configuration asks for of fields and query. ``networks``: where the client must be, in CIDR
    notation, None for anywhere. ``answers_preflights``: a CORS preflight is taken where the method
    that it asks about is."""

    def __init__(
        self,
        methods: tuple[str, ...] = (),
        match: Match | None = None,
        networks: tuple[str, ...] | None = None,
        answers_preflights: bool = False,
    ) -> None:
        taken = [*methods, "HEAD"] if "GET" in methods and "HEAD" not in methods else methods
        self.methods = tuple(one.encode() for one in taken)
        match = match or Match()
        self._header = [(name.encode(), _test(value)) for name, value in match.header]
        self._query = [(name, _test(value)) for name, value in match.query]
        self._networks = None if networks is None else tuple(map(network, networks))
        self._answers_preflights = answers_preflights

    def takes_method(self, request: Request) -> bool:
        """Whether the request's method is among those that are taken."""
        if not self.methods or request.method in self.methods:
            return True
        # As `cross_origin` has it, which answers: any other would reach the handler.
        if (
            self._answers_preflights
            and request.method == b"OPTIONS"
            and request.field(b"origin") is not None
        ):
            return request.field(b"access-control-request-method") in self.methods
        return False

    def matches(self, request: Request) -> bool:
        """Whether everything but the method is as it must be."""
        for name, test in self._header:
            values = [value for key, value in request.fields if key == name]
            if not any(test(value.decode("latin-1")) for value in values):
                return False
        if self._query:
            given = parse_qsl(request.query.decode("latin-1"), keep_blank_values=True)
            for parameter, test in self._query:
                if not any(key == parameter and test(value) for key, value in given):
                    return False
        if self._networks is not None:
            address = from_text(request.client)
            return address is not None and any(address in one for one in self._networks)
        return True


def _test(text: str) -> Test:
    if text == "*":
        return lambda _value: True
    if text.startswith(PATTERN):
        search = Expression(text.removeprefix(PATTERN)).search
        return lambda value: len(value) <= _LONGEST_SEARCHED and search(value)
    return text.__eq__
