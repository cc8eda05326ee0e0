"""What befalls the engine of a cluster, one trouble after the other, with the real program: its quota
is used up, it is restored from a backup, a role is taken away, the secret is another one.

    CLUSTER_SECONDS=1 pytest tests/e2e/test_cluster_faults.py      (make cluster)
"""

from __future__ import annotations

import os
import ssl
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import trustme

from acme_client.storage.etcd.api import EtcdApi, encoded
from acme_client.storage.etcd.sealing import new_secret
from acme_client.storage.store import Full
from support.program.cluster import NAME, Cluster, Node, clustered
from support.program.server import treehouse

pytestmark = [
    pytest.mark.program,
    pytest.mark.pebble,
    pytest.mark.skipif(not os.environ.get("CLUSTER_SECONDS"), reason="make cluster"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with clustered(arguments=("--quota-backend-bytes", "16777216")) as made:
        first, second = made.node(1, order=True), made.node(2)
        made.led_to(first)
        first.start()
        made.serial = first.await_served()
        second.start()
        second.await_served(made.serial)
        yield made


def command(node: Node, *words: str) -> str:
    done = treehouse(*words, "--config", str(node.config))
    assert done.returncode == 0, done.stderr + node.running.text()
    return done.stdout


def fill(api: EtcdApi) -> None:
    for _ in range(500):
        api.call("/v3/kv/put", {"key": encoded("/x"), "value": encoded(os.urandom(100_000))})


def renewed(node: Node) -> str:
    before = node.served()
    command(node, "certs", "renew", NAME, "--force")
    serial = node.await_served()
    assert serial != before
    return serial


def await_connected(node: Node, *, connected: bool) -> str:
    found = node.running.await_status(
        node.state,
        lambda document: (document["cluster"] or {}).get("connected") is connected,
        within=60,
    )
    return str(found["cluster"]["fault"])


def test_the_quota_is_used_up(cluster: Cluster) -> None:
    first, second = cluster.nodes
    api = EtcdApi(cluster.etcd.endpoints)
    with pytest.raises(Full):
        fill(api)
    api.close()
    newest = renewed(first)
    assert "its quota is used up" in await_connected(first, connected=False)
    assert second.served() == cluster.serial
    checked = treehouse("cluster", "check", "--config", str(second.config))
    assert checked.returncode == 1
    assert "etcd has an alarm: NOSPACE" in checked.stdout
    assert "etcdctl alarm disarm" in checked.stdout
    # What check advises.
    revision = cluster.etcd.ctl("get", "/x", "--keys-only", "-w", "json")
    at = int(revision.split('"revision":')[1].split(",")[0])
    cluster.etcd.ctl("compact", str(at))
    cluster.etcd.ctl("defrag")
    cluster.etcd.ctl("alarm", "disarm")
    cluster.serial = second.await_served(newest, within=60)
    await_connected(first, connected=True)


def test_the_engine_is_restored_from_an_older_backup(cluster: Cluster) -> None:
    first, second = cluster.nodes
    backup = cluster.etcd.folder / "backup"
    one = cluster.etcd.endpoints[0]
    subprocess.run(
        ["etcdctl", "--endpoints", one, "snapshot", "save", str(backup)],
        env={**os.environ, "ETCDCTL_API": "3"}, check=True, capture_output=True,
    )  # fmt: skip
    newest = renewed(first)
    second.await_served(newest)
    since = len(first.running.log)
    cluster.etcd.kill_all()
    cluster.etcd.restore(backup)
    cluster.etcd.start_all()
    await_connected(first, connected=True)
    first.running.await_log(f"{NAME}: offered to the cluster", within=60, since=since)
    assert first.served() == second.served() == newest
    store = cluster.store()
    chain = store.load(f"certificates/{NAME}")["fullchain.pem"]
    store.close()
    assert chain == (first.state / f"certificates/{NAME}/fullchain.pem").read_bytes()
    cluster.serial = renewed(first)
    second.await_served(cluster.serial, within=60)


def test_another_secret(cluster: Cluster) -> None:
    first, second = cluster.nodes
    old, new = cluster.secret, new_secret()
    cluster.secret_file.write_text(f"{new}\n{old}\n")
    command(first, "reload")
    refused = treehouse("cluster", "rekey", "--config", str(first.config))
    assert refused.returncode == 1
    assert "web-2 could open nothing then, and nothing has been changed" in refused.stderr
    command(second, "reload")
    assert "are sealed with the first secret" in command(first, "cluster", "rekey")
    cluster.secret = new
    cluster.secret_file.write_text(f"{new}\n")
    for node in cluster.nodes:
        command(node, "reload")
    for node in cluster.nodes:
        await_connected(node, connected=True)
    cluster.serial = renewed(first)
    second.await_served(cluster.serial)
    # Who has the old one only takes nothing, and says so.
    cluster.secret_file.write_text(f"{old}\n")
    command(second, "reload")
    assert "it was sealed with another secret" in await_connected(second, connected=False)
    checked = treehouse("cluster", "check", "--config", str(second.config))
    assert "it was sealed with another secret" in checked.stdout, checked.stdout
    cluster.secret_file.write_text(f"{new}\n")
    command(second, "reload")
    await_connected(second, connected=True)
    assert second.served() == cluster.serial


def test_a_role_is_taken_away_and_given_again(cluster: Cluster) -> None:
    first, second = cluster.nodes
    ctl = cluster.etcd.ctl
    for words in (
        ("user", "add", "root:secret"),
        ("user", "grant-role", "root", "root"),
        ("role", "add", "shop"),
        ("role", "grant-permission", "shop", "--prefix=true", "readwrite", "/treehouse/shop/"),
        ("user", "add", "treehouse:password"),
        ("user", "grant-role", "treehouse", "shop"),
        ("auth", "enable"),
    ):
        ctl(*words)
    password = cluster.folder / "password"
    password.write_text("password\n")
    password.chmod(0o644)
    assert await_connected(second, connected=False)
    cluster.more = f"\n  user: treehouse\n  password_file: {password}"
    for node in cluster.nodes:
        node.write()
        command(node, "reload")
    for node in cluster.nodes:
        await_connected(node, connected=True)
    assert "this node takes" in command(second, "cluster", "check")
    cluster.serial = renewed(first)
    second.await_served(cluster.serial)

    root = ("--user", "root:secret")
    ctl(*root, "user", "revoke-role", "treehouse", "shop")
    command(second, "reload")
    assert "permission denied" in await_connected(second, connected=False)
    assert second.served() == cluster.serial
    ctl(*root, "user", "grant-role", "treehouse", "shop")
    await_connected(second, connected=True)
    cluster.serial = renewed(first)
    second.await_served(cluster.serial, within=60)

    # A user that is deleted, and made again: nobody does anything here for it.
    since = len(second.running.log)
    ctl(*root, "user", "delete", "treehouse")
    fault = await_connected(second, connected=False)
    assert "authentication failed" in fault, fault
    assert second.served() == cluster.serial
    ctl(*root, "user", "add", "treehouse:password")
    ctl(*root, "user", "grant-role", "treehouse", "shop")
    await_connected(second, connected=True)
    told = [one["message"] for one in second.running.log[since:] if one["level"] == "warning"]
    assert len(told) == len({one.partition("; ")[0] for one in told}), told
    cluster.serial = renewed(first)
    second.await_served(cluster.serial, within=60)


def test_a_client_certificate_that_expires_and_the_next_one() -> None:
    authority = trustme.CA()
    with clustered() as cluster:
        files = {
            name: cluster.folder / f"etcd-{name}.pem" for name in ("ca", "server", "client", "test")
        }
        authority.cert_pem.write_to_path(files["ca"])
        served = authority.issue_cert("127.0.0.1")
        served.private_key_and_cert_chain_pem.write_to_path(files["server"])
        etcd = cluster.etcd
        etcd.kill_all()
        etcd.arguments = (
            "--cert-file", str(files["server"]), "--key-file", str(files["server"]),
            "--trusted-ca-file", str(files["ca"]), "--client-cert-auth",
        )  # fmt: skip
        etcd.endpoints = tuple(one.replace("http:", "https:") for one in etcd.endpoints)
        own = authority.issue_cert("test.example")
        own.private_key_and_cert_chain_pem.write_to_path(files["test"])
        etcd.tls = ssl.create_default_context(cafile=str(files["ca"]))
        etcd.tls.load_cert_chain(files["test"])
        etcd.start_all()

        def issue(seconds: float) -> float:
            ends = time.time() + seconds
            client = authority.issue_cert(
                "web-1.example", not_after=datetime.fromtimestamp(ends, UTC)
            )
            client.private_key_and_cert_chain_pem.write_to_path(files["client"])
            files["client"].chmod(0o644)
            return ends

        ends = issue(40)
        cluster.more = "".join(
            f"\n  {key}: {files[name]}"
            for key, name in (("ca_file", "ca"), ("cert_file", "client"), ("key_file", "client"))
        )
        node = cluster.node(1, order=True)
        cluster.led_to(node)
        node.start()
        serial = node.await_served()
        await_connected(node, connected=True)
        time.sleep(max(ends + 1 - time.time(), 0))  # time itself is awaited
        since = len(node.running.log)
        etcd.kill_all()
        etcd.start_all()
        fault = await_connected(node, connected=False)
        node.running.await_status(
            node.state, lambda document: "expired" in document["cluster"]["fault"], within=60
        )
        assert node.served() == serial, fault
        assert "expired" in treehouse("cluster", "check", "--config", str(node.config)).stdout
        told = [one["message"] for one in node.running.log[since:] if one["level"] == "warning"]
        assert len(told) <= 2, told  # each part of the work says once that it cannot be done
        issue(3600)
        command(node, "reload")
        await_connected(node, connected=True)
        assert node.served() == serial
