"""An order that an attempt has left unfinished, at a real CA (pebble): the next attempt goes on with it
instead of placing another one, and the CA issues once. The CA's own log is the witness."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from acme_client.certificates.repository import CertificateRepository
from acme_client.link import Settings
from acme_client.storage.directory import DirectoryStore
from acme_client.storage.store import Files
from support.acme.ca_faults import Cut, Fault, Faults, Heard, Json, Pass, Refuse, Say
from support.acme.certifier import Certifier, FakeServer, settings
from support.acme.pebble import Pebble

pytestmark = pytest.mark.pebble
NAME = "a.example"
# The client is to come back much later: the attempt ends at once.
LATER = Refuse(503, headers={"Retry-After": "600"})


@pytest.fixture(scope="module")
def ca(doors: FakeServer) -> Iterator[Pebble]:
    with Pebble(doors.http_port, doors.tls_port, nonce_reject=0) as pebble:
        yield pebble


@pytest.fixture
def wanted(front: Faults, tmp_path: Path) -> Settings:
    return asked(front, tmp_path, (NAME,))


def asked(front: Faults, state: Path, *sites: tuple[str, ...], **more: object) -> Settings:
    made = settings(state, front._ca, *sites, **more)
    at = replace(made.wanted[0].authority, directory=front.directory, ca_pem=front.ca_pem)
    return replace(made, wanted=tuple(replace(one, authority=at) for one in made.wanted))


def issued(ca: Pebble) -> int:
    return len(re.findall("Issued certificate serial", ca.log()))


def note(state: Path) -> Path:
    return state / "orders" / NAME / "order.json"


def leave(server: FakeServer, front: Faults, wanted: Settings, kind: str, fault: Fault) -> None:
    """Have an attempt fail by a fault, and the certifier end."""
    front.add(kind, fault, 10)
    with Certifier(wanted, server):
        server.until(lambda: server.state(NAME) in ("waiting", "failed"))
        server.until(lambda: server.reports[NAME]["attempts"] == 1)
    server.forget()


def go_on(server: FakeServer, wanted: Settings, name: str = NAME) -> None:
    """Have the next certifier make another attempt now."""
    with Certifier(wanted, server):
        server.until(lambda: server.is_loaded)
        answer = server.ask("renew", name)
        assert answer["ok"], answer


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("certificate", LATER),
        ("finalize", Heard(LATER)),  # the CA has issued, and its word is lost
        ("finalize", LATER),  # the CA has never heard of it: the order is ready still
        ("order", Json({"status": "processing"}, status="valid", headers={"Retry-After": "600"})),
    ],
    ids=["before the chain", "after the CSR", "before the CSR", "while it is processing"],
)
def test_an_order_whose_certificate_did_not_arrive_is_finished_by_the_next_attempt(
    kind: str,
    fault: Fault,
    server: FakeServer,
    ca: Pebble,
    front: Faults,
    wanted: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Although the CA has asked for patience, so that no further order would be placed."""
    caplog.set_level(logging.INFO)
    before = issued(ca)
    leave(server, front, wanted, kind, fault)
    key = json.loads(note(wanted.state).read_bytes())["key_pem"]
    front.clear()
    go_on(server, wanted)
    assert len(front.of("newOrder")) == 1
    assert issued(ca) == before + 1
    assert server.served[NAME].key_pem.decode() == key
    assert not note(wanted.state).parent.exists()
    assert f"{NAME}: the order of " in caplog.text
    assert "is taken up again" in caplog.text
    record, _pair = CertificateRepository(DirectoryStore(wanted.state)).load(NAME)
    assert record.history[-1].outcome == "obtained"
    assert "was taken up again" in record.history[-1].text
    go_on(server, wanted)  # and the one after that is another one
    assert len(front.of("newOrder")) == 2
    assert server.served[NAME].key_pem.decode() != key


class WithoutRoom(DirectoryStore):
    """Takes no certificate."""

    def store(self, folder: str, files: Files) -> None:
        if "privkey.pem" in files:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)
        super().store(folder, files)


def test_a_certificate_that_the_disk_did_not_take_is_fetched_again_at_the_next_start(
    server: FakeServer, ca: Pebble, front: Faults, wanted: Settings
) -> None:
    before = issued(ca)
    serials = set()
    for _ in range(2):
        with Certifier(wanted, server, store=WithoutRoom(wanted.state)):
            server.until(lambda: server.state(NAME) == "fresh")
            serials.add(server.served[NAME].serial)
        server.forget()
    with Certifier(wanted, server):
        server.until(lambda: server.state(NAME) == "fresh")
        serials.add(server.served[NAME].serial)
    assert len(serials) == 1
    assert len(front.of("newOrder")) == 1
    assert issued(ca) == before + 1
    assert (wanted.state / "certificates" / NAME / "privkey.pem").exists()
    assert not note(wanted.state).exists()


