"""Sets and removes records at a DNS provider's own interface, by way of `api_process`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ..errors import NotSet
from ..link import DnsApi
from .api_calls import Request
from .api_process import outcome
from .dns_provider import ProviderContext, TxtRecord

if TYPE_CHECKING:
    from .dns_resolver import NameServer


class ApiProvider:
    """`dns_provider.DnsProvider` by a provider's interface."""

    needs_zone = True

    def __init__(self, api: DnsApi, context: ProviderContext) -> None:
        self._api = api
        self._context = context

    def present(self, record: TxtRecord) -> None:
        self._call("present", record, self._context.stopping)

    def cleanup(self, record: TxtRecord) -> None:
        """Remove the record. The call is not broken off when the program ends, only when its time
        is over."""
        self._call("cleanup", record, None)

    def name_servers(self) -> list[NameServer]:
        return []

    def _call(self, action: str, record: TxtRecord, stopping: threading.Event | None) -> None:
        process = self._context.outside.apis
        if process is None:
            raise NotSet("hook", f"{self._api.provider}: no process for DNS providers was started")

        def request(number: int) -> Request:
            return Request(
                number, action, record.zone, record.domain, record.name, record.value,
                record.token, record.key_authorization,
            )  # fmt: skip

        outcome(process.call(self._api, request, stopping), self._api)


def provider(settings: DnsApi, context: ProviderContext) -> ApiProvider:
    return ApiProvider(settings, context)
