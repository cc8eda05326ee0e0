"""Three machines in networks of their own, each with a member of etcd: links are cut, members die in
the middle of an order, a disk is full; with the real program and a real CA.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.program.cluster import NAME, Cluster, Node, clustered, start
from support.program.machines import Machines
from support.program.server import treehouse

pytestmark = [pytest.mark.program, pytest.mark.pebble]


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with Machines(3) as made, made.entered():
        yield made


@pytest.fixture(scope="module")
def cluster(machines: Machines) -> Iterator[Cluster]:
    with clustered(machines=machines) as made:
        first, second, third = (made.node(number, order=number == 1) for number in (1, 2, 3))
        made.led_to(second)
        start(second, third)
        first.start()
        made.serial = first.await_served()
        for node in (second, third):
            node.await_served(made.serial)
        yield made


def renewed(node: Node) -> str:
    """Have a machine order; the serial number of what it serves then."""
    done = treehouse("certs", "renew", NAME, "--force", "--config", str(node.config))
    assert done.returncode == 0, done.stderr + node.running.text()
    return node.await_served()


def test_a_machine_that_is_cut_off_serves_and_takes_what_it_has_missed(
    machines: Machines, cluster: Cluster
) -> None:
    first, second, third = cluster.nodes
    machines.cut(2)
    cluster.serial = renewed(first)
    second.await_served(cluster.serial)
    machines.heal(2)
    third.await_served(cluster.serial, within=60)
