"""What three machines that all order do once, at a real CA that is watched: the real program three
times, and a real etcd.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from acme_client.certificates import record as records
from acme_client.certificates.peers import Peers
from acme_client.certificates.ranks import places
from acme_client.certificates.repository import META
from acme_client.drill.memory_store import MemoryStore
from acme_client.rate_limits.published import Limit, Limits
from acme_client.rate_limits.shared_ledger import SharedLedger
from acme_client.storage.etcd.api import EtcdApi, below, decoded
from support.acme.ca_faults import Exchange, Meanwhile, Refuse, Reply
from support.http.name_app import NameApp
from support.program.alert_sinks import Webhook
from support.program.cluster import NAME, PREFIX, Cluster, Node, clustered, start
from support.program.company import Company
from support.program.copies import copied
from support.program.server import REPOSITORY, treehouse

pytestmark = [pytest.mark.program, pytest.mark.pebble]

SHOPS = "shops.example"
DAY = 86400.0
# What the CA allows of a registered domain, as far as these machines know: they run a copy of the
# program in which this CA stands among those with published limits. The last one is for people.
ALLOWED = 5
LIMITS = f"""_KNOWN = {{
    "127.0.0.1": Limits(domain=Limit("certificates for the domain {{}}", {ALLOWED}, 7 * _DAY)),"""


@pytest.fixture(scope="module")
def company() -> Iterator[Company]:
    hooks = [Webhook() for _ in range(3)]
    with clustered(faults=True) as cluster, NameApp() as app, hooks[0], hooks[1], hooks[2]:
        assert cluster.front is not None
        cluster.front.window = (time.time() + 300 * DAY, time.time() + 301 * DAY)
        cluster.program = copied(cluster.folder)
        published = cluster.program / "acme_client/rate_limits/published.py"
        text = published.read_text()
        assert text.count("_KNOWN = {\n") == 1
        published.write_text(text.replace("_KNOWN = {", LIMITS))
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


def begun(node: Node, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "proxy", *words, "--config", str(node.config)],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_why_says_whose_turn_it_is_and_which_machine_is_at_work(company: Company) -> None:
    nodes = company.nodes
    company.alike()

    def why(node: Node) -> dict[str, Any]:
        done = treehouse("why", NAME, "--json", "--config", str(node.config))
        found: dict[str, Any] = json.loads(done.stdout)["cluster"]
        return found

    told = [why(node) for node in nodes]
    order = places(NAME, [node.name for node in nodes])
    assert [one["order"] for one in told] == [order] * 3
    assert [one["rank"] for one in told] == [order.index(node.name) + 1 for node in nodes]
    turns = [one["turn"] for one in sorted(told, key=lambda one: int(one["rank"]))]
    assert turns == sorted(set(turns))
    assert [one["holder"] for one in told] == [None] * 3
    (made_by,) = {one["made_by"] for one in told}
    assert made_by in order
    held = threading.Event()
    leaves: list[subprocess.Popen[str]] = []

    def hold() -> None:
        for node in nodes:
            node.running.await_status(
                node.state,
                lambda document: any(
                    (one["name"], one["holder"]) == (NAME, nodes[0].name)
                    for one in document["certificates"]
                ),
            )
        page = treehouse("why", NAME, "--config", str(nodes[2].config)).stdout
        assert f"  holder  {nodes[0].name} is at work on it" in page, page
        # Who wants to leave is told that this is not the moment.
        leaves.append(begun(nodes[0], "cluster", "leave"))
        assert leaves[0].stderr is not None
        assert leaves[0].stderr.readline() == f"{NAME}: waiting for the order to end\n"
        held.set()

    company.front.add("newOrder", Meanwhile(hold))
    before, orders = company.alike(), company.orders(NAME)
    done = treehouse("certs", "renew", NAME, "--force", "--config", str(nodes[0].config))
    assert done.returncode == 0, done.stdout + done.stderr
    assert held.is_set()
    said, _rest = leaves[0].communicate(timeout=60)
    assert leaves[0].returncode == 0
    assert said.startswith("take cluster out of the configuration, and reload.")
    for node in nodes:
        node.await_other(before)
        node.running.await_status(
            node.state,
            lambda document: any(
                (one["name"], one["made_by"], one["holder"]) == (NAME, nodes[0].name, None)
                for one in document["certificates"]
            ),
        )
    assert company.orders(NAME) == orders + 1


def go_on_without(company: Company, killed: list[Node], name: str) -> list[Node]:
    """Await that the other machines, which are returned, serve a certificate; then start those that
    were killed, and await that all are alike."""
    alive = [one for one in company.nodes if one not in killed]
    for node in alive:
        node.await_served(name=name, within=90)
    start(*killed)
    company.await_orderers([one.name for one in company.nodes])
    company.alike(name)
    return alive


def test_the_order_of_a_machine_that_was_killed_is_gone_on_with(company: Company) -> None:
    """By another one: the key is in the engine, sealed."""
    name = "killed.example"
    company.cluster.ca.resolve(name, company.nodes[2].address)
    killed: list[Node] = []
    noted: list[bytes] = []
    reloaded, dead = threading.Event(), threading.Event()

    def kill() -> None:
        assert reloaded.wait(60)
        (node,) = (one for one in company.nodes if (one.state / "orders" / name).exists())
        noted.append(company.cluster.get(f"orders/{name}/order.json"))
        killed.append(node)
        node.kill()
        dead.set()

    finalized = len(company.front.of("finalize"))
    company.front.add("finalize", Meanwhile(kill))
    company.want(name)
    reloaded.set()
    assert dead.wait(60)
    alive = go_on_without(company, killed, name)
    assert company.orders(name) == 1
    assert len(company.front.of("finalize")) == finalized + 1
    said = [f"{name}: the order of" in one.running.text() for one in alive]
    assert sum(said) == 1, "one of them goes on with it"
    (sealed,) = noted
    assert sealed
    assert b"PRIVATE" not in sealed
    store = company.cluster.store()
    assert store.load(f"orders/{name}") == {}
    store.close()


def left_of_domain(cluster: Cluster, name: str) -> str:
    """What all machines together say of the CA's limit for a name's domain."""
    store, peers = cluster.store(), Peers("web-9")
    limits = Limits(domain=Limit("certificates for the domain {}", ALLOWED, 7 * DAY))
    ledger = SharedLedger(MemoryStore(), store, peers, time.time, lambda _: limits)
    (said,) = ledger.costs(cluster.directory, [(name,)])
    store.close()
    return said


def test_what_a_machine_has_taken_that_was_killed_when_it_ordered_is_given_back(
    company: Company,
) -> None:
    """The CA has the order, and counts no certificate for it; and nobody knows its URL."""
    name = "early.example"
    said: list[str] = []
    killed: list[Node] = []
    reloaded, dead = threading.Event(), threading.Event()

    def kill() -> None:
        assert reloaded.wait(60)
        said.append(left_of_domain(company.cluster, name))
        store = company.cluster.store()
        orderer = records.from_json(store.load(f"certificates/{name}")[META]).tried_by
        store.close()
        killed.extend(node for node in company.nodes if node.name == orderer)
        killed[0].kill()
        alive = next(node for node in company.nodes if node not in killed)
        company.cluster.ca.resolve(name, alive.address)  # the CA comes to one that is there
        dead.set()

    company.front.add("newOrder", Meanwhile(kill))
    company.want(name)
    reloaded.set()
    assert dead.wait(60)
    assert f"1 of {ALLOWED - 1} left" in said[0]
    go_on_without(company, killed, name)
    assert company.orders(name) == 2
    assert f"1 of {ALLOWED - 1} left" in left_of_domain(company.cluster, name)


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


class UnderWay:
    """What is at the CA at once: an order is there from its request until its certificate is
    fetched. The first ones are held there until there are ``most``, and for a moment more."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._changed = threading.Condition()
        self.now = self.peak = 0
        self.full = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, exchange: Exchange) -> Reply:
        if exchange.kind == "newOrder":
            with self._changed:
                self.now += 1
                self.peak = max(self.peak, self.now)
                if self.now == self._most:
                    self.full.set()
            assert self.go_on.wait(60)
        reply = exchange.forward()
        if exchange.kind == "certificate":
            with self._changed:
                self.now -= 1
        return reply


def places_taken(cluster: Cluster) -> int:
    """How many places at the CA the engine has given away."""
    api = EtcdApi(cluster.etcd.endpoints)
    found = api.call("/v3/kv/range", {**below(f"{PREFIX}:lock/ledgers/"), "keys_only": True})
    api.close()
    return sum(b"/slot-" in decoded(one["key"]) for one in found.get("kvs", ()))


def test_of_many_certificates_eight_at_a_time_are_ordered_by_all_machines(company: Company) -> None:
    names = [f"m{number}.example" for number in range(14)]
    for name in names:
        company.cluster.ca.resolve(name, company.nodes[1].address)
    under_way = UnderWay(8)
    company.front.add("*", under_way, times=10_000)
    company.want(*names)
    # Each of the three would make four attempts.
    assert under_way.full.wait(60)
    assert places_taken(company.cluster) == 8
    time.sleep(1.0)  # a ninth would come by then; that is what is looked for, and no wait
    assert places_taken(company.cluster) == under_way.now == 8
    under_way.go_on.set()
    for name in names:
        company.alike(name)
    company.front.clear()
    assert under_way.peak == 8
    assert [company.orders(name) for name in names] == [1] * len(names)


def test_all_machines_together_order_what_the_ca_allows_and_tell_of_the_rest(
    company: Company,
) -> None:
    names = [f"n{number}.one-shop.example" for number in range(ALLOWED + 2)]
    for name in names:
        company.cluster.ca.resolve(name, company.nodes[2].address)
    company.want(*names)
    told = {
        name: company.await_entry(
            company.nodes[0], name, lambda one: one["served"] or one["state"] == "waiting"
        )
        for name in names
    }
    waiting = [name for name, one in told.items() if not one["served"]]
    assert len(waiting) == 3
    # Of those that have theirs an attempt may have failed, and been made again.
    assert [bool(company.orders(name)) for name in names].count(True) == ALLOWED - 1
    assert not any(map(company.orders, waiting))
    until = {name: company.agreed(name) for name in waiting}
    for node in company.nodes:
        page = treehouse("why", waiting[0], "--config", str(node.config)).stdout
        assert "certificates for the domain one-shop.example: 5 in 7 days are allowed" in page
        assert until[waiting[0]][:13] in page, page
    # A person may have the last.
    by_hand = ("certs", "renew", waiting[0], "--config", str(company.nodes[1].config))
    refused = treehouse(*by_hand)
    assert refused.returncode != 0
    assert "rather than spend what the CA allows to the last" in refused.stdout + refused.stderr
    forced = treehouse(*by_hand, "--force")
    assert forced.returncode == 0, forced.stdout + forced.stderr
    company.alike(waiting[0])
    assert company.orders(waiting[0]) == 1
    assert not any(map(company.orders, waiting[1:]))


def test_files_that_are_turned_back_and_forth_cost_three_certificates_a_day(
    company: Company,
) -> None:
    first, second, third = company.nodes
    name, both = "turned.example", (company.nodes[0], company.nodes[1])
    one, other = f"{name}, a.{name}", f"{name}, b.{name}"
    for each in (name, f"a.{name}", f"b.{name}"):
        company.cluster.ca.resolve(each, third.address)
    serials = [""]
    for number, site in enumerate((one, other, one), 1):
        company.want(site, nodes=both)
        serials.append(first.await_other(serials[-1], name))
        second.await_served(serials[-1], name)
        assert company.orders(name) == number
    company.want(other, nodes=both)
    for node in both:
        entry = company.await_entry(node, name, lambda one: one["contested"])
        assert (
            "3 certificates were made within a day, so none is ordered before"
            in (entry["contested"])
        )
        page = treehouse("why", name, "--config", str(node.config)).stdout
        assert "certs renew orders all the same" in page, page
    assert company.orders(name) == 3
    done = treehouse("certs", "renew", name, "--config", str(second.config))
    assert done.returncode == 0, done.stdout + done.stderr
    assert second.await_other(serials[-1], name) == first.await_other(serials[-1], name)
    assert company.orders(name) == 4


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


def test_a_machine_that_is_started_again_after_a_revocation_orders_without_the_engine(
    company: Company,
) -> None:
    """At once, though the certificate has most of its life left, and once."""
    node, name = company.nodes[2], NAME  # to which the CA comes
    company.front.clear()
    for each in company.nodes:
        if each.server is None:
            start(each)
    company.await_orderers([one.name for one in company.nodes])
    before, orders = company.alike(), company.orders(name)
    company.cluster.etcd.kill_all()
    for each in company.nodes:
        each.running.await_status(
            each.state, lambda document: not document["cluster"]["connected"], within=60
        )
    dead = threading.Event()

    def kill() -> None:
        node.kill()
        dead.set()

    company.front.add("newOrder", Meanwhile(kill))
    begun(node, "certs", "revoke", name).communicate(timeout=60)
    assert dead.wait(60)
    start(node)
    after = node.await_other(before, within=90)
    assert company.orders(name) == orders + 2
    assert {each.served() for each in company.nodes} == {before, after}
    company.cluster.etcd.start_all()
    for each in company.nodes:
        each.await_served(after, within=120)
    assert company.orders(name) == orders + 2
