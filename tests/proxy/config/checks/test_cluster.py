"""Slips in what ``cluster`` says: each is told with its place and a way out."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.config.load import ConfigurationFaults, Options, load
from proxy.config.model import Config

SOUND = "name: shop, node: web-1, etcd: ['https://192.0.2.1:2379'], secret_file: secret"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the user that a server becomes may look."""
    made = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    made.chmod(0o755)
    (made / "site").mkdir()
    for name in ("secret", "password", "pem"):
        (made / name).write_text("ab" * 32 + "\n")
    yield made
    shutil.rmtree(made)


def read(folder: Path, cluster: str, more: str = "") -> Config:
    (folder / "c.yaml").write_text(
        f"state: {folder}/state\ncluster: {{{cluster}}}\n"
        f"sites:\n- {{names: [a.example.org], root: site{more}}}\n"
    )
    return load(Options(config=folder / "c.yaml"), now_uid=0)


def test_a_cluster_is_read(folder: Path) -> None:
    cluster = read(folder, f"{SOUND}, order: false").cluster
    assert cluster is not None
    assert (cluster.name, cluster.called, cluster.order) == ("shop", "web-1", False)
    assert cluster.etcd == ("https://192.0.2.1:2379",)


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        ("name: shop, etcd: ['https://h:1']", ("cluster", "secret_file")),
        ("name: Shop!, etcd: ['https://h:1'], secret_file: secret", ("no name of a cluster",)),
        ("name: shop, etcd: [], secret_file: secret", ("no member of etcd is named",)),
        ("name: shop, etcd: [h], secret_file: secret", ("is no address of etcd", "https://")),
        ("name: shop, etcd: ['https://u:p@h:1'], secret_file: secret", ("more than scheme",)),
        ("name: shop, etcd: ['https://h:1/v3'], secret_file: secret", ("has a path",)),
        (
            "name: shop, etcd: ['https://h:1'], secret_file: none",
            ("secret_file", "none", "copy it from a machine"),
        ),
        (f"{SOUND}, user: u", ("it needs password_file beside it",)),
        (f"{SOUND}, cert_file: pem", ("it needs key_file beside it",)),
        (f"{SOUND}, password: p", ("here that is password_file: FILE",)),
        (f"{SOUND}, role: follower", ("here that is order: false",)),
        (
            "name: shop, etcd: ['http://192.0.2.1:1'], secret_file: secret, user: u, password_file: pem",
            ("the password would cross the network in clear",),
        ),
        (
            "name: shop, etcd: ['http://h:1'], secret_file: secret, ca_file: pem",
            ("etcd is not asked by TLS",),
        ),
        (
            "name: shop, etcd: ['http://h:1', 'https://i:1'], secret_file: secret",
            ("some members are asked by TLS and others are not",),
        ),
    ],
)
def test_each_slip_is_told(folder: Path, cluster: str, said: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationFaults) as told:
        read(folder, cluster)
    for words in said:
        assert words in str(told.value)


def test_what_it_does_alone(folder: Path) -> None:
    cluster = read(folder, SOUND).cluster
    assert cluster is not None
    assert (cluster.alone.order_below, cluster.alone.challenges) == (0.1, "thumbprint")
    cluster = read(folder, f"{SOUND}, alone: {{order_below: 25%, challenges: off}}").cluster
    assert cluster is not None
    assert (cluster.alone.order_below, cluster.alone.challenges) == (0.25, "off")
    for slip, said in (("order_below: 70%", "1% to 50%"), ("challenges: all", "thumbprint")):
        with pytest.raises(ConfigurationFaults, match=said):
            read(folder, f"{SOUND}, alone: {{{slip}}}")


def test_names_on_demand_are_refused_where_nothing_is_ordered(folder: Path) -> None:
    rule = ", on_demand: {patterns: ['*.a.example.org']}"
    read(folder, SOUND, rule)
    with pytest.raises(ConfigurationFaults, match="this machine orders no certificates"):
        read(folder, f"{SOUND}, order: false", rule)


@pytest.mark.parametrize("text", ["", "ab\n", "zz\n", "ab" * 32])
def test_a_secret_that_is_none_is_told(folder: Path, text: str) -> None:
    (folder / "secret").write_text(text)
    (said,) = [one for one in read(folder, SOUND).notices if "secret_file" in one]
    assert "nothing is taken from the cluster (copy it from a machine of the cluster" in said


def test_nobody_else_is_let_in_to_a_secret(folder: Path) -> None:
    (folder / "secret").write_text("0123456789abcdef" * 4)
    (folder / "secret").chmod(0o600)
    with pytest.raises(ConfigurationFaults) as caught:
        read(folder, SOUND)
    assert "chgrp 65534" in str(caught.value)
    assert "o+r" not in str(caught.value)
    (folder / "secret").chmod(0o644)
    assert not [one for one in read(folder, SOUND).notices if "secret_file" in one]
