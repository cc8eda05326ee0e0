"""The stable way in for filters of your own, written in Python. `docs/filters.md` shows three.

A filter is a class with a method `request`, a method `response`, or both; each may be plain or
`async`. It is made once for each worker, with the values of `with` as arguments by name:

    from proxy.filters import Request, Response

    class Hello:
        def __init__(self, name: str = "world") -> None:
            self.name = name

        def request(self, request: Request) -> Response | None:
            if request.path == "/hello":
                return Response(200, f"hello {self.name}")
            return None

`request` lets a request pass (None), after it has changed its fields or its body where it wants to,
or answers it. `response` is given every answer of its route, whoever made it, and returns it, or
another.

This module knows nothing of the server: what stands here can be made in a test of a filter, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

__all__ = ["BodyTooLarge", "FieldRefused", "Fields", "Request", "Response"]

# Bytes of a body that are read unless a filter says more, and at most.
USUAL_BODY = 1024 * 1024
LARGEST_BODY = 64 * 1024 * 1024

# RFC 9110 §5.6.2 and §5.5, without line ends and NUL.
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,16384}")

Pairs = Mapping[str, str] | Iterable[tuple[str, str]]
Raw = list[tuple[bytes, bytes]]


class FieldRefused(ValueError):
    """A field that a filter must not write, or that would split a message."""


class BodyTooLarge(Exception):
    """A body is larger than a filter wanted to read. Where the filter does not catch it, the client
    gets 413 for a request, and 500 for an answer."""


class Fields:
    """The fields of a message, in order. Names do not care about case; a name may come several
    times. Raises `FieldRefused` for what must not be written."""

    def __init__(self, pairs: Pairs = (), rule: Callable[[str], str] | None = None) -> None:
        """``rule`` may refuse a name; the server has its own."""
        self._rule: Callable[[str], str] | None = None
        self._raw: Raw = []
        self._changed = False
        for name, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
            self.add(name, value)
        self._rule = rule
        self._changed = False

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of a name."""
        return next(iter(self.get_all(name)), default)

    def get_all(self, name: str) -> list[str]:
        """Every value of a name, in order."""
        wanted = name.lower().encode("latin-1", "replace")
        return [value.decode("latin-1") for present, value in self._raw if present == wanted]

    def set(self, name: str, value: str) -> None:
        """Give a name this value alone."""
        spelt = self._checked(name)
        encoded = _encoded(value)
        self._leave_out(spelt)
        self._raw.append((spelt, encoded))

    def add(self, name: str, value: str) -> None:
        """Give a name one value more."""
        spelt, encoded = self._checked(name), _encoded(value)
        self._raw = [*self._raw, (spelt, encoded)]
        self._changed = True

    def remove(self, name: str) -> None:
        """Take every value of a name away."""
        self._leave_out(self._checked(name))

    def items(self) -> Iterator[tuple[str, str]]:
        for name, value in self._raw:
            yield name.decode("latin-1"), value.decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.decode("latin-1") for name, _ in self._raw))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.get_all(name))

    def __getitem__(self, name: str) -> str:
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def __setitem__(self, name: str, value: str) -> None:
        self.set(name, value)

    def __delitem__(self, name: str) -> None:
        self.remove(name)

    def __len__(self) -> int:
        return len(self._raw)

    def __repr__(self) -> str:
        return f"Fields({list(self.items())!r})"

    def _checked(self, name: str) -> bytes:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise FieldRefused(f"{name!r:.80} is no name of a field")
        if self._rule is not None:
            self._rule(name)
        return name.lower().encode("ascii")

    def _leave_out(self, spelt: bytes) -> None:
        """CGI reads "_" and "-" alike, so no other spelling of a name stays."""
        same = spelt.replace(b"_", b"-")
        self._raw = [field for field in self._raw if field[0].replace(b"_", b"-") != same]
        self._changed = True


def _encoded(value: str) -> bytes:
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        raise FieldRefused(f"{value!r:.80} is no value of a field: one line of Latin-1")
    return value.strip(" \t").encode("latin-1")


class Request:
    """A request, as filters see it.

    ``target`` is path and query as the client sent them, ``path`` the part before "?", still
    percent-encoded. ``host`` is in lower case and without a port. ``client`` is the address of the
    client, ``site`` the first name of the site, ``user`` who has logged in (`basic_auth`,
    `forward_auth`), else None. ``state`` is for filters: what one of them puts there, `response`
    and the other filters of the same request find.
    """

    def __init__(
        self,
        method: str = "GET",
        target: str = "/",
        *,
        fields: Pairs | Fields = (),
        body: bytes = b"",
        host: str = "",
        client: str = "",
        site: str = "",
        scheme: str = "https",
        user: str | None = None,
    ) -> None:
        self.method = method
        self.target = target
        self.path, _, self.query = target.partition("?")
        self.host = host
        self.client = client
        self.site = site
        self.scheme = scheme
        self.user = user
        self.fields = fields if isinstance(fields, Fields) else Fields(fields)
        self.state: dict[str, Any] = {}
        self._body = body

    async def body(self, limit: int = USUAL_BODY) -> bytes:
        """The whole body, once it is here; b"" where there is none. It goes on to the handler
        nevertheless. Raises `BodyTooLarge` where it has more than ``limit`` bytes."""
        if len(self._body) > limit:
            raise BodyTooLarge(f"more than {limit} bytes")
        return self._body

    def set_body(self, body: bytes) -> None:
        """Send another body on."""
        self._body = _bytes(body)


class Response:
    """An answer. ``body`` as text is sent as UTF-8; without a Content-Type among ``fields`` it is
    text/plain for text, and application/octet-stream for bytes. Raises `ValueError` for a status
    that is none of a final answer, 200 to 599."""

    def __init__(
        self, status: int = 200, body: bytes | str = b"", *, fields: Pairs | Fields = ()
    ) -> None:
        self.status = _status(status)
        self.fields = fields if isinstance(fields, Fields) else Fields(fields)
        if isinstance(body, str):
            kind = "text/plain; charset=utf-8"
            body = body.encode()
        else:
            kind = "application/octet-stream"
        if body and "content-type" not in self.fields:
            self.fields.add("content-type", kind)
        self._body = _bytes(body)

    async def body(self, limit: int = USUAL_BODY) -> bytes:
        """The whole body, once it is here, as it is sent: a backend may have compressed it. Raises
        `BodyTooLarge` where it has more than ``limit`` bytes; it can still be sent then."""
        if len(self._body) > limit:
            raise BodyTooLarge(f"more than {limit} bytes")
        return self._body

    def set_body(self, body: bytes | str) -> None:
        """Send another body. What was said of the old one (length, ETag, ranges, encoding) is
        taken away."""
        self._body = body.encode() if isinstance(body, str) else _bytes(body)


def _bytes(body: object) -> bytes:
    if not isinstance(body, bytes | bytearray | memoryview):
        raise TypeError(f"a body is bytes, and not {type(body).__name__}")
    return bytes(body)


def _status(status: object) -> int:
    if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 599:
        raise ValueError(f"{status!r:.40} is no status of a final answer")
    return status
