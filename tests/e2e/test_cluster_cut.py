"""Three machines in networks of their own, each with a member of etcd: links are cut, members die in
the middle of an order, machines are paused, a disk is full; with the real program and a real CA.

What takes longer than a lease is for `make cluster`.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from acme_client.storage.etcd.api import EtcdApi, number
from support.acme.ca_faults import Meanwhile
from support.program.cluster import NAME, Cluster, Node, clustered, start
from support.program.machines import Machines
from support.program.server import REPOSITORY, treehouse

pytestmark = [pytest.mark.program, pytest.mark.pebble]

long = pytest.mark.skipif(not os.environ.get("CLUSTER_SECONDS"), reason="make cluster")
NOBODY = 65534


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with Machines(3) as made, made.entered():
        yield made


@pytest.fixture(scope="module")
def cluster(machines: Machines) -> Iterator[Cluster]:
    """Three machines that order. The third has a small disk."""
    with clustered(machines=machines) as made:
        first, second, third = (made.node(each, order=True) for each in (1, 2, 3))
        made.led_to(second)
        with small_disk(third.state):
            start(second)
            start(first, third)
            made.serial = first.await_served()
            for node in (second, third):
                node.await_served(made.serial)
                await_members(node, 3)
            yield made
            for node in made.nodes:
                node.stop()


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[None]:
    place.mkdir()
    options = f"size=1m,uid={NOBODY},gid={NOBODY},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def await_members(node: Node, number_: int) -> None:
    node.running.await_status(
        node.state,
        lambda document: (
            document["cluster"] is not None and len(document["cluster"]["members"]) == number_
        ),
    )


def renews(node: Node) -> subprocess.Popen[str]:
    """Have a machine begin an order."""
    command = ["certs", "renew", NAME, "--force", "--config", str(node.config)]
    return subprocess.Popen(
        [*node.running.command[: node.running.command.index("proxy") + 1], *command],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def renewed(node: Node) -> str:
    """Have a machine order; the serial number of what it serves then."""
    before = node.served()
    done = treehouse("certs", "renew", NAME, "--force", "--config", str(node.config))
    assert done.returncode == 0, done.stderr + node.running.text()
    serial = node.await_served()
    assert serial != before
    return serial


def orders(cluster: Cluster) -> int:
    return len(re.findall("Added order", cluster.ca.log()))


def test_a_machine_that_is_cut_off_serves_and_takes_what_it_has_missed(
    machines: Machines, cluster: Cluster
) -> None:
    first, second, third = cluster.nodes
    before = cluster.serial
    assert cluster.front is not None
    with contextlib.ExitStack() as cut:
        # All machines have answered the challenge by then: the order waits for nobody.
        cluster.front.add("finalize", Meanwhile(lambda: cut.enter_context(machines.without(2))))
        cluster.serial = renewed(first)
        second.await_served(cluster.serial)
        with machines.at(2):
            assert third.served() == before
        # Whoever it hears of changes from then on cannot tell them one by one any more.
        cluster.etcd.kill(2)
        api = EtcdApi(cluster.etcd.endpoints[:2])
        at = number(api.call("/v3/kv/range", {"key": "AA=="})["header"]["revision"])
        api.call("/v3/kv/compaction", {"revision": str(at), "physical": True})
        api.close()
    assert third.await_served(cluster.serial, within=60) == cluster.serial
    third.running.await_status(third.state, lambda document: document["cluster"]["connected"])
    cluster.etcd.start_all()
    figures = await_figure(third, 'treehouse_cluster_reloads_total{why="compacted"}', 1)
    assert figures['treehouse_cluster_reloads_total{why="restored"}'] == 0
    assert figures["treehouse_cluster_engine_up"] == 1
    assert figures["treehouse_cluster_engine_seconds_count"] > 10
    assert figures["treehouse_cluster_alone"] == figures["treehouse_cluster_revision_behind"] == 0


def await_figure(node: Node, name: str, least: float, within: float = 20.0) -> dict[str, float]:
    """What a machine counts, once that is so much: its certifier tells it every five seconds."""
    deadline = time.monotonic() + within
    while (figures := node.metrics())[name] < least:
        assert time.monotonic() < deadline, figures
        time.sleep(0.2)
    return figures


STEPS = ("newOrder", "challenge", "finalize", "certificate")


@pytest.mark.parametrize(
    "step", [pytest.param(one, marks=long) for one in STEPS[:-1]] + ["certificate"]
)
def test_the_leader_dies_in_the_middle_of_an_order(cluster: Cluster, step: str) -> None:
    first, second, third = cluster.nodes
    assert cluster.front is not None
    before = orders(cluster)
    killed: list[int] = []

    def kill() -> None:
        killed.append(cluster.etcd.leader())
        cluster.etcd.kill(killed[-1])

    cluster.front.add(step, Meanwhile(kill))
    cluster.serial = renewed(first)
    assert killed
    for node in (second, third):
        node.await_served(cluster.serial, within=60)
    assert orders(cluster) == before + 1
    cluster.etcd.start_all()
    for node in cluster.nodes:
        node.running.await_status(node.state, lambda document: document["cluster"]["connected"])


def test_a_disk_without_room_keeps_nobody_from_what_others_obtain(cluster: Cluster) -> None:
    first, _second, third = cluster.nodes
    filler = third.state / "filler"
    with filler.open("wb", buffering=0) as file:
        os.fchown(file.fileno(), NOBODY, NOBODY)
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    since = len(third.running.log)
    kept = third.state / "certificates" / NAME / "fullchain.pem"
    before = kept.read_bytes()
    cluster.serial = renewed(first)
    third.await_served(cluster.serial, within=60)
    third.running.await_log("No space left on device", since=since)
    assert kept.read_bytes() == before
    filler.unlink()
    cluster.serial = renewed(first)
    third.await_served(cluster.serial, within=60)
    third.running.await_log(f"{NAME}: the disk has taken it", since=since)
    assert kept.read_bytes() == (first.state / "certificates" / NAME / "fullchain.pem").read_bytes()
