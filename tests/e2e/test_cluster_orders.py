"""What three machines that all order do once, at a real CA that is watched: the real program three
times, and a real etcd.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from acme_client.certificates.ranks import places
from support.acme.ca_faults import Faults, Refuse
from support.http.name_app import NameApp
from support.program.alert_sinks import Webhook
from support.program.cluster import NAME, Cluster, Node, clustered, start
from support.program.server import treehouse

pytestmark = [pytest.mark.program, pytest.mark.pebble]

SHOPS = "shops.example"
DAY = 86400.0


class Company:
    """Three machines that order, and who hears of them."""

    def __init__(self, cluster: Cluster, app: NameApp, hooks: list[Webhook]) -> None:
        assert cluster.front is not None
        self.cluster, self.app, self.hooks = cluster, app, hooks
        self.front: Faults = cluster.front

    @property
    def nodes(self) -> list[Node]:
        return self.cluster.nodes

    def alike(self, name: str = NAME, within: float = 60.0) -> str:
        """The serial number, as soon as all of them serve the same."""
        deadline = time.monotonic() + within
        while True:
            found = {node.served(name) for node in self.nodes}
            if len(found) == 1 and (one := found.pop()) is not None:
                return one
            assert time.monotonic() < deadline, (found, [one.running.text() for one in self.nodes])
            time.sleep(0.05)  # what is served is seen from outside only

    def come_for_one(self, node: Node) -> str:
        """A client comes for a name on demand, and again where the CA takes longer than it waits."""
        while True:
            try:
                return node.await_served(name="one.example", within=60)
            except TimeoutError:
                continue

    def orders(self, name: str) -> int:
        return sum(
            identifier["value"] == name
            for seen in self.front.of("newOrder")
            for identifier in (seen.payload or {})["identifiers"]
        )

    def await_orderers(self, names: list[str]) -> None:
        for node in self.nodes:
            if node.name in names and node.server is not None:
                node.running.await_status(
                    node.state,
                    lambda document: (document["cluster"] or {}).get("ordering") == names,
                    within=60,
                )


@pytest.fixture(scope="module")
def company() -> Iterator[Company]:
    hooks = [Webhook() for _ in range(3)]
    with clustered(faults=True) as cluster, NameApp() as app, hooks[0], hooks[1], hooks[2]:
        assert cluster.front is not None
        cluster.front.window = (time.time() + 300 * DAY, time.time() + 301 * DAY)
        for number, hook in enumerate(hooks, 1):
            node = cluster.node(number, order=True)
            node.more = (
                f"\n- {{names: [{SHOPS}], root: {cluster.root}, on_demand: {{ask: '{app.url}'}}}}"
                f"\nalerts: {{webhook: '{hook.url}', after_failures: 1}}"
            )
            node.write()
        for name in (NAME, SHOPS, "one.example", "two.example"):
            cluster.ca.resolve(name, cluster.nodes[2].address)
        made = Company(cluster, app, hooks)
        # The CA comes to the third, which answers for the others as soon as it is there.
        start(cluster.nodes[2])
        made.await_orderers(["web-3"])
        start(*cluster.nodes[:2])
        made.await_orderers(["web-1", "web-2", "web-3"])
        for name in (NAME, SHOPS):
            made.alike(name)
        yield made


def test_each_is_ordered_once_and_one_machine_asks_when_to_renew(company: Company) -> None:
    front = company.front
    assert [company.orders(one) for one in (NAME, SHOPS)] == [1, 1]
    assert len({seen.path for seen in front.of("newAccount")}) == 1
    for node in company.nodes:
        node.running.await_status(
            node.state,
            lambda document: (
                document["certificates"]
                and all(one["ari_window"] for one in document["certificates"])
            ),
            within=60,
        )
    asked = [seen.path for seen in front.of("renewalInfo")]
    assert len(asked) == len(set(asked)) == 2
    keys = [next(node.state.glob("accounts/*/key.pem")).read_bytes() for node in company.nodes]
    assert keys[0] == keys[1] == keys[2]


def test_any_machine_revokes_and_the_next_is_had_by_all(company: Company) -> None:
    before = company.alike()
    orders = company.orders(NAME)
    for number, node in enumerate(company.nodes[:2], 1):
        done = treehouse("certs", "revoke", NAME, "--config", str(node.config))
        assert done.returncode == 0, done.stdout + done.stderr + node.running.text()
        deadline = time.monotonic() + 60
        while (after := company.alike()) == before:
            assert time.monotonic() < deadline
        before = after
        assert len(company.front.of("revokeCert")) == number
        assert company.orders(NAME) == orders + number


def test_a_name_on_demand_is_asked_about_and_ordered_once(company: Company) -> None:
    company.app.allowed = {"one.example", "two.example"}
    # Clients come to all machines in one moment.
    with ThreadPoolExecutor(3) as pool:
        found = set(pool.map(company.come_for_one, company.nodes))
    assert len(found) == 1, found
    assert company.orders("one.example") == company.app.asked.count("one.example") == 1
    # The others have it before a client comes.
    first, *others = company.nodes
    serial = first.await_served(name="two.example", within=60)
    for node in others:
        node.running.await_status(
            node.state,
            lambda document: any(
                one["name"] == "two.example" and one["served"] for one in document["certificates"]
            ),
            within=60,
        )
        assert node.served("two.example") == serial
    assert company.orders("two.example") == company.app.asked.count("two.example") == 1
    # What one machine is refused, the others are.
    assert {node.served("no.example") for node in company.nodes} == {None}
    assert company.app.asked.count("no.example") == 1


def test_of_a_certificate_one_machine_tells_and_another_when_that_one_is_gone(
    company: Company,
) -> None:
    names = [node.name for node in company.nodes]
    first, second, *_ = places(NAME, names)
    by_name = dict(zip(names, zip(company.nodes, company.hooks, strict=True), strict=True))
    node, hook = by_name[first]
    company.front.add("newOrder", Refuse("rejectedIdentifier", 403))
    asked = by_name[second][0]  # not by the one that is to tell
    done = treehouse("certs", "renew", NAME, "--force", "--config", str(asked.config))
    assert done.returncode != 0
    told: list[dict[str, Any]] = []
    while not any(one["name"] == NAME for one in told):
        told += hook.await_document()["alerts"]
    for name in names:
        if name != first:
            heard = [
                one
                for document in list(by_name[name][1].documents.queue)
                for one in document["alerts"]
            ]
            assert not [one for one in heard if one["name"] == NAME]
    node.kill()
    again: list[dict[str, Any]] = []
    while not any(one["name"] == NAME for one in again):
        again += by_name[second][1].await_document(90)["alerts"]
    (one,) = [one for one in again if one["name"] == NAME]
    assert (one["event"], one["kind"]) == ("alert", "renewal_failing")
