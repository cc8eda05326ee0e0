"""Machines of a cluster: the real program on each, a real etcd of three members, and a real CA.

Each machine has a loopback address of its own, as machines have theirs, or a network of its own
(`machines`); the CA is led to whichever the DNS names.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from acme_client.storage.etcd.api import EtcdApi, decoded, encoded
from acme_client.storage.etcd.sealing import Seals, new_secret, read_secrets
from acme_client.storage.etcd.store import EtcdStore
from support.acme.ca_faults import Faults
from support.acme.pebble import Pebble
from support.etcd import Etcd, Place
from support.program.machines import SWITCH, Machines
from support.program.ports import free_ports
from support.program.server import REPOSITORY, Server, packages

NAME = "a.example"
PREFIX = "/treehouse/shop/"


class Node:
    """A machine: its configuration, its disk, and the program where it runs."""

    def __init__(self, cluster: Cluster, number: int, *, order: bool) -> None:
        self.cluster = cluster
        self.name = f"web-{number}"
        self.place = cluster.places[number - 1]
        self.address = self.place.address
        self.folder = cluster.folder / self.name
        self.folder.mkdir()
        os.chmod(self.folder, 0o755)
        # For itself alone.
        self.admin = f"{'127.0.0.1' if self.place.prefix else self.address}:{cluster.ports[2]}"
        self.state = self.folder / "state"
        self.config = self.folder / "config.yaml"
        self.order = order
        self.more = ""  # lines behind those of its sites
        # Each asks its own member of the engine first, where it has one.
        at = number - 1
        self.endpoints = [*cluster.etcd.endpoints[at:], *cluster.etcd.endpoints[:at]]
        self.server: Server | None = None
        self.write()

    def write(self, *sites: str) -> None:
        one = self.cluster
        names = "".join(f"\n- {{names: [{site}], root: {one.root}}}" for site in (NAME, *sites))
        names += self.more
        self.config.write_text(
            f"""
listen: {{http: ["{self.address}:{one.ports[0]}"], https: ["{self.address}:{one.ports[1]}"]}}
workers: 1
admin: {{listen: "{self.admin}"}}
state: {self.state}
log: {{access: off}}
acme: {{directory: "{one.directory}", ca_file: {one.ca_file}, challenges: [{one.challenge}]}}
cluster:
  name: shop
  node: {self.name}
  etcd: [{", ".join(self.endpoints)}]
  secret_file: {one.secret_file}{one.more}
  order: {str(self.order).lower()}
sites:{names}
"""
        )

    def start(self) -> None:
        start(self)

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
        context = ssl.create_default_context(cadata=self.cluster.ca_root)
        try:
            with (
                socket.create_connection((self.address, self.cluster.ports[1]), 60) as plain,
                context.wrap_socket(plain, server_hostname=name) as connection,
            ):
                return str((connection.getpeercert() or {})["serialNumber"])
        except ssl.SSLError:
            return None

    def await_served(self, serial: str | None = None, name: str = NAME, within: float = 150) -> str:
        """The serial number, as soon as it serves something, or this."""
        deadline = time.monotonic() + within
        while True:
            found = self.served(name)
            if found is not None and serial in (None, found):
                return found
            assert time.monotonic() < deadline, (found, serial, self.running.text())
            time.sleep(0.05)  # what is served is seen from outside only

    def await_other(self, before: str, name: str = NAME, within: float = 150) -> str:
        """The serial number, as soon as it serves another certificate than this."""
        deadline = time.monotonic() + within
        while (found := self.served(name)) in (None, before):
            assert time.monotonic() < deadline, (found, self.running.text())
            time.sleep(0.05)  # what is served is seen from outside only
        assert found is not None
        return found

    def metrics(self) -> dict[str, float]:
        """What it counts: by name, with labels as they stand there."""
        said = subprocess.run(
            [*self.place.prefix, "curl", "-sS", "--fail", f"http://{self.admin}/metrics"],
            check=True, capture_output=True, text=True, timeout=20,
        ).stdout  # fmt: skip
        lines = (line for line in said.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in (one.rpartition(" ") for one in lines)}

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.running.status(self.state)["cluster"]
        return found


def start(*nodes: Node) -> None:
    """Start machines at once; returns when all of them serve."""
    for node in nodes:
        program = node.cluster.program
        node.server = Server(
            ["--config", str(node.config)], node.folder, prefix=node.place.prefix, cwd=program,
            environment=packages(program) if program != REPOSITORY else None,
        )  # fmt: skip
    for node in nodes:
        node.running.__enter__()


class Cluster:
    """``front``: what stands before the CA, if something does."""

    challenge = "http-01"
    more = ""  # lines below ``cluster``

    def __init__(
        self,
        folder: Path,
        ports: tuple[int, int, int],
        etcd: Etcd,
        ca: Pebble,
        places: Sequence[Place],
        front: Faults | None,
    ) -> None:
        self.folder, self.ports, self.etcd, self.ca = folder, ports, etcd, ca
        self.places = places
        self.front = front
        self.directory = (front or ca).directory
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes((front or ca).ca_pem)
        self.ca_root = ca.root().decode()
        self.root = folder / "www"
        self.root.mkdir()
        (self.root / "index.html").write_text("<p>hello\n")
        self.secret = new_secret()
        self.secret_file = folder / "cluster.key"
        self.secret_file.write_text(self.secret + "\n")
        self.secret_file.chmod(0o644)
        self.nodes: list[Node] = []
        self.program = REPOSITORY  # where the program is that they run
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


@contextlib.contextmanager
def clustered(
    validity: int | None = None,
    arguments: tuple[str, ...] = (),
    machines: Machines | None = None,
    faults: bool = False,
    authz_reuse: int = 0,
) -> Iterator[Cluster]:
    """A cluster without machines yet. ``validity``: of certificates, in seconds; ``arguments``:
    further ones for etcd; ``machines``: where they and etcd's members are, with `Faults` before the
    CA, at the switch, where the caller is, too; ``faults``: with those where all is on one machine,
    too; ``authz_reuse``: percent of the CA's orders that need no challenge."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
        stack.callback(shutil.rmtree, folder)
        os.chmod(folder, 0o755)
        one, other, admin = free_ports(3)
        places: Sequence[Place] = [Place(f"127.0.0.{number + 1}") for number in range(1, 10)]
        of_etcd: Sequence[Place] = ()
        if machines is not None:
            places = of_etcd = machines.places
        etcd = stack.enter_context(Etcd(arguments=arguments, places=of_etcd))
        # Requests are counted: one whose nonce is refused would come twice.
        pebble = Pebble(one, other, nonce_reject=0, validity=validity, authz_reuse=authz_reuse)
        ca = stack.enter_context(pebble)
        front = None
        if machines is not None:
            front = stack.enter_context(Faults(ca, address=SWITCH))
        elif faults:
            front = stack.enter_context(Faults(ca))
        made = Cluster(folder, (one, other, admin), etcd, ca, places, front)
        stack.callback(lambda: [node.stop() for node in made.nodes])
        yield made
