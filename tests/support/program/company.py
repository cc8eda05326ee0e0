"""Three machines that order, seen from outside: what they serve, and what the CA has heard."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from support.acme.ca_faults import Faults
from support.http.name_app import NameApp
from support.program.alert_sinks import Webhook
from support.program.cluster import NAME, Cluster, Node
from support.program.server import treehouse


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

    def want(self, *sites: str, nodes: Sequence[Node] = ()) -> None:
        """Have machines want these sites as well, each written as its names; all at once."""

        def one(node: Node) -> None:
            node.write(*sites)
            done = treehouse("reload", "--config", str(node.config))
            assert done.returncode == 0, done.stdout + done.stderr

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(one, nodes or self.nodes))

    def await_entry(
        self, node: Node, name: str, fits: Callable[[dict[str, Any]], object]
    ) -> dict[str, Any]:
        """The status of a certificate on a machine, as soon as it fits."""

        def found(document: dict[str, Any]) -> list[dict[str, Any]]:
            return [one for one in document["certificates"] if one["name"] == name and fits(one)]

        # An attempt that has failed is made again after a minute.
        status = node.running.await_status(node.state, lambda one: bool(found(one)), within=150)
        return found(status)[0]

    def agreed(self, name: str, within: float = 150.0) -> str:
        """When a certificate is attempted next, as soon as all machines wait until then: the first to
        know tells the others."""
        deadline = time.monotonic() + within
        while True:
            found = {
                one["next_attempt"] if one["state"] == "waiting" else None
                for node in self.nodes
                for one in node.running.status(node.state)["certificates"]
                if one["name"] == name
            }
            if len(found) == 1 and (moment := found.pop()) is not None:
                return str(moment)
            assert time.monotonic() < deadline, (found, [one.running.text() for one in self.nodes])
            time.sleep(0.05)  # what machines have heard of each other is seen from outside only

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
