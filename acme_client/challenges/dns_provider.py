"""What sets records in the DNS: the contract, and the table of those who keep it.

A provider is one module with a class that keeps `DnsProvider`, made by its function ``provider``,
and one line in `_MODULES`, which says whose settings it takes. A provider never decides when a
record is to be set or taken back, and never looks whether the world sees it: `dns01_solver` does.

Modules are loaded with the first record, because what they stand on takes time and memory.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

from ..late_dataclass import dataclass
from ..link import DnsApi, DnsHook, DnsUpdates, ProviderSettings

if TYPE_CHECKING:
    from .api_process import ApiProcess
    from .dns_resolver import NameServer


@dataclass(frozen=True, slots=True)
class TxtRecord:
    """``value`` at ``name``, which proves control of ``domain``. ``zone`` is the zone that ``name``
    is in, or "" where the provider does not need it. ``token`` and ``key_authorization`` are the
    challenge's. ``remaining`` records of the same certificate are set after this one, and
    ``all_domains`` are the domains of all."""

    token: str
    domain: str
    name: str
    value: str
    zone: str
    key_authorization: str = ""
    remaining: int = 0
    all_domains: tuple[str, ...] = ()


class DnsProvider(Protocol):
    """Used by several threads at once."""

    # Whether `TxtRecord.zone` must be known.
    needs_zone: bool

    def present(self, record: TxtRecord) -> None:
        """Add the value beside others at the same name. Raises `NotSet` when the record is
        certainly not there, any other `IssuanceError` when it may be."""
        ...

    def cleanup(self, record: TxtRecord) -> None:
        """Remove the value and no other; nothing happens if it is not there. Raises
        `IssuanceError`."""
        ...

    def name_servers(self) -> list[NameServer]:
        """The servers that take the record first and may be hidden from the zone's NS records."""
        ...


@dataclass(frozen=True, slots=True)
class Outside:
    """How providers leave the process that holds the account keys. ``confine_hook`` is what a hook
    does before it runs; ``apis`` is the process that speaks with interfaces of providers."""

    confine_hook: Callable[[], None] | None = None
    apis: ApiProcess | None = None


@dataclass(frozen=True, slots=True)
class ProviderContext:
    """What a provider may need of the process. ``stopping`` is set when the program ends."""

    stopping: threading.Event
    outside: Outside = Outside()


_MODULES: dict[type[ProviderSettings], str] = {
    DnsUpdates: "dns_rfc2136",
    DnsHook: "dns_hook",
    DnsApi: "dns_api",
}


def provider(settings: ProviderSettings, context: ProviderContext) -> DnsProvider:
    """Make the provider that these settings are for."""
    module = importlib.import_module(f".{_MODULES[type(settings)]}", __package__)
    return cast(DnsProvider, module.provider(settings, context))
