"""Three machines, one set of certificates: the real program three times, a real etcd of three
members, and a real CA.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from acme_client.issuers import account_files
from acme_client.storage.directory import DirectoryStore
from acme_client.storage.etcd.api import EtcdApi, below, decoded
from acme_client.storage.etcd.sealing import Seals, new_secret, read_secrets
from support.acme.pebble import Pebble
from support.program.cluster import NAME, PREFIX, Cluster, Node, clustered
from support.program.server import treehouse

pytestmark = [pytest.mark.program, pytest.mark.pebble]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three machines; the first orders, and the CA has come to the second for it."""
    with clustered() as made:
        first, second, third = made.node(1, order=True), made.node(2), made.node(3)
        made.led_to(second)  # the CA comes to a machine that does not order
        second.start()
        third.start()
        first.start()
        made.serial = first.await_served()
        yield made


def orders(ca: Pebble) -> int:
    """How many orders the CA has had."""
    return len(re.findall(r"Added order", ca.log()))


def said(node: Node, *words: str) -> str:
    """What a command says on a machine."""
    done = treehouse(*words, "--config", str(node.config))
    return done.stdout + done.stderr


def answered(node: Node, token: str, host: str = NAME) -> str:
    """What a CA finds below a challenge's token; empty for nothing."""
    connection = http.client.HTTPConnection(node.address, node.cluster.ports[0], timeout=30)
    path = f"/.well-known/acme-challenge/{token}"
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        body = answer.read().decode()
    return body if answer.status == 200 else ""


def test_one_machine_orders_and_the_others_take_and_serve(cluster: Cluster) -> None:
    first, second, third = cluster.nodes
    serial = cluster.serial
    assert second.await_served(serial) == third.await_served(serial)
    assert orders(cluster.ca) == 1
    assert first.status()["orders"]
    for node in (second, third):
        # A machine hears of certificates and of machines by two ways.
        told = node.running.await_status(
            node.state, lambda document: document["cluster"]["ordering"] == ["web-1"]
        )["cluster"]
        assert (told["orders"], told["connected"]) == (False, True)
    members = first.running.await_status(
        first.state, lambda document: len(document["cluster"]["members"]) == 3
    )["cluster"]["members"]
    assert [(one["node"], one["orders"]) for one in members] == [
        ("web-1", True), ("web-2", False), ("web-3", False),
    ]  # fmt: skip
    page = said(first, "status", "--cluster")
    assert "cluster shop: this machine, web-1, orders certificates; 3 machines are there" in page
    assert "web-1 may order it, web-2 takes it" in said(second, "why", NAME)
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
    assert time.monotonic() - since < 15.0  # by themselves they look every thirty seconds
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
    for node in (second, third):
        node.running.await_status(node.state, lambda document: document["cluster"]["behind"] == 1)
        assert node.metrics()["treehouse_cluster_certificates_behind"] == 1.0
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
    second.running.await_log("cluster shop: .*what is on the disk is served")
    told = [one["message"] for one in second.running.log if "cluster shop: " in one["message"]]
    told_away = [one for one in told if "what is on the disk is served" in one]
    assert len(told_away) == 1, told_away
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
    # A CA that asks here, for what another machine has ordered, is answered all the same.
    token = "x" * 43
    thumb = account_files.thumbprint(DirectoryStore(first.state), cluster.directory)
    for node in cluster.nodes:  # one that orders may have come since the first could hear of it
        node.running.await_log("challenges are answered by the thumbprint", within=60)
        assert answered(node, token) == f"{token}.{thumb}"
        assert answered(node, "short") == answered(node, token, "b.example") == ""
    # Who orders goes on without it, and the others take that when it is back.
    cluster.led_to(first)
    renewed = treehouse("certs", "renew", NAME, "--force", "--config", str(first.config))
    assert renewed.returncode == 0, renewed.stderr + first.running.text()
    cluster.serial = first.await_served()
    assert second.served() != cluster.serial
    cluster.etcd.start_all()
    for node in (second, third):
        node.await_served(cluster.serial, within=60)
        node.running.await_status(
            node.state, lambda document: (document["cluster"] or {}).get("connected"), within=60
        )
    deadline = time.monotonic() + 60
    while answered(second, token):  # seen from outside only
        assert time.monotonic() < deadline
    checked = treehouse("cluster", "check", "--config", str(second.config))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "web-1 orders, this node takes" in checked.stdout
    # Doctor says the same among what else it finds, as the user that the server is.
    assert "web-1 orders, this node takes" in said(second, "doctor", NAME)


def test_an_older_program_beside_a_newer_takes_nothing_and_gives_nothing(cluster: Cluster) -> None:
    first, second, _third = cluster.nodes
    store = cluster.store()
    before = store.load("cluster/format")
    store.store("cluster/format", {"format.json": b'{"version": 2}'})
    for node in (first, second):
        node.running.await_log("the cluster is used by a newer version of this program", within=60)
        assert node.served() == cluster.serial
    assert "shop has format 2, and this program knows 1" in said(second, "cluster", "format")
    renewed = treehouse("certs", "renew", NAME, "--force", "--config", str(first.config))
    assert renewed.returncode == 0, renewed.stderr
    newest = first.await_served()
    assert second.served() == cluster.serial != newest
    store.store("cluster/format", before)
    store.close()
    cluster.serial = second.await_served(newest, within=60)
    assert "shop has format 1" in said(second, "cluster", "format")


