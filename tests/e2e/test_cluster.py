"""Three machines, one set of certificates: the real program three times, a real etcd of three
members, and a real CA.

Each node has a loopback address of its own, as machines have theirs; the CA is led to whichever the
DNS names.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acme_client.storage.etcd.api import EtcdApi, below, decoded, encoded
from acme_client.storage.etcd.sealing import Seals, new_secret, read_secrets
from acme_client.storage.etcd.store import EtcdStore
from support.acme.pebble import Pebble
from support.etcd import Etcd
from support.program.ports import free_ports
from support.program.server import Server, treehouse

pytestmark = [pytest.mark.program, pytest.mark.pebble]

NAME = "a.example"
PREFIX = "/treehouse/shop/"


class Node:
    """A machine: its configuration, its disk, and the program where it runs."""

    def __init__(self, cluster: Cluster, number: int, *, order: bool) -> None:
        self.cluster = cluster
        self.name = f"web-{number}"
        self.address = f"127.0.0.{number + 1}"
        self.folder = cluster.folder / self.name
        self.folder.mkdir()
        os.chmod(self.folder, 0o755)
        self.state = self.folder / "state"
        self.config = self.folder / "config.yaml"
        self.order = order
        self.server: Server | None = None
        self.write()

    def write(self, *sites: str) -> None:
        one = self.cluster
        names = "".join(f"\n- {{names: [{site}], root: {one.root}}}" for site in (NAME, *sites))
        self.config.write_text(
            f"""
listen: {{http: ["{self.address}:{one.ports[0]}"], https: ["{self.address}:{one.ports[1]}"]}}
workers: 1
state: {self.state}
log: {{access: off}}
acme: {{directory: "{one.ca.directory}", ca_file: {one.ca.ca_file}, challenges: [{one.challenge}]}}
cluster:
  name: shop
  node: {self.name}
  etcd: [{", ".join(one.etcd.endpoints)}]
  secret_file: {one.secret_file}
  order: {str(self.order).lower()}
sites:{names}
"""
        )

    def start(self) -> Server:
        self.server = Server(["--config", str(self.config)], self.folder).__enter__()
        return self.server

    @property
    def running(self) -> Server:
        assert self.server is not None
        return self.server

    def stop(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None

    def kill(self) -> None:
        """As a machine that loses its power: nothing is said to anybody."""
        for pid in reversed(self.running.tree()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.stop()

    def served(self, name: str = NAME) -> str | None:
        """The serial number of what it serves, verified by the CA's root; None for nothing."""
        context = ssl.create_default_context(cadata=self.cluster.ca.root().decode())
        try:
            with (
                socket.create_connection((self.address, self.cluster.ports[1]), 5) as plain,
                context.wrap_socket(plain, server_hostname=name) as connection,
            ):
                return str((connection.getpeercert() or {})["serialNumber"])
        except ssl.SSLError:
            return None

    def await_served(self, serial: str | None = None, name: str = NAME, within: float = 30) -> str:
        """The serial number, as soon as it serves something, or this."""
        deadline = time.monotonic() + within
        while True:
            found = self.served(name)
            if found is not None and serial in (None, found):
                return found
            assert time.monotonic() < deadline, (found, serial, self.running.text())
            time.sleep(0.05)  # what is served is seen from outside only

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.running.status(self.state)["cluster"]
        return found


