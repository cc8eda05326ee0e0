"""What an engine says of a container, whatever it leaves out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.sources.known_containers import Network
from proxy.containers import reachability
from proxy.containers.inspection import container

LABELS = {"treehouse.domain": "a.test", "com.docker.compose.service": "web", "maintainer": "me"}


def near(address: str, prefix: int) -> bool:
    return address.startswith("172.17.") and prefix == 16


def document(**changed: Any) -> dict[str, Any]:
    """As Docker 27 answers, shortened."""
    return {
        "Id": "4f66ad9a0b2e" * 5,
        "Created": "2026-01-01T00:00:00.1Z",
        "Name": "/web",
        "Image": "sha256:1",
        "State": {"Status": "running", "Running": True, "Paused": False},
        "Config": {"Labels": LABELS, "ExposedPorts": {"80/tcp": {}, "53/udp": {}}},
        "HostConfig": {"NetworkMode": "bridge"},
        "NetworkSettings": {
            "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "18080"}], "53/udp": None},
            "Networks": {
                "bridge": {"IPAddress": "172.17.0.2", "IPPrefixLen": 16},
                "other": {"IPAddress": "", "GlobalIPv6Address": "fd00::2", "GlobalIPv6PrefixLen": 64},
            },
        },
    } | changed  # fmt: skip


def test_a_container_that_runs() -> None:
    found = container(document(), {}, near)
    assert found is not None
    assert (found.name, found.exposed, found.condition) == ("web", (80,), "well")
    assert found.networks == (
        Network("bridge", "172.17.0.2", True), Network("other", "fd00::2", False),
    )  # fmt: skip
    assert found.published == {"80": ["127.0.0.1", "18080"]}
    assert "maintainer" not in found.labels


def test_labels_of_the_image_are_told_apart() -> None:
    image = {"treehouse.domain": "a.test", "treehouse.port": "80", "maintainer": "me"}
    found = container(document(), image, near)
    assert found is not None
    assert found.image_labels == ("treehouse.domain",)
    assert "treehouse.domain" not in found.labels


@pytest.mark.parametrize(
    ("state", "condition"),
    [
        ({"Running": True, "Health": {"Status": "healthy"}}, "well"),
        ({"Running": True, "Health": {"Status": ""}}, "well"),
        ({"Running": True, "Health": {"Status": "starting"}}, "starting"),
        ({"Running": True, "Health": {"Status": "unhealthy"}}, "unwell"),
        ({"Running": True, "Paused": True}, "unwell"),
    ],
)
def test_how_it_does(state: dict[str, Any], condition: str) -> None:
    found = container(document(State=state), {}, near)
    assert found is not None
    assert found.condition == condition


def test_what_does_not_run_or_has_no_label_is_none() -> None:
    assert container(document(State={"Running": False}), {}, near) is None
    assert container(document(Config={"Labels": {"a": "b"}}), {}, near) is None
    assert container(document(Config={"Labels": None}), {}, near) is None


def test_the_hosts_network() -> None:
    found = container(document(HostConfig={"NetworkMode": "host"}), {}, near)
    assert found is not None
    assert found.shares_host


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    JSON, st.sampled_from(["State", "Config", "HostConfig", "NetworkSettings", "Name", "Created"])
)
def test_nothing_that_an_engine_says_is_more_than_nothing(said: object, key: str) -> None:
    container(said, {}, near)
    container(document(**{key: said}), {}, near)
    inner = {"Ports": said, "Networks": said}
    container(document(NetworkSettings=inner), {}, near)


def test_this_machine_is_in_its_own_network_and_in_no_other() -> None:
    assert reachability.near("127.0.0.7", 8)
    assert not reachability.near("127.0.0.7", 0)
    assert not reachability.near("203.0.113.7", 32)
    assert not reachability.near("nonsense", 24)