def test_every_machine_that_may_order_does_and_when_one_is_gone_the_others_do(
    cluster: Cluster,
) -> None:
    first, second, third = cluster.nodes
    second.order = True
    second.write()
    assert treehouse("reload", "--config", str(second.config)).returncode == 0
    for node in cluster.nodes:
        node.running.await_status(
            node.state,
            lambda document: (document["cluster"] or {}).get("ordering") == ["web-1", "web-2"],
        )
    joined = said(second, "cluster", "join")
    assert "this machine is web-2, which orders certificates, as the others do" in joined
    assert "web-1 orders" in joined
    assert "this node orders certificates beside web-1" in said(second, "cluster", "check")
    cluster.led_to(third)
    before = orders(cluster.ca)
    renewed = treehouse("certs", "renew", NAME, "--force", "--config", str(second.config))
    assert renewed.returncode == 0, renewed.stderr + second.running.text()
    cluster.serial = second.await_served()
    assert first.await_served(cluster.serial) == third.await_served(cluster.serial)
    # Both want another site, and it is ordered once, by whichever is the first.
    cluster.ca.resolve("b.example", third.address)
    for node in cluster.nodes:
        node.write("b.example")
        assert treehouse("reload", "--config", str(node.config)).returncode == 0
    serial = first.await_served(name="b.example", within=60)
    assert second.await_served(serial, "b.example") == third.await_served(serial, "b.example")
    assert orders(cluster.ca) == before + 2
    # One is gone: what it would order, the other does, with the same account.
    first.kill()
    cluster.ca.resolve("c.example", third.address)
    for node in (second, third):
        node.write("b.example", "c.example")
        assert treehouse("reload", "--config", str(node.config)).returncode == 0
    serial = second.await_served(name="c.example", within=90)
    assert third.await_served(serial, "c.example") == serial
    keys = [(node.state / "accounts/127.0.0.1/key.pem").read_bytes() for node in (first, second)]
    assert keys[0] == keys[1]
    first.write("b.example", "c.example")
    first.start()
    assert first.await_served(serial, "c.example") == serial
    assert orders(cluster.ca) == before + 3
    assert "take cluster out of the configuration" in said(first, "cluster", "leave")


def test_files_that_differ_are_told_and_nothing_is_ordered(cluster: Cluster) -> None:
    _first, second, third = cluster.nodes
    before = orders(cluster.ca)
    second.write("b.example", "c.example, d.example")
    assert treehouse("reload", "--config", str(second.config)).returncode == 0
    told = second.running.await_status(
        second.state,
        lambda document: any(one["contested"] for one in document["certificates"]),
    )
    (one,) = [one for one in told["certificates"] if one["contested"]]
    assert "are configured differently" in one["contested"]
    assert "are configured differently" in said(second, "why", "c.example")
    page = said(second, "status", "--cluster")
    assert "web-3 wants otherwise than this machine: c.example\n" in page, page
    assert "this node (web-2) are configured differently" in page, page
    third.running.await_status(
        third.state,
        lambda document: any(
            (one["node"], one["differs"], one["otherwise"]) == ("web-2", 1, ["c.example"])
            for one in document["cluster"]["members"]
        ),
    )
    assert "are configured differently" in said(second, "doctor", "c.example")
    assert orders(cluster.ca) == before
    second.write("b.example", "c.example")
    assert treehouse("reload", "--config", str(second.config)).returncode == 0
    second.running.await_status(
        second.state,
        lambda document: (
            document["certificates"]
            and not any(one["contested"] for one in document["certificates"])
        ),
    )
    assert orders(cluster.ca) == before


def test_of_two_machines_of_one_name_the_second_waits_and_says_so(cluster: Cluster) -> None:
    _first, second, _third = cluster.nodes

    def is_itself(document: Any) -> bool:
        told = document["cluster"] or {}
        return bool(told.get("members")) and told["fault"] is None and told["orders"]

    # A machine that is killed, and started again, is no other one.
    second.kill()
    second.start()
    second.running.await_status(second.state, is_itself)
    assert "called web-2, too" not in second.running.text()
    other = Node(cluster, 4, order=True)
    other.name = second.name
    other.write("b.example", "c.example")
    checked = treehouse("cluster", "check", "--config", str(other.config))
    assert checked.returncode == 1
    assert "web-2 is the name of another machine, too, which runs since 20" in checked.stdout
    assert "give each machine a name of its own: cluster.node" in checked.stdout
    joined = treehouse("cluster", "join", "--config", str(other.config))
    assert joined.returncode == 1
    assert "shop: another machine that is called web-2 runs since 20" in joined.stderr
    other.start()
    cluster.nodes.append(other)
    why = "another machine of the cluster is called web-2, too, and was there first, so this one"

    def waits(document: Any) -> bool:
        return why in ((document["cluster"] or {}).get("fault") or "")

    told = other.running.await_status(other.state, waits)["cluster"]
    assert not told["orders"]
    assert other.await_served()  # what the others have
    renewed = treehouse("certs", "renew", NAME, "--force", "--config", str(other.config))
    assert renewed.returncode != 0
    assert why in renewed.stdout + renewed.stderr
    # The one that was there first goes on, and a person who looks there is told as well.
    hint = "another machine of the cluster is called web-2, too, and has come later, so that one"

    def is_awaited(document: Any) -> bool:
        told = document["cluster"]
        return hint in (told["fault"] or "") and told["orders"] and told["connected"]

    second.running.await_status(second.state, is_awaited)
    assert hint in treehouse("status", "--cluster", "--config", str(second.config)).stdout
    checked = treehouse("cluster", "check", "--config", str(second.config))
    assert checked.returncode == 1
    assert "web-2 is the name of another machine, too, which runs since 20" in checked.stdout
    # When it goes, its name is free.
    second.stop()
    other.running.await_status(other.state, is_itself, within=60)
    second.start()
    second.running.await_status(second.state, waits)
    other.running.await_status(other.state, is_awaited)
    other.stop()
    second.running.await_status(second.state, is_itself, within=60)
