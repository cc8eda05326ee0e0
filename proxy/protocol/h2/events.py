"""What a session tells of: values without behaviour. Stream numbers are those of the frames.

A server is told `Head`, a client `Answer`; the rest is the same for both.
"""

from __future__ import annotations

from dataclasses import field

from acme_client.late_dataclass import dataclass

from ..exchange import PartialHead
from .hpack import Field
from .priority import DEFAULT, Priority


@dataclass(slots=True)
class Head:
    """A request, read and judged. ``end``: it has no body.

    ``host`` and ``authority`` as in `message.Request`; ``fields`` are the regular ones, led by
    Host, cookies joined. ``length`` is Content-Length, None if there is none. ``fault`` is a key of
    `errors.FAULTS`, for a request that is well-formed and yet gets an error as its answer; then the
    other parts may be empty. ``protocol`` is what an extended CONNECT asks for (RFC 8441).
    ``never_indexed``: names whose values must not be put into a compression table on their way.
    ``partial``: what could be read of a head with a ``fault``, for the log."""

    stream: int
    end: bool
    method: bytes = b""
    scheme: bytes = b""
    authority: bytes = b""
    host: bytes = b""
    target: bytes = b""
    fields: list[Field] = field(default_factory=list)
    length: int | None = None
    fault: str | None = None
    expects_continue: bool = False
    priority: Priority = DEFAULT
    protocol: bytes | None = None
    never_indexed: tuple[bytes, ...] = ()
    partial: PartialHead | None = field(default=None, compare=False)


@dataclass(slots=True)
class Answer:
    """A response's head, interim where ``status`` is below 200."""

    stream: int
    end: bool
    status: int
    fields: list[Field]
    length: int | None = None


@dataclass(slots=True)
class Data:
    """A piece of a body. What is taken of it must be told with `consumed`."""

    stream: int
    data: bytes
    end: bool


@dataclass(slots=True)
class Trailers:
    """The fields behind a body, which ends with them."""

    stream: int
    fields: list[Field]


@dataclass(slots=True)
class Reset:
    """The stream is gone: the peer has reset it, or broke a rule (``by_us``) and was told so
    already. It may be one of which no `Head` was told, when its head was malformed or it was
    refused; ``partial`` is what could be read of a malformed one, for the log."""

    stream: int
    code: int
    by_us: bool = False
    detail: str = ""
    partial: PartialHead | None = field(default=None, compare=False)


@dataclass(slots=True)
class Room:
    """A window grew: that of a stream, or, with 0, that of the connection or of all streams."""

    stream: int


@dataclass(slots=True)
class Prioritised:
    """PRIORITY_UPDATE for a stream of which `Head` was told."""

    stream: int
    priority: Priority


@dataclass(slots=True)
class Ended:
    """The peer's GOAWAY: it will not take streams above ``last``, and opens no more itself."""

    last: int
    code: int


@dataclass(slots=True)
class Pong:
    """A ping of ours came back."""

    opaque: bytes


Event = Head | Answer | Data | Trailers | Reset | Room | Prioritised | Ended | Pong
