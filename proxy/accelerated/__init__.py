"""The accelerated lane: C forms of the few functions that a profile of small requests names.

`lane` is the module that `build` makes of lane.c (`make accelerated`; packages carry it), or None:
where it has not been built, where it was built for another Python or of another lane.c, where the
machine cannot load it, and where the environment has TREEHOUSE_PURE_PYTHON. `fault` says what is
wrong with a lane that is there. Each function in it has a Python form, which stands where it is
called, goes on with whatever the C form declines, and does everything where there is no lane. So
what is answered and logged never depends on it, only what that costs.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, cast

NAME = "proxy.accelerated.lane"
# Of lane.c and of the Python that calls it; lane.c has the same number. It is raised with every
# change after which one of the two no longer fits an older form of the other.
REVISION = 6


class Gatherer(Protocol):
    """Gathers access lines."""

    def gather(self, exchange: object, /) -> int: ...


class Forwarder(Protocol):
    """Makes the heads of requests to backends."""

    def head(
        self, request: object, host: bytes | None, framing: bytes, prefix: bytes, own: bytes, /
    ) -> bytes | None: ...


class Maker(Protocol):
    """Makes objects of a class with slots as copies of one of them."""

    def make(self, *values: Any) -> Any: ...


class Lane(Protocol):
    """The functions of lane.c, which says what each does. The classes that they read are bound
    first, for this package stands below them all."""

    REVISION: int

    def bind_messages(self, exchange: object, connection: type, response: type, /) -> None: ...

    def bind_templates(self, template: type, spellings: Mapping[bytes, bytes], /) -> None: ...

    def plain_head(
        self,
        head: bytes,
        connection: object,
        most_fields: int,
        largest_target: int,
        largest_head: int,
        known: Mapping[bytes, tuple[bytes, bytes]],
        hosts: Mapping[bytes, tuple[Any, bytes, bytes]],
        /,
    ) -> tuple[Any, int, bool, None] | None: ...

    def exchange(self, connection: object, request: object, started: float, /) -> Any: ...

    def text_line(self, moment: str, exchange: object, own_id: str, /) -> str | None: ...

    def json_line(self, moment: str, exchange: object, own_id: str, /) -> str | None: ...

    def bind_answers(self, response: type, serialised: type, /) -> None: ...

    def plain_answer(
        self, request: object, response: object, date_field: bytes, /
    ) -> bytes | None: ...

    def bind_openssl(self, kind: type, at: int, /, *addresses: int) -> None: ...

    def shake(self, inner: Any, /) -> int | None: ...

    def disable_auto_retry(self, inner: Any, /) -> None: ...

    def close_notify(self, inner: Any, /) -> None: ...

    def gatherer(
        self,
        lines: list[str],
        serial: Iterator[int],
        prefix: str,
        say: Callable[[int, int], str],
        json: bool,
        /,
    ) -> Gatherer: ...

    def forwarder(
        self,
        known: Mapping[tuple[bytes, bytes], bytes],
        blocks: Mapping[Any, bytes],
        names: Mapping[bytes, bool],
        block: type,
        last_line: bytes,
        prefix: bytes,
        serial: Iterator[int],
        /,
    ) -> Forwarder: ...

    def maker(
        self, pattern: object, given: tuple[str, ...], others: tuple[str, ...], /
    ) -> Maker: ...


def load() -> tuple[Lane | None, str]:
    """Return the lane that was built, or None and what is wrong with it: "" where there is none."""
    try:
        built = cast(Lane, importlib.import_module(NAME))
    except ModuleNotFoundError:
        return None, ""
    except ImportError as error:  # of another C library or machine, damaged, on a noexec mount
        return None, f"the accelerated lane cannot be loaded: {error}"
    if built.REVISION != REVISION:
        return None, f"the accelerated lane is of revision {built.REVISION}, not of {REVISION}"
    return built, ""


lane, fault = (None, "") if os.environ.get("TREEHOUSE_PURE_PYTHON") else load()


def copies(lane: Lane, pattern: object, *given: str) -> Callable[..., Any]:
    """Return a function that makes objects like ``pattern``, an object that its class has made.
    ``given`` are the slots whose values it takes, in this order; others have what the pattern has.
    Raises `TypeError` where copies would share something that can be changed."""
    slots = [name for base in type(pattern).__mro__ for name in getattr(base, "__slots__", ())]
    others = tuple(name for name in slots if name not in given)
    return lane.maker(pattern, given, others).make
