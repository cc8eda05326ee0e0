"""The process that speaks with DNS providers: bounded calls, one after the other, secrets kept."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from acme_client.challenges import api_calls, api_process
from acme_client.challenges.api_calls import Request
from acme_client.challenges.api_process import ApiProcess, Reply, Surroundings, outcome
from acme_client.errors import IssuanceError, NotSet
from acme_client.link import Credential, DnsApi
from proxy.system.privileges import die_with_parent
from support.acme.dns_interfaces import SECRET, ZONE, interfaces, redirected

CLOUDFLARE = DnsApi("cloudflare", (Credential("auth_token", SECRET),), 60.0)
WRONG = DnsApi("cloudflare", (Credential("auth_token", "x" * 40),), 60.0)
SLOW = DnsApi("httpreq", (Credential("endpoint", "slow"),), 0.3)
PATIENT = DnsApi("httpreq", (Credential("endpoint", "slow"),), 60.0)
SAYS = DnsApi("httpreq", (Credential("password", "p4ss word&more"),), 60.0)
DIES = DnsApi("httpreq", (Credential("endpoint", "dies"),), 60.0)
APIS = (CLOUDFLARE, WRONG, SLOW, PATIENT, SAYS, DIES)


def perform(api: DnsApi, request: Request) -> None:
    """In the place of what would speak with a provider; lexicon's calls are real."""
    if api in (SLOW, PATIENT):
        time.sleep(60)  # a provider that does not answer
    elif api is SAYS or api == SAYS:
        raise api_calls.Refused("no: p4ss word&more, ?key=p4ss%20word%26more", certain=True)
    elif api == DIES:
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        real(api, request)


real = api_calls.perform


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiProcess]:
    with interfaces() as server:
        redirected(server, tmp_path, monkeypatch)
        monkeypatch.setattr(api_calls, "perform", perform)
        around = Surroundings(lambda: None, die_with_parent, lambda: None, tmp_path)
        # The server's thread is no obstacle here: nothing that it holds is needed in the child.
        made = ApiProcess.started(APIS, around)
        yield made
        made._sock.close()


def call(
    process: ApiProcess,
    api: DnsApi,
    action: str = "present",
    stopping: threading.Event | None = None,
) -> Reply:
    def request(number: int) -> Request:
        return Request(
            number, action, ZONE, ZONE, f"_acme-challenge.{ZONE}", "value", "token", "key"
        )

    return process.call(api, request, stopping)


def test_calls_follow_each_other_and_each_has_its_own_settings(process: ApiProcess) -> None:
    assert call(process, CLOUDFLARE) == Reply()
    refused = call(process, WRONG)
    assert refused.certain
    assert "401" in str(refused.error)
    assert call(process, CLOUDFLARE, "cleanup") == Reply()


def test_a_call_that_takes_too_long_is_ended_and_the_next_is_served(process: ApiProcess) -> None:
    begun = time.monotonic()
    assert "took longer than 0.3 s (acme.dns.hook_timeout)" in str(call(process, SLOW).error)
    assert time.monotonic() - begun < 50
    assert call(process, CLOUDFLARE) == Reply()


def test_the_end_of_the_program_ends_a_call(process: ApiProcess) -> None:
    stopping = threading.Event()
    threading.Timer(0.2, stopping.set).start()
    reply = call(process, PATIENT, stopping=stopping)
    assert reply.stopped
    assert call(process, CLOUDFLARE) == Reply()
    assert call(process, CLOUDFLARE, stopping=stopping).stopped  # not begun at all


def test_the_word_to_stop_may_come_along_with_the_request(process: ApiProcess) -> None:
    """As it does where the process still loads its providers, or is not let run."""
    request = Request(
        APIS.index(PATIENT),
        "present",
        ZONE,
        ZONE,
        f"_acme-challenge.{ZONE}",
        "value",
        "token",
        "key",
    )
    process._sock.sendall(json.dumps(asdict(request)).encode() + b"\nstop\n")
    process._sock.settimeout(30)  # half of what the call would take
    assert json.loads(process._sock.recv(65536))["stopped"]
    process._sock.settimeout(None)
    assert call(process, CLOUDFLARE) == Reply()


def test_a_secret_is_blotted_out_of_what_is_said(process: ApiProcess) -> None:
    assert call(process, SAYS).error == "no: [secret], ?key=[secret]"


def test_a_child_that_dies_is_told_and_the_next_is_served(process: ApiProcess) -> None:
    assert "ended with" in str(call(process, DIES).error)
    assert call(process, CLOUDFLARE) == Reply()


def test_what_a_reply_stands_for() -> None:
    outcome(Reply(), CLOUDFLARE)
    with pytest.raises(NotSet, match="cloudflare: no"):
        outcome(Reply("no", certain=True), CLOUDFLARE)
    with pytest.raises(IssuanceError) as told:
        outcome(Reply("ended", stopped=True), CLOUDFLARE)
    assert told.value.kind == "stopped"
    assert not isinstance(told.value, NotSet)


def test_a_provider_that_cannot_be_loaded_is_told_with_each_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = DnsApi("nosuchprovider", (), 5.0)
    around = Surroundings(lambda: None, die_with_parent, lambda: None, tmp_path)
    made = ApiProcess.started((unknown,), around)
    reply = call(made, unknown)
    assert reply == Reply("dns-lexicon knows no such provider", certain=True)
    made._sock.close()


def test_nothing_of_it_shows_a_secret() -> None:
    assert SECRET not in repr(CLOUDFLARE)
    assert api_process.Reply("x").error == "x"
