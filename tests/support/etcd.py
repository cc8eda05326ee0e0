"""A real etcd for tests: Debian's, of three members, each on loopback ports of its own, or each at a
place of its own.

with Etcd() as etcd:
    EtcdApi(etcd.endpoints)
    etcd.kill(0)
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from acme_client.storage.etcd.api import EtcdApi
from support.program.ports import free_ports


class Place(NamedTuple):
    """Where a member is: its address, and what is put before its command, as ``ip netns exec``."""

    address: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()


class Etcd:
    """``members`` of them; ``arguments``: further ones for each member; ``places``: of each."""

    def __init__(
        self,
        members: int = 3,
        arguments: tuple[str, ...] = (),
        places: Sequence[Place] = (),
    ) -> None:
        # In memory: every write waits for its members' disks.
        memory = Path("/dev/shm")
        self.folder = Path(
            tempfile.mkdtemp(prefix="etcd-", dir=memory if memory.is_dir() else None)
        )
        self.arguments = arguments
        ports = free_ports(2 * members)
        self.clients, self._peers = ports[:members], ports[members:]
        self._places = places or [Place()] * members
        self.endpoints = tuple(self._urls(self.clients))
        self.tls: ssl.SSLContext | None = None
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        for number in range(len(self.clients)):
            self.start(number)
        self.await_quorum()
        return self

    def __exit__(self, *_: object) -> None:
        for number in list(self._running):
            self.kill(number)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _urls(self, ports: Sequence[int]) -> list[str]:
        each = zip(self._places, ports, strict=True)
        return [f"http://{place.address}:{port}" for place, port in each]

    def start(self, number: int) -> None:
        """Start one member, with what it has on its disk."""
        peers = self._urls(self._peers)
        cluster = ",".join(f"m{each}={url}" for each, url in enumerate(peers))
        with (self.folder / f"log{number}").open("ab") as log:
            self._running[number] = subprocess.Popen(
                [
                    *self._places[number].prefix,
                    "etcd", "--name", f"m{number}", "--data-dir", str(self.folder / f"m{number}"),
                    "--listen-client-urls", self.endpoints[number],
                    "--advertise-client-urls", self.endpoints[number],
                    "--listen-peer-urls", peers[number],
                    "--initial-advertise-peer-urls", peers[number],
                    "--initial-cluster", cluster, "--logger", "zap", "--log-outputs", "stderr",
                    *self.arguments,
                ],
                stdout=log, stderr=log, env={**os.environ, "ETCD_UNSUPPORTED_ARCH": ""},
            )  # fmt: skip

    def kill(self, number: int) -> None:
        running = self._running.pop(number)
        with contextlib.suppress(ProcessLookupError):
            running.send_signal(signal.SIGCONT)
            running.kill()
        running.wait()

    def kill_all(self) -> None:
        for number in list(self._running):
            self.kill(number)

    def restore(self, snapshot: Path) -> None:
        """Have all members, which do not run, begin with what a snapshot has."""
        peers = self._urls(self._peers)
        cluster = ",".join(f"m{each}={url}" for each, url in enumerate(peers))
        for number, peer in enumerate(peers):
            folder = self.folder / f"m{number}"
            shutil.rmtree(folder)
            subprocess.run(
                [
                    "etcdctl", "snapshot", "restore", str(snapshot), "--name", f"m{number}",
                    "--data-dir", str(folder), "--initial-cluster", cluster,
                    "--initial-advertise-peer-urls", peer,
                ],
                env={**os.environ, "ETCDCTL_API": "3"}, check=True, capture_output=True,
            )  # fmt: skip

    def leader(self) -> int:
        """The number of the member that leads."""
        api = EtcdApi(self.endpoints, self.tls)
        try:
            for number, endpoint in enumerate(self.endpoints):
                with contextlib.suppress(OSError):
                    said = api.of_member(endpoint, "/v3/maintenance/status", {})
                    if said["leader"] == said["header"]["member_id"]:
                        return number
        finally:
            api.close()
        raise AssertionError("no member leads")

    def figures(self, number: int) -> dict[str, float]:
        """What a member counts of itself: by name, with labels as they stand there."""
        with urllib.request.urlopen(f"{self.endpoints[number]}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def bytes_out(self) -> int:
        """How much all members together have sent to their clients."""
        return sum(
            int(value)
            for number in range(len(self.clients))
            for name, value in self.figures(number).items()
            if name.startswith("etcd_network_client_grpc_sent_bytes_total")
        )

    def start_all(self) -> None:
        for number in range(len(self.clients)):
            if number not in self._running:
                self.start(number)
        self.await_quorum()

    def await_quorum(self, within: float = 60.0) -> None:
        """Return when a write passes."""
        deadline = time.monotonic() + within
        while True:
            api = EtcdApi(self.endpoints, self.tls)
            try:
                api.call("/v3/kv/put", {"key": "L3F1b3J1bQ==", "value": ""})
                return
            except OSError as error:
                if time.monotonic() > deadline:
                    log = (self.folder / "log0").read_text("utf-8", "replace")
                    raise TimeoutError(f"etcd has no quorum: {error}\n{log[-3000:]}") from None
                time.sleep(0.05)  # polling another program: it has no event to await
            finally:
                api.close()

    def ctl(self, *words: str) -> str:
        """Return what ``etcdctl`` says."""
        done = subprocess.run(
            [
                "etcdctl", "--command-timeout=25s", "--dial-timeout=25s",
                "--endpoints", ",".join(self.endpoints), *words,
            ],
            env={**os.environ, "ETCDCTL_API": "3"},
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        return done.stdout