def leave_issued(server: FakeServer, front: Faults, wanted: Settings) -> None:
    """Have an attempt fail when the CA has the CSR, by an answer that says nothing of limits."""
    front.add("order", Pass())
    leave(server, front, wanted, "order", Say(b"no order"))
    assert note(wanted.state).exists()
    front.clear()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"names": (NAME, "www.a.example")}, "it was for a.example"),
        ({"key_type": "ecdsa-p384"}, "it was for a key of type ecdsa-p256"),
    ],
    ids=["names", "key"],
)
def test_an_order_for_something_else_is_not_gone_on_with(
    change: dict[str, Any],
    why: str,
    server: FakeServer,
    front: Faults,
    wanted: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    leave_issued(server, front, wanted)
    seen = len(front.of("order"))
    other = replace(wanted, wanted=(replace(wanted.wanted[0], **change),))
    with Certifier(other, server):
        server.until(lambda: server.state(NAME) == "fresh")
    assert f"is not taken up again: {why}" in caplog.text
    assert len(front.of("newOrder")) == 2
    urls = {one.path for one in front.of("order")[seen:]}
    assert not urls & {one.path for one in front.of("order")[:seen]}, "nobody has asked for it"
    assert not note(wanted.state).exists()


def test_who_orders_with_force_gets_another_one(
    server: FakeServer, front: Faults, wanted: Settings
) -> None:
    leave_issued(server, front, wanted)
    with Certifier(wanted, server):
        server.until(lambda: server.is_loaded)
        assert server.ask("renew", {"name": NAME, "force": True})["ok"]
    assert len(front.of("newOrder")) == 2


def test_a_revocation_takes_the_order_along(
    server: FakeServer, front: Faults, wanted: Settings
) -> None:
    """Whoever has got at the one key may have got at the other."""
    with Certifier(wanted, server):
        server.until(lambda: server.state(NAME) == "fresh")
        front.add("order", Pass())
        front.add("order", Say(b"no order"))
        assert not server.ask("renew", NAME)["ok"]
        assert note(wanted.state).exists()
        assert server.ask("revoke", {"name": NAME, "reason": "keyCompromise"})["ok"]
        server.until(lambda: len(front.of("newOrder")) == 3)


@pytest.mark.parametrize(
    "fault",
    [
        Refuse(404, "malformed"),
        Refuse(403, "unauthorized"),
        Say(b"no order"),
        Json({"status": "invalid", "error": {"detail": "over"}}),
        Json({"status": "expired"}),
    ],
    ids=["gone", "somebody else's", "nonsense", "given up", "unknown"],
)
def test_where_the_order_leads_to_nothing_another_one_is_placed_at_once(
    fault: Fault, server: FakeServer, front: Faults, wanted: Settings
) -> None:
    leave_issued(server, front, wanted)
    front.add("order", fault)
    go_on(server, wanted)
    assert len(front.of("newOrder")) == 2
    assert not note(wanted.state).exists()


def test_while_nobody_answers_the_order_is_kept(
    server: FakeServer, ca: Pebble, front: Faults, wanted: Settings
) -> None:
    before = issued(ca)
    leave_issued(server, front, wanted)
    for fault in (Cut(heard=False), LATER):
        front.add("order", fault, 100)
        with Certifier(wanted, server):
            server.until(lambda: server.is_loaded)
            assert not server.ask("renew", NAME)["ok"]
        front.clear()
        server.forget()
        assert note(wanted.state).exists()
    go_on(server, wanted)
    assert len(front.of("newOrder")) == 1
    assert issued(ca) == before + 1


def test_a_ca_that_has_forgotten_everything_is_asked_anew(
    server: FakeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also our account: so its order is none of the next one's."""
    with Pebble(server.http_port, server.tls_port, nonce_reject=0) as ca, Faults(ca) as front:
        wanted = asked(front, tmp_path, (NAME,))
        leave_issued(server, front, wanted)
        ca.stop()
        ca.start()
        go_on(server, wanted)
        assert issued(ca) == 2  # in one log: before, and after
    assert "does not know our account any more" in caplog.text
    assert not note(wanted.state).exists()
