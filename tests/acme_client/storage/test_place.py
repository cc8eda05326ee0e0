"""A watch that goes on from where another one had come to, on a real etcd: it names what has changed
since, and nothing else; and where it cannot know that, it says so and names nothing."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator

import pytest

from acme_client.storage.etcd.api import EtcdApi, encoded
from acme_client.storage.etcd.operations import transact, writing
from acme_client.storage.etcd.place import Place, Witness, decode, encode, latest_first
from acme_client.storage.etcd.sealing import Seals, new_secret, read_secrets
from acme_client.storage.etcd.store import EtcdStore
from acme_client.storage.etcd.watch import Watch
from support.etcd import Etcd

pytestmark = pytest.mark.program

SEALS = Seals(read_secrets(new_secret()))
FILES = {"fullchain.pem": b"chain", "privkey.pem": b"key"}
NAMES = {"changed.example", "gone.example", "same.example"}


@pytest.fixture(scope="module")
def running() -> Iterator[Etcd]:
    with Etcd(members=1) as etcd:
        yield etcd


class Client:
    """A store of one machine, whose processes come and go; ``cluster`` keeps tests apart."""

    def __init__(self, etcd: Etcd, cluster: str) -> None:
        self.etcd, self.cluster = etcd, cluster
        self.store = self._opened()
        self.woken = threading.Event()

    def _opened(self) -> EtcdStore:
        return EtcdStore(EtcdApi(self.etcd.endpoints), f"/treehouse/{self.cluster}/", SEALS)

    def put(self, *names: str) -> None:
        for name in names:
            self.store.store(f"certificates/{name}", FILES)

    def watch(self, place: Place | None = None) -> Watch:
        return self.store.watch_from("certificates", self.woken.set, place)

    def left(self) -> Place:
        """Where a process is that has heard of everything and ends."""
        watch = self.watch()
        place = self.place(watch)
        self.again()
        return place

    def place(self, watch: Watch) -> Place:
        watch.see_a_witness()
        place, unnamed = watch.place()
        assert unnamed == set()
        decoded = decode(json.loads(json.dumps(encode(place))))
        assert decoded == place
        return place

    def again(self) -> None:
        self.store.close()
        self.store = self._opened()

    def named(self, watch: Watch, names: set[str]) -> set[str]:
        """What the watch names, until it has named these."""
        found = watch.changed()
        deadline = time.monotonic() + 60
        while not names <= found:
            assert self.woken.wait(max(deadline - time.monotonic(), 0.0)), (names, found)
            self.woken.clear()
            found |= watch.changed()
        return found

    def calls(self) -> int:
        return sum(self.store.api.figures.document()["seconds"])

    def compact(self) -> None:
        latest = json.loads(self.etcd.ctl("get", "/", "--write-out", "json"))["header"]["revision"]
        self.etcd.ctl("compact", str(latest))


@pytest.fixture
def client(running: Etcd, request: pytest.FixtureRequest) -> Iterator[Client]:
    one = Client(running, f"t{zlib.crc32(request.node.name.encode())}")
    yield one
    one.store.close()


def test_what_has_changed_since_is_named_and_nothing_else_is_asked_for(client: Client) -> None:
    client.put(*NAMES)
    place = client.left()
    client.store.delete("certificates/gone.example")
    client.put("changed.example", "new.example")
    client.again()
    watch = client.watch(place)
    assert watch.goes_on
    expected = {"changed.example", "new.example", "gone.example"}
    assert client.named(watch, expected) == expected
    assert client.calls() == 1
    assert watch.folders() == {"changed.example", "new.example", "same.example"}
    # And on from there, and where nothing has changed.
    place = client.place(watch)
    assert place.witnesses[0].key.startswith("new.example/")
    client.again()
    watch = client.watch(place)
    client.put("later.example")
    assert client.named(watch, {"later.example"}) == {"later.example"}


def test_what_has_changed_before_the_history_was_thrown_away_is_named(client: Client) -> None:
    client.put("changed.example", "gone.example", "same.example")  # the last one is a witness
    place = client.left()
    client.put("changed.example", "new.example")
    client.store.delete("certificates/gone.example")
    client.compact()
    client.again()
    watch = client.watch(place)
    assert watch.goes_on
    expected = {"changed.example", "new.example", "gone.example"}
    assert client.named(watch, expected) == expected


def test_what_was_known_from_later_than_the_last_witness_is_not_believed(client: Client) -> None:
    client.put("same.example")
    watch = client.watch()
    client.put("other.example", "changed.example", "gone.example")
    client.named(watch, {"other.example", "changed.example", "gone.example"})
    place = client.place(watch)
    # What was written last is gone, and with it the history: an earlier witness is left.
    client.put("changed.example")
    client.store.delete("certificates/gone.example")
    client.compact()
    client.again()
    watch = client.watch(place)
    assert watch.goes_on
    expected = {"changed.example", "gone.example"}
    assert client.named(watch, expected) == expected


def test_without_a_witness_nothing_was_known(client: Client) -> None:
    client.put("a.example")
    place = client.left()
    client.put("a.example")
    client.compact()
    client.again()
    watch = client.watch(place)
    assert not watch.goes_on
    assert watch.changed() == set()
    assert watch.folders() == {"a.example"}
    # Nor with witnesses who say something else, or are none of this engine's.
    place = client.place(watch)
    (one, *_rest) = place.witnesses
    for wrong in (
        place._replace(witnesses=()),
        place._replace(engine="7"),
        place._replace(witnesses=(one._replace(digest="0" * 24),)),
        place._replace(witnesses=(one._replace(revision=one.revision + 1),)),
        place._replace(witnesses=(one._replace(revision=1 << 40),)),
        place._replace(witnesses=(one._replace(key="nobody.example/:together"),)),
    ):
        assert not client.watch(wrong).goes_on


def test_thousands_of_changes_come_in_several_answers_and_none_is_lost(client: Client) -> None:
    client.put("same.example")
    place = client.left()
    names = {f"{number}.example" for number in range(1500)}
    several = [
        writing(f"{client.store.prefix}certificates/{name}/meta.json", b"x") for name in names
    ]
    for start in range(0, len(several), 100):
        transact(client.store.api, [], several[start : start + 100])
    client.again()
    watch = client.watch(place)
    assert client.named(watch, names) == names
    assert watch.goes_on


def test_of_an_engine_from_a_backup_nothing_is_missed_though_its_revisions_are_the_same() -> None:
    with Etcd(members=1) as etcd:
        client = Client(etcd, "shop")
        watch = client.watch()
        client.put("a.example", "b.example", "both.example", "lost.example")
        snapshot = etcd.folder / "snapshot"
        subprocess.run(
            ["etcdctl", "--endpoints", etcd.endpoints[0], "snapshot", "save", str(snapshot)],
            env={**os.environ, "ETCDCTL_API": "3"}, check=True, capture_output=True,
        )  # fmt: skip
        client.put("new.example", "both.example")
        client.store.delete("certificates/lost.example")
        client.named(watch, {"a.example", "b.example", "both.example", "new.example"})
        while "lost.example" in watch.folders():
            assert client.woken.wait(60)
            client.woken.clear()
        watch.changed()
        lost = client.place(watch)
        client.store.close()
        etcd.kill_all()
        etcd.restore(snapshot)
        etcd.start_all()
        client = Client(etcd, "shop")
        # The same certificate is written at the same revision, and the engine goes on further.
        client.put("both.example", "other.example", "b.example")  # the engine itself wrote once
        pairs = client.store.api.call(
            "/v3/kv/range",
            {"key": encoded(f"{client.store.prefix}certificates/both.example/:together")},
        )["kvs"]
        assert int(pairs[0]["mod_revision"]) == lost.known["both.example/:together"]
        watch = client.watch(lost)
        assert watch.goes_on
        expected = {"both.example", "new.example", "lost.example", "other.example", "b.example"}
        assert client.named(watch, expected) == expected
        client.store.close()


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"engine": 7, "known": {}, "witnesses": []},
        {"engine": "7", "known": [], "witnesses": []},
        {"engine": "7", "known": {"a": 1}, "witnesses": []},
        {"engine": "7", "known": {"a": {"b": "1"}}, "witnesses": []},
        {"engine": "7", "known": {"a": {"b": True}}, "witnesses": []},
        {"engine": "7", "known": {"a": {"b": -1}}, "witnesses": []},
        {"engine": "7", "known": {}, "witnesses": {}},
        {"engine": "7", "known": {}, "witnesses": [["a", 1]]},
        {"engine": "7", "known": {}, "witnesses": [["a", True, "b"]]},
        {"engine": "7", "known": {}, "witnesses": [["a", 1, 2]]},
    ],
)
def test_nonsense_is_no_place(document: object) -> None:
    assert decode(document) is None


def test_witnesses_are_the_latest_of_each_key() -> None:
    several = [
        Witness("a", 1, "x"),
        Witness("b", 3, "x"),
        Witness("a", 5, "y"),
        Witness("c", 2, ""),
    ]
    assert latest_first(several, 2) == (Witness("a", 5, "y"), Witness("b", 3, "x"))
