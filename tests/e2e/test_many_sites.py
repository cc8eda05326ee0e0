"""A thousand sites: few descriptors, a certifier that comes back, renewals, and what is on the disk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import many_sites, processes
from support.http.client import context, https
from support.program.ports import free_ports
from support.program.server import Server, treehouse

COUNT = 1_000
(PORT,) = free_ports(1)


@pytest.fixture(scope="module")
def sites() -> Iterator[many_sites.Sites]:
    work = Path(tempfile.mkdtemp(prefix="th-many-", dir="/var/tmp"))
    made = many_sites.prepare(work, COUNT, certified=True)
    many_sites.own(made)
    yield made
    shutil.rmtree(work)


@pytest.fixture(scope="module")
def running(sites: many_sites.Sites) -> Iterator[Server]:
    """With fewer descriptors than certificates."""
    many_sites.treehouse(sites, PORT, 2)
    config = sites.work / "config.yaml"
    text = config.read_text().replace("connections_per_address: 10000", "connections: 200")
    config.write_text(text.replace("level: warning", "level: info"))
    options = ["--config", str(config)]
    with Server(options, sites.work, prefix=("prlimit", "--nofile=800:800")) as server:
        yield server


def serial(sites: many_sites.Sites, name: str) -> str:
    using = context(sites.ca)
    with https(PORT, name, None, using=using) as talk:
        shown: str = talk.sock.getpeercert()["serialNumber"]  # type: ignore[attr-defined]
    return shown


def kept(sites: many_sites.Sites, name: str) -> str:
    """The serial number on the disk."""
    record = json.loads((sites.state / "certificates" / name / "meta.json").read_text())
    text: str = record["serial"].upper()
    return text.zfill(len(text) + len(text) % 2)


def test_all_are_served_with_fewer_descriptors_than_certificates(
    sites: many_sites.Sites, running: Server
) -> None:
    for name in sites.names[:: COUNT // 50]:
        assert serial(sites, name) == kept(sites, name)
    for pid in running.tree():
        assert len(os.listdir(f"/proc/{pid}/fd")) < 150
    running.await_log("1000 of 1000 certificates at hand")
    assert not [one for one in running.log if "s000000.test: certificate" in one["message"]]


def test_a_certifier_that_comes_back_costs_the_workers_nothing(
    sites: many_sites.Sites, running: Server
) -> None:
    titles = {pid: processes.title(pid) for pid in running.tree()}
    workers = [pid for pid, title in titles.items() if "worker" in title]
    (certifier,) = (pid for pid, title in titles.items() if "certifier" in title)
    before = {pid: processes.own_cpu_seconds(pid) for pid in workers}
    said = len(running.log)
    os.kill(certifier, signal.SIGKILL)
    running.await_log("1000 of 1000 certificates at hand", within=60, since=said)
    running.status(sites.state)  # whatever it had to say has been heard
    assert {pid for pid in running.tree() if "worker" in processes.title(pid)} == set(workers)
    for pid in workers:
        assert processes.own_cpu_seconds(pid) - before[pid] < 0.3
    assert serial(sites, sites.names[5]) == kept(sites, sites.names[5])


def test_a_renewed_one_is_served_at_once_and_the_others_stay(
    sites: many_sites.Sites, running: Server
) -> None:
    first, other = sites.names[7], sites.names[8]
    before = serial(sites, first), serial(sites, other)
    done = treehouse("certs", "renew", first, "--state", str(sites.state))
    assert done.returncode == 0, done.stderr
    for _ in range(20):  # whichever worker is asked
        assert serial(sites, first) == kept(sites, first) != before[0]
    assert serial(sites, other) == before[1]


def test_a_reload_serves_the_same_and_status_says_what_matters(
    sites: many_sites.Sites, running: Server
) -> None:
    before = serial(sites, sites.names[9])
    done = treehouse("reload", "--state", str(sites.state))
    assert done.returncode == 0, done.stderr
    assert serial(sites, sites.names[9]) == before
    said = treehouse("status", "--state", str(sites.state)).stdout
    assert "and 950 more: status --all, or status NAME" in said
    said = treehouse("status", "s00000[12].test", "--state", str(sites.state)).stdout
    assert "s000001.test" in said
    assert "s000003.test" not in said
    said = treehouse("status", "--attention", "--state", str(sites.state)).stdout
    assert "nothing needs attention" in said
