"""Kill -9 at each step on disk of a whole issuance, with a real process, a real disk and a real CA.

One state directory lives through it all: the first certifier is killed at its first step, the next
one, which finds what that one has left, at its second, and so on, until one comes to its end. In
between, everything that is there must be whole, and it must never become less; and what a dead one
held, its leases, must keep nobody waiting.
"""

from __future__ import annotations

import os
import queue
import random
import re
import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from acme_client.agent.agent import Agent
from acme_client.certificates.record import Record
from acme_client.certificates.repository import CertificateRepository
from acme_client.link import Authority, Challenge, Command, Served, Settings, Taken
from acme_client.storage.atomic import Disk
from acme_client.storage.directory import DirectoryStore
from acme_client.x509 import keys
from acme_client.x509.verify import verify_pair
from support.acme.certifier import settings
from support.acme.pebble import Pebble

pytestmark = pytest.mark.pebble
NAME = "a.example"
WITHIN = 60.0


class Alone:
    """`link.Link` of a certifier with no server: it is asked for one renewal, and then to stop."""

    def __init__(self) -> None:
        self.mail: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self.mail.put(Command("renew", NAME, 1))
        self.ok = False

    def publish(self, several: Sequence[Served], *, new: bool) -> Taken:
        return Taken(True)

    def present(self, challenge: Challenge) -> bool:
        return True

    def retract(self, challenge: Challenge) -> None:
        pass

    def report(self, name: str, status: dict[str, Any] | None) -> None:
        pass

    def loaded(self) -> None:
        pass

    def idle(self) -> None:
        pass

    def answer(self, ticket: int, value: dict[str, Any]) -> None:
        if ticket == 1:
            self.ok = value["ok"]
            self.mail.put(Command("stop", None, 2))

    def receive(self, timeout: float | None) -> list[Command]:
        try:
            command = self.mail.get(timeout=timeout)
        except queue.Empty:
            return []
        return [] if command is None else [command]

    def wake(self) -> None:
        self.mail.put(None)


@pytest.fixture(scope="module")
def ca() -> Iterator[Pebble]:
    import acme_client.issuers.acme  # noqa: F401 # in this process, so that its children need not

    with Pebble(nonce_reject=0, always_valid=True) as pebble:
        yield pebble


def live_until(step: int, wanted: Settings) -> bool:
    """A certifier that is killed before its disk takes this step; True when it came to its end."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(_live(step, wanted))
        except BaseException:
            traceback.print_exc()
            os._exit(70)
    deadline = time.monotonic() + WITHIN
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            assert code in (0, -signal.SIGKILL), f"it ended with {code} at step {step}"
            return code == 0
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"it hangs at step {step}")


def _live(step: int, wanted: Settings) -> int:
    left = step

    def before(_step: str, _path: Path) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    link = Alone()
    agent = Agent(wanted, link, DirectoryStore(wanted.state, Disk(before)), rng=random.Random(1))
    agent.serve()
    return 0 if link.ok else 71


def look(state: Path) -> tuple[Record, str | None, bytes | None]:
    """What is there, and all of it whole: the record, the certificate's serial, the account key."""
    store = DirectoryStore(state)
    record, pair = CertificateRepository(store).load(NAME)
    serial = None if pair is None else verify_pair(pair, (NAME,), time.time()).serial
    (folder,) = [*(state / "accounts").glob("*")] or [state / "none"]
    files = store.load(f"accounts/{folder.name}") if folder.exists() else {}
    if "key.pem" in files:
        keys.from_pem(files["key.pem"])
    if "account.json" in files:
        assert "key.pem" in files, "an account whose key is lost"
    return record, serial, files.get("key.pem")


def test_kill_9_at_each_step_of_an_issuance(ca: Pebble, tmp_path: Path) -> None:
    wanted = settings(tmp_path, Authority(ca.directory, ca_pem=ca.ca_pem), (NAME,))
    key: bytes | None = None
    serials: list[str] = []
    for step in range(1, 200):
        whole = live_until(step, wanted)
        _record, serial, account_key = look(tmp_path)
        if key is not None:
            assert account_key == key, "the account key is never another one"
        key = account_key
        if serials:
            assert serial is not None, "a certificate that was there is lost"
        if serial is not None and serial not in serials[-1:]:
            serials.append(serial)
        if whole:
            break
    else:
        raise AssertionError("it never comes to its end")
    assert step > 30, "an issuance has more steps than that"
    assert len(serials) == len(set(serials)) > 1
    assert list((tmp_path / "challenges").iterdir()) == []
    # The CA has issued nothing that was not kept, as often as somebody was killed after its word.
    assert len(re.findall("Issued certificate serial", ca.log())) == len(serials)
    assert list((tmp_path / "orders").iterdir()) == []
    record, serial, _ = look(tmp_path)
    assert (record.state.value, record.serial, record.interrupted) == ("fresh", serial, 0)
    assert (record.attempts, record.last_error) == (0, None)
