"""A challenge of an order that another machine goes on with, in a real engine: it is answered for as
long as one of the two needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from acme_client.challenges import document
from acme_client.challenges.holders import Holders
from acme_client.cluster.challenges import Answered, ClusterLink, Told
from acme_client.link import Challenge
from acme_client.storage.etcd.api import EtcdApi
from acme_client.storage.etcd.sealing import Seals, new_secret, read_secrets
from acme_client.storage.etcd.store import EtcdStore
from support.acme.certifier import FakeServer
from support.etcd import Etcd

pytestmark = pytest.mark.program

SEALS = Seals(read_secrets(new_secret()))
BY_HTTP = Challenge("http-01", "a.example", "tok-en", "tok-en.thumb")
BY_TLS = Challenge("tls-alpn-01", "a.example", "tok-en", "tok-en.thumb")


class Machine:
    """A machine that presents its own challenges, and answers those of the other machines."""

    def __init__(self, shared: EtcdStore) -> None:
        self.shared = shared
        self.server = FakeServer()
        self.reachable = True
        holders = Holders()
        self.told = Told(shared, lambda _revision: [], lambda: self.reachable, lambda: None)
        self.link = ClusterLink(self.server, self.told, holders)
        self.answered = Answered(self.server, lambda: 1e9, holders)

    def look(self) -> None:
        """As `cluster.company` does when challenges have changed."""
        found, _revision = self.shared.load_alone(document.FOLDER)
        ours = self.told.ours
        self.answered.follow({token: one for token, one in found.items() if token not in ours})

    def answers(self) -> set[tuple[str, str]]:
        return self.server.in_force()


@pytest.fixture(scope="module")
def etcd() -> Iterator[Etcd]:
    with Etcd() as running:
        yield running


@pytest.fixture
def machine(etcd: Etcd, request: pytest.FixtureRequest) -> Iterator[Callable[[], Machine]]:
    machines: list[Machine] = []

    def make() -> Machine:
        store = EtcdStore(EtcdApi(etcd.endpoints), f"/{request.node.name}/", SEALS)
        machines.append(Machine(store))
        machines[-1].server.__enter__()
        return machines[-1]

    yield make
    for one in machines:
        one.server.__exit__()
        one.shared.close()


def test_who_is_late_to_delete_a_challenge_leaves_that_of_the_next_machine(
    machine: Callable[[], Machine],
) -> None:
    first, second, third = machine(), machine(), machine()
    first.link.present(BY_HTTP)
    first.link.retract(BY_HTTP)
    second.link.present(BY_HTTP)
    assert first.told.delete(), "another machine's is there"
    for one in (first, third):
        one.look()
        assert one.answers() == {("http-01", "tok-en")}
    second.link.retract(BY_HTTP)
    assert not second.told.delete()
    for one in (first, third):
        one.look()
        assert one.answers() == set()


def test_a_machine_that_goes_on_with_an_order_answers_when_the_first_has_gone(
    machine: Callable[[], Machine],
) -> None:
    """It may hear late that the challenge of the first one has vanished with its session."""
    first, second = machine(), machine()
    first.link.present(BY_HTTP)
    second.look()
    first.shared.close()
    second.link.present(BY_HTTP)
    second.look()
    assert second.answers() == {("http-01", "tok-en")}
    second.link.retract(BY_HTTP)
    assert second.answers() == set()


def test_another_kind_with_the_same_token_is_answered(machine: Callable[[], Machine]) -> None:
    first, second, third = machine(), machine(), machine()
    first.link.present(BY_HTTP)
    third.look()
    second.link.present(BY_TLS)
    third.look()
    assert third.answers() == {("tls-alpn-01", "tok-en")}


def test_what_an_earlier_attempt_wanted_deleted_stays_when_it_is_needed_again(
    machine: Callable[[], Machine],
) -> None:
    """The engine was away between the two."""
    first, second = machine(), machine()
    first.link.present(BY_HTTP)
    first.link.retract(BY_HTTP)
    first.reachable = False
    first.link.present(BY_HTTP)
    first.reachable = True
    assert not first.told.delete()
    second.look()
    assert second.answers() == {("http-01", "tok-en")}
    first.link.retract(BY_HTTP)
    first.told.delete()
    second.look()
    assert second.answers() == set()


def test_a_deletion_that_fails_is_tried_again(
    machine: Callable[[], Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = machine()
    first.link.present(BY_HTTP)
    first.link.retract(BY_HTTP)

    def away(_folder: str, _file: str) -> bool:
        raise OSError("the engine is away")

    with monkeypatch.context() as patched:
        patched.setattr(first.shared, "delete_ours", away)
        with pytest.raises(OSError, match="away"):
            first.told.delete()
    first.told.delete()
    assert first.shared.load(document.FOLDER) == {}
    assert first.told.ours == set()
