"""A request with another path, for the handler alone.

The client's request stays as it came: the log, filters and error pages go by it. What is found out
of the request while it is handled (its id, the backend that was asked) is told to it as well, and
what the protocol gives it later (how to send interim responses, whether the client still waits to
be asked for the body) is asked of it.
"""

from __future__ import annotations

from .message import Inform, Request


class Rewritten(Request):
    """``request`` with another ``target``. ``stripped``: the beginning of the client's path that
    the new one lacks, as a backend is told it; b"" where it lacks nothing."""

    __slots__ = ("_request", "stripped")

    def __init__(self, request: Request, target: bytes, stripped: bytes = b"") -> None:
        self._request = request
        self.stripped = stripped
        self.method = request.method
        self.target = target
        self.path, _, self.query = target.partition(b"?")
        self.version = request.version
        self.authority = request.authority
        self.host = request.host
        self.fields = request.fields
        self.uncached_fields = request.uncached_fields
        self.cached_fields = request.cached_fields
        self.connection = request.connection
        self.body = request.body
        self.matched = b"/"
        self.upgrade = request.upgrade
        self.login = request.login

    @property
    def original(self) -> Request:
        return self._request.original

    @property
    def inform(self) -> Inform | None:  # type: ignore[override] # a slot of the request's
        return self._request.inform

    @property
    def id(self) -> bytes:
        return self._request.id

    @id.setter  # noqa: A003 - likewise
    def id(self, value: bytes) -> None:
        self._request.id = value

    @property
    def expects_continue(self) -> bool:
        return self._request.expects_continue

    @expects_continue.setter
    def expects_continue(self, value: bool) -> None:
        self._request.expects_continue = value

    @property
    def backend(self) -> str | None:
        return self._request.backend

    @backend.setter
    def backend(self, value: str | None) -> None:
        self._request.backend = value
