"""Three machines in networks of their own, each with a member of etcd: links are cut, members die in
the middle of an order, machines are paused, a disk is full; with the real program and a real CA.

What takes longer than a lease is for `make cluster`.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
    assert figures["treehouse_cluster_engine_seconds_count"] > 10
    # It hears of certificates and of machines by two ways.
    await_figures(
        third,
        lambda figures: (
            figures["treehouse_cluster_engine_up"] == 1
            and figures["treehouse_cluster_alone"] == 0
            and figures["treehouse_cluster_revision_behind"] == 0
        ),
    )


def await_figures(node: Node, fits: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """What a machine counts, once it fits: its certifier tells it every five seconds."""
    deadline = time.monotonic() + 60
    while not fits(figures := node.metrics()):
        assert time.monotonic() < deadline, figures
        time.sleep(0.2)
    return figures


def await_figure(node: Node, name: str, least: float) -> dict[str, float]:
    """The same, once a figure is so much."""
    return await_figures(node, lambda figures: figures[name] >= least)


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
    await_behind(third, 1)
    assert third.metrics()["treehouse_cluster_certificates_behind"] == 1.0
    filler.unlink()
    cluster.serial = renewed(first)
    third.await_served(cluster.serial, within=60)
    third.running.await_log(f"{NAME}: the disk has taken it", since=since)
    await_behind(third, 0)
    assert kept.read_bytes() == (first.state / "certificates" / NAME / "fullchain.pem").read_bytes()


def await_behind(node: Node, certificates: int) -> None:
    """A machine says, and all others say, that its disk has so many not as the engine has them."""

    def told(document: dict[str, Any]) -> bool:
        return any(
            (one["node"], one["behind"]) == (node.name, certificates)
            for one in document["cluster"]["members"]
        )

    for each in node.cluster.nodes:
        each.running.await_status(each.state, told)
    here = node.running.status(node.state)["cluster"]
    assert here["behind"] == certificates


def await_free(cluster: Cluster) -> None:
    deadline = time.monotonic() + 60
    while cluster.lock_of():
        assert time.monotonic() < deadline
        time.sleep(0.2)  # the engine tells nobody when a lease ends


@contextlib.contextmanager
def paused(node: Node) -> Iterator[None]:
    """Inside, all of a machine's processes are stopped, the one that nobody can stop last."""
    tree = node.running.tree()
    for pid in tree:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in tree:
            os.kill(pid, signal.SIGCONT)


def loses(cluster: Cluster, step: str, gone: contextlib.AbstractContextManager[None]) -> None:
    """The first machine is gone from this step of an order on, for longer than its lease; the second
    orders meanwhile, and its certificate stands."""
    first, second, third = cluster.nodes
    assert cluster.front is not None
    before, gone_at = orders(cluster), threading.Event()
    with contextlib.ExitStack() as stack:

        def go() -> None:
            stack.enter_context(gone)
            gone_at.set()

        cluster.front.add(step, Meanwhile(go))
        late = renews(first)
        assert gone_at.wait(30)
        assert cluster.lock_of()
        await_free(cluster)
        cluster.serial = renewed(second)
        third.await_served(cluster.serial, within=60)
        since = len(first.running.log)
    first.running.await_log("attempt given up|attempt .* failed", since=since, within=90)
    late.communicate(timeout=90)
    for node in cluster.nodes:
        assert node.await_served(cluster.serial, within=60) == cluster.serial
    store = cluster.store()
    chain = store.load(f"certificates/{NAME}")["fullchain.pem"]
    store.close()
    assert {chain} == {
        (node.state / "certificates" / NAME / "fullchain.pem").read_bytes()
        for node in cluster.nodes
    }
    assert orders(cluster) == before + 2


@long
@pytest.mark.parametrize("step", STEPS)
def test_a_machine_that_is_paused_in_an_order_for_longer_than_its_lease(
    cluster: Cluster, step: str
) -> None:
    before = cluster.nodes[0].metrics()["treehouse_cluster_fenced_writes_total"]
    loses(cluster, step, paused(cluster.nodes[0]))
    if step in (
        "finalize",
        "certificate",
    ):  # it has a certificate, and nothing left but to write it
        await_figure(cluster.nodes[0], "treehouse_cluster_fenced_writes_total", before + 1)


@long
@pytest.mark.parametrize("step", ["challenge", "finalize"])
def test_a_machine_that_is_cut_off_in_an_order_for_longer_than_its_lease(
    machines: Machines, cluster: Cluster, step: str
) -> None:
    loses(cluster, step, machines.without(0))


@long
def test_without_a_quorum_nothing_is_taken_over(cluster: Cluster) -> None:
    first, second, third = cluster.nodes
    assert cluster.front is not None
    gone_at = threading.Event()
    with contextlib.ExitStack() as stack:

        def go() -> None:
            stack.enter_context(paused(first))
            gone_at.set()

        cluster.front.add("finalize", Meanwhile(go))
        late = renews(first)
        assert gone_at.wait(30)
        token = cluster.lock_of()
        assert token
        cluster.etcd.kill(1)
        cluster.etcd.kill(2)
        # Longer than the lease.
        time.sleep(25)  # time itself is awaited
        for node in (second, third):
            told = node.running.await_status(
                node.state, lambda document: document["cluster"]["fault"]
            )
            assert told["cluster"]["alone"]
            assert node.served() == cluster.serial
        await_figure(second, "treehouse_cluster_alone", 1)
        checked = treehouse("cluster", "check", "--config", str(second.config))
        assert checked.returncode == 1
        assert "gives no answer" in checked.stdout, checked.stdout
        cluster.etcd.start_all()
        assert cluster.lock_of() == token
    # It may have given up: a server that is silent for half a minute is taken for one that hangs.
    late.communicate(timeout=90)
    cluster.serial = first.await_other(cluster.serial)
    for node in (second, third):
        assert node.await_served(cluster.serial) == cluster.serial
        node.running.await_status(node.state, lambda document: document["cluster"]["connected"])
