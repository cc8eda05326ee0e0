"""A machine that starts while another one orders, or whose certifier is stopped, and is asked by the
CA: it answers, though it has not heard of the challenge yet. The real program twice, a real etcd, and a real CA.

What keeps the starting machine from hearing is that its way to etcd is shut.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.acme.ca_faults import Meanwhile
from support.program.cluster import NAME, Cluster, Node, clustered
from support.program.server import treehouse

pytestmark = [pytest.mark.program, pytest.mark.pebble]


class Gate:
    """A way to etcd that takes connections and, while it is shut, lets nothing through. It has many
    doors, because each is tried for seconds before a machine gives etcd up."""

    DOORS = 12

    def __init__(self, behind: str) -> None:
        host, _, port = behind.removeprefix("http://").partition(":")
        self._behind = host, int(port)
        self._doors = [socket.create_server(("127.0.0.1", 0)) for _ in range(self.DOORS)]
        self.urls = [f"http://127.0.0.1:{one.getsockname()[1]}" for one in self._doors]
        self._changed = threading.Condition()
        self._is_open = False
        self._through: list[socket.socket] = []
        for door in self._doors:
            threading.Thread(target=self._attend, args=(door,), daemon=True).start()

    def open(self) -> None:
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def shut(self) -> None:
        with self._changed:
            self._is_open = False
            for one in self._through:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            self._through.clear()

    def close(self) -> None:
        self.shut()
        for door in self._doors:
            door.close()

    def _attend(self, door: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = door.accept()
                threading.Thread(target=self._let_through, args=(client,), daemon=True).start()

    def _let_through(self, client: socket.socket) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_open)
            server = socket.create_connection(self._behind)
            self._through += [client, server]
        back = threading.Thread(target=_carry, args=(server, client), daemon=True)
        back.start()
        _carry(client, server)
        back.join()
        client.close()
        server.close()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for one in (source, target):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


class Pair:
    """A machine that orders, and one that starts, whose way to etcd is a gate."""

    def __init__(self, cluster: Cluster, gate: Gate) -> None:
        assert cluster.front is not None
        self.cluster, self.gate, self.front = cluster, gate, cluster.front
        self.first = cluster.node(1, order=True)
        self.second = cluster.node(2)
        self.second.endpoints = gate.urls
        self.second.write()

    def order(self) -> str:
        """Have the first machine order; the serial number of what it serves then."""
        before, orders = self.first.served(), len(self.front.of("newOrder"))
        command = ("certs", "renew", NAME, "--force", "--config", str(self.first.config))
        done = treehouse(*command)
        texts = [one.running.text() for one in (self.first, self.second)]
        assert done.returncode == 0, (done.stdout, done.stderr, *texts)
        assert len(self.front.of("newOrder")) == orders + 1
        return self.first.await_other(before or "")

    def opens_when_asked(self) -> None:
        """The gate opens when the CA has been told to look, and so asks, or has asked."""
        self.front.add("challenge", Meanwhile(self.gate.open))

    def start_shut(self) -> None:
        self.second.stop()
        self.gate.shut()
        self.second.start()
        assert health(self.second) == (503, "starting\n")


def health(node: Node) -> tuple[int, str]:
    """What balancers are told."""
    try:
        with urllib.request.urlopen(f"http://{node.admin}/healthz", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def await_ready(node: Node) -> None:
    node.running.await_status(
        node.state, lambda document: (document["cluster"] or {}).get("connected")
    )
    deadline = time.monotonic() + 60
    while health(node) != (200, "ok\n"):  # seen from outside only
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with clustered(faults=True) as cluster:
        gate = Gate(cluster.etcd.endpoints[0])
        made = Pair(cluster, gate)
        try:
            cluster.led_to(made.first)
            made.first.start()
            made.first.await_served()
            cluster.led_to(made.second)
            yield made
        finally:
            made.second.stop()  # which says to etcd that it goes
            gate.close()


def test_who_asks_a_machine_that_is_new_waits_until_it_has_heard(pair: Pair) -> None:
    pair.start_shut()
    pair.opens_when_asked()
    serial = pair.order()
    assert pair.second.await_served(serial) == serial
    await_ready(pair.second)
    assert "by the thumbprint" not in pair.second.running.text()


def test_of_tls_alpn_01_likewise(pair: Pair) -> None:
    pair.cluster.challenge = "tls-alpn-01"
    for node in (pair.first, pair.second):
        node.write()
    assert treehouse("reload", "--config", str(pair.first.config)).returncode == 0
    await_ready(pair.first)
    pair.start_shut()
    pair.opens_when_asked()
    serial = pair.order()
    assert pair.second.await_served(serial) == serial
    pair.cluster.challenge = "http-01"
    for node in (pair.first, pair.second):
        node.write()
    assert treehouse("reload", "--config", str(pair.first.config)).returncode == 0
    await_ready(pair.first)


def test_who_knows_the_thumbprint_answers_by_it_where_etcd_takes_long(pair: Pair) -> None:
    before = pair.second.served()
    pair.start_shut()
    serial = pair.order()
    pair.second.running.await_log("challenges are answered by the thumbprint")
    assert pair.second.served() == before != serial
    pair.gate.open()
    assert pair.second.await_served(serial) == serial
    await_ready(pair.second)


def certifier(node: Node) -> int:
    """The pid of a machine's certifier."""
    (found,) = [
        pid
        for pid in node.running.children()
        if b"certifier" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return found


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def answered(node: Node, token: str) -> str:
    """What a CA finds below a challenge's token; empty for nothing."""
    connection = http.client.HTTPConnection(node.address, node.cluster.ports[0], timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", f"/.well-known/acme-challenge/{token}", headers={"Host": NAME})
        answer = connection.getresponse()
        body = answer.read().decode()
    return body if answer.status == 200 else ""


def await_unanswered(node: Node, token: str) -> None:
    deadline = time.monotonic() + 60
    while answered(node, token):  # seen from outside only
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_while_the_certifier_is_stopped_who_asks_waits_and_then_the_thumbprint_answers(
    pair: Pair,
) -> None:
    token = "x" * 43
    await_unanswered(pair.second, token)  # where nothing gets time, certifiers are silent, too
    with stopped(certifier(pair.second)):
        deadline = time.monotonic() + 60
        while not (found := answered(pair.second, token)):  # seen from outside only
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert len(found.removeprefix(f"{token}.")) == 43
        assert answered(pair.second, "short") == ""
        assert "does not answer any more" not in pair.second.running.text()


@pytest.mark.skipif(not os.environ.get("CLUSTER_SECONDS"), reason="make cluster")
def test_another_machine_orders_while_the_certifier_of_the_one_that_the_ca_asks_is_stopped(
    pair: Pair,
) -> None:
    with stopped(certifier(pair.second)):
        # The CA is told to look when this machine's session has ended, and not before.
        serial = pair.order()
    assert pair.second.await_served(serial) == serial
    await_unanswered(pair.second, "x" * 43)
