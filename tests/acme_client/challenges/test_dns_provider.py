"""Every provider of DNS records keeps the contract, and is found by its settings."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from acme_client.challenges import dns_provider
from acme_client.challenges.dns_provider import DnsProvider, ProviderContext, TxtRecord
from acme_client.errors import IssuanceError
from acme_client.link import Credential, DnsApi, DnsHook, DnsUpdates, ProviderSettings

EXAMPLES: dict[type[ProviderSettings], ProviderSettings] = {
    DnsUpdates: DnsUpdates("127.0.0.1", 5353),
    DnsHook: DnsHook(Path("/bin/true"), 1.0, Path("/nowhere")),
    DnsApi: DnsApi("cloudflare", (Credential("auth_token", "t"),), 1.0),
}
RECORD = TxtRecord("token", "a.test", "_acme-challenge.a.test", "value", "")


def make(kind: type[ProviderSettings], stopping: threading.Event) -> DnsProvider:
    return dns_provider.provider(EXAMPLES[kind], ProviderContext(stopping))


@pytest.mark.parametrize("kind", dns_provider._MODULES, ids=lambda kind: kind.__name__)
def test_the_table_names_providers_that_keep_the_contract(kind: type[ProviderSettings]) -> None:
    made = make(kind, threading.Event())
    assert isinstance(made.needs_zone, bool)
    for verb in ("present", "cleanup", "name_servers"):
        assert callable(getattr(made, verb))


def test_the_server_that_takes_updates_is_asked_as_well() -> None:
    """A hidden primary stands in no NS record."""
    (server,) = make(DnsUpdates, threading.Event()).name_servers()
    assert server.addresses == (("127.0.0.1", 5353),)
    assert make(DnsHook, threading.Event()).name_servers() == []


def test_a_hook_is_not_begun_when_the_program_ends() -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(IssuanceError) as told:
        make(DnsHook, stopping).present(RECORD)
    assert told.value.kind == "stopped"