class Cluster:
    challenge = "http-01"

    def __init__(
        self, folder: Path, root: Path, ports: tuple[int, int], etcd: Etcd, ca: Pebble
    ) -> None:
        self.folder, self.root, self.ports, self.etcd, self.ca = folder, root, ports, etcd, ca
        self.secret = new_secret()
        self.secret_file = folder / "cluster.key"
        self.secret_file.write_text(self.secret + "\n")
        self.secret_file.chmod(0o644)
        self.nodes: list[Node] = []
        self.serial = ""  # of what all of them serve

    def node(self, number: int, *, order: bool = False) -> Node:
        made = Node(self, number, order=order)
        self.nodes.append(made)
        return made

    def led_to(self, node: Node) -> None:
        self.ca.resolve(NAME, node.address)

    def store(self) -> EtcdStore:
        return EtcdStore(EtcdApi(self.etcd.endpoints), PREFIX, Seals(read_secrets(self.secret)))

    def put(self, key: str, value: bytes) -> None:
        api = EtcdApi(self.etcd.endpoints)
        api.call("/v3/kv/put", {"key": encoded(PREFIX + key), "value": encoded(value)})
        api.close()

    def get(self, key: str) -> bytes:
        api = EtcdApi(self.etcd.endpoints)
        answer = api.call("/v3/kv/range", {"key": encoded(PREFIX + key)})
        api.close()
        return decoded(answer["kvs"][0]["value"])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three machines; the first orders, and the CA has come to the second for it."""
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    os.chmod(folder, 0o755)
    root = folder / "www"
    root.mkdir()
    (root / "index.html").write_text("<p>hello\n")
    one, other = free_ports(2)
    try:
        with Etcd() as etcd, Pebble(one, other) as ca:
            made = Cluster(folder, root, (one, other), etcd, ca)
            try:
                first, second, third = made.node(1, order=True), made.node(2), made.node(3)
                made.led_to(second)  # the CA comes to a machine that does not order
                second.start()
                third.start()
                first.start()
                made.serial = first.await_served()
                yield made
            finally:
                for node in made.nodes:
                    node.stop()
    finally:
        shutil.rmtree(folder)


def orders(ca: Pebble) -> int:
    """How many orders the CA has had."""
    return len(re.findall(r"Added order", ca.log()))


def said(node: Node, *words: str) -> str:
    """What a command says on a machine."""
    done = treehouse(*words, "--config", str(node.config))
    return done.stdout + done.stderr


def test_one_machine_orders_and_the_others_take_and_serve(cluster: Cluster) -> None:
    first, second, third = cluster.nodes
    serial = cluster.serial
    assert second.await_served(serial) == third.await_served(serial)
    assert orders(cluster.ca) == 1
    assert first.status()["orders"]
    for node in (second, third):
        told = node.status()
        assert (told["orders"], told["orderer"], told["connected"]) == (False, "web-1", True)
    members = first.running.await_status(
        first.state, lambda document: len(document["cluster"]["members"]) == 3
    )["cluster"]["members"]
    assert [(one["node"], one["orders"]) for one in members] == [
        ("web-1", True), ("web-2", False), ("web-3", False),
    ]  # fmt: skip
    page = said(first, "status", "--cluster")
    assert "cluster shop: this machine, web-1, orders certificates; 3 machines are there" in page
    assert "web-1 orders it, web-2 takes it" in said(second, "why", NAME)
    # What lies in the engine cannot be read.
    api = EtcdApi(cluster.etcd.endpoints)
    found = api.call("/v3/kv/range", below("/"))["kvs"]
    api.close()
    assert len(found) > 5
    assert not [one for one in found if b"PRIVATE" in decoded(one.get("value"))]


def test_a_renewal_reaches_the_others_within_a_second(cluster: Cluster) -> None:
    first, second, third = cluster.nodes
    cluster.led_to(third)
    refused = treehouse("certs", "renew", NAME, "--config", str(second.config))
    assert refused.returncode != 0
    assert "this node orders no certificates (cluster.order: false); web-1 does" in (
        refused.stdout + refused.stderr
    )
    before = cluster.serial
    renewed = treehouse("certs", "renew", NAME, "--force", "--config", str(first.config))
    assert renewed.returncode == 0, renewed.stderr
    cluster.serial = first.await_served()
    assert cluster.serial != before
    since = time.monotonic()
    assert second.await_served(cluster.serial) == third.await_served(cluster.serial)
    assert time.monotonic() - since < 5.0  # of which the machine is busy for the most
    assert orders(cluster.ca) == 2
    (entry,) = second.running.status(second.state)["certificates"]
    assert (entry["state"], entry["served"]) == ("fresh", True)


def test_what_cannot_be_opened_is_told_once_and_what_is_here_stays(cluster: Cluster) -> None:
    first, second, third = cluster.nodes
    first.stop()  # it would mend what the test breaks
    key = f"certificates/{NAME}/:together"
    sound = cluster.get(key)
    strange = Seals(read_secrets(new_secret())).seal(PREFIX + key, "certificates", b"x")
    moved = cluster.get("cluster/format/format.json")
    # The log quiets what it has said before, so each reason is the first of its kind.
    for value, why in (
        (b"garbage", "nobody of this cluster has sealed it, or it is cut off"),
        (strange, "it was sealed with another secret"),
        (moved, "it is damaged, forged, or was sealed for another key"),
    ):
        since = len(second.running.log)
        cluster.put(key, value)
        cluster.put(key, value)
        second.running.await_log(f"what is here stays.*{re.escape(why)}", since=since)
        assert second.served() == third.served() == cluster.serial
    page = second.running.await_status(
        second.state, lambda document: NAME in document["cluster"]["refused"]
    )
    assert page["cluster"]["connected"]
    assert "is not taken" in said(second, "why", NAME)
    told = [one for one in second.running.log if "what is here stays" in one["message"]]
    assert len(told) == 3
    cluster.put(key, sound[:40])
    # The machine that orders comes back, and offers what it has.
    first.start()
    second.running.await_status(second.state, lambda document: not document["cluster"]["refused"])
    assert cluster.get(key) not in (moved, sound[:40])
    assert first.await_served() == cluster.serial
    assert orders(cluster.ca) == 2


def test_without_the_engine_it_starts_reloads_and_serves(cluster: Cluster) -> None:
    first, second, third = cluster.nodes
    cluster.etcd.kill_all()
    second.kill()
    second.start()
    assert second.await_served() == cluster.serial
    reloaded = treehouse("reload", "--config", str(second.config))
    assert reloaded.returncode == 0, reloaded.stderr
    assert second.await_served() == cluster.serial
    told = second.running.await_status(
        second.state, lambda document: (document["cluster"] or {}).get("fault")
    )
    assert not told["cluster"]["connected"]
    checked = treehouse("cluster", "check", "--config", str(second.config))
    assert checked.returncode == 1
    assert "gives no answer" in checked.stdout
    assert "what is on the disk is served meanwhile" in checked.stdout
    # Who orders goes on without it, and the others take that when it is back.
    cluster.led_to(first)
    renewed = treehouse("certs", "renew", NAME, "--force", "--config", str(first.config))
    assert renewed.returncode == 0, renewed.stderr + first.running.text()
    cluster.serial = first.await_served()
    assert second.served() != cluster.serial
    cluster.etcd.start_all()
    for node in (second, third):
        node.await_served(cluster.serial, within=40)
        node.running.await_status(
            node.state, lambda document: (document["cluster"] or {}).get("connected"), within=30
        )
    checked = treehouse("cluster", "check", "--config", str(second.config))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "web-1 orders, this node takes" in checked.stdout


def test_an_older_program_beside_a_newer_takes_nothing_and_gives_nothing(cluster: Cluster) -> None:
    first, second, _third = cluster.nodes
    store = cluster.store()
    before = store.load("cluster/format")
    store.store("cluster/format", {"format.json": b'{"version": 2}'})
    for node in (first, second):
        node.running.await_log("the cluster is used by a newer version of this program", within=40)
        assert node.served() == cluster.serial
    renewed = treehouse("certs", "renew", NAME, "--force", "--config", str(first.config))
    assert renewed.returncode == 0, renewed.stderr
    newest = first.await_served()
    assert second.served() == cluster.serial != newest
    store.store("cluster/format", before)
    store.close()
    cluster.serial = second.await_served(newest, within=40)


def test_another_machine_takes_over_and_the_first_only_takes(cluster: Cluster) -> None:
    first, second, third = cluster.nodes
    assert "this machine is to order nothing" in said(second, "cluster", "join", "--take-over")
    left = said(first, "cluster", "leave")
    assert "nobody orders certificates for shop now" in left
    first.running.await_status(first.state, lambda document: not document["cluster"]["orders"])
    refused = said(first, "certs", "renew", NAME)
    assert "no machine of the cluster orders certificates" in refused
    second.order = True
    second.write()
    assert treehouse("reload", "--config", str(second.config)).returncode == 0
    assert "who orders: nobody yet" in said(second, "cluster", "join")
    taken = said(second, "cluster", "join", "--take-over")
    assert "web-2 orders the certificates of shop from now on" in taken
    second.running.await_status(
        second.state, lambda document: (document["cluster"] or {}).get("orders")
    )
    cluster.led_to(third)
    renewed = treehouse("certs", "renew", NAME, "--force", "--config", str(second.config))
    assert renewed.returncode == 0, renewed.stderr + second.running.text()
    cluster.serial = second.await_served()
    assert first.await_served(cluster.serial) == third.await_served(cluster.serial)
    assert first.status()["orderer"] == "web-2"
