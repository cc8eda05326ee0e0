"""What the API says of a container (ContainerInspect), as `Container`. Pure.

Engines differ in what they leave out: a missing part is nothing, whatever type it should have had.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..config.sources.known_containers import PREFIX, Condition, Container, Network

# Whether this machine has an address in the network of a container's address and prefix.
Near = Callable[[str, int], bool]


def container(said: object, image_labels: Mapping[str, str], near: Near) -> Container | None:
    """Return the container; None where it does not run or has no label of ours."""
    document = _object(said)
    state, config = _object(document.get("State")), _object(document.get("Config"))
    labels = labels_of(document)
    if not state.get("Running") or not any(one.startswith(PREFIX) for one in labels):
        return None
    of_image = {
        name for name, value in image_labels.items()
        if name.startswith(PREFIX) and labels.get(name) == value
    }  # fmt: skip
    settings = _object(document.get("NetworkSettings"))
    ports = _object(settings.get("Ports"))
    exposed = {_tcp(one) for one in (*_object(config.get("ExposedPorts")), *ports)}
    return Container(
        name=str(document.get("Name", "")).lstrip("/") or str(document.get("Id", ""))[:12],
        created=str(document.get("Created", "")),
        labels={k: v for k, v in labels.items() if _matters(k) and k not in of_image},
        condition=_condition(state),
        networks=tuple(_networks(_object(settings.get("Networks")), near)),
        exposed=tuple(sorted(one for one in exposed if one is not None)),
        published=dict(_published(ports)),
        shares_host=_object(document.get("HostConfig")).get("NetworkMode") == "host",
        image_labels=tuple(sorted(of_image)),
    )


def labels_of(said: object) -> dict[str, str]:
    """Return the labels of a container, or of an image (ImageInspect)."""
    labels = _object(_object(_object(said).get("Config")).get("Labels"))
    return {str(name): str(value) for name, value in labels.items()}


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _matters(label: str) -> bool:
    return label.startswith((PREFIX, "com.docker.compose.", "com.docker.swarm.service."))


def _condition(state: Mapping[str, Any]) -> Condition:
    health = str(_object(state.get("Health")).get("Status", "")).lower()
    if state.get("Paused") or health == "unhealthy":
        return "unwell"
    return "starting" if health == "starting" else "well"


def _networks(networks: Mapping[str, Any], near: Near) -> Iterator[Network]:
    for name, one in sorted(networks.items()):
        said = _object(one)
        for key, prefix in (
            ("IPAddress", "IPPrefixLen"),
            ("GlobalIPv6Address", "GlobalIPv6PrefixLen"),
        ):
            address, length = said.get(key), said.get(prefix)
            if isinstance(address, str) and _is_address(address):
                length = length if isinstance(length, int) else 0
                yield Network(name, address, near(address, length))
                break


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _tcp(port: str) -> int | None:
    """Return the number of a TCP port that is spelt like 80/tcp; None for any other text."""
    number, _, kind = port.partition("/")
    fits = kind in ("", "tcp") and number.isascii() and number.isdecimal()
    return int(number) if fits and 0 < int(number) < 65536 else None


# What stands for every address of this machine, and for one of them.
_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}  # noqa: S104 - read, not bound


def _published(ports: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for spelt, bindings in ports.items():
        port = _tcp(spelt)
        for one in bindings if isinstance(bindings, list) else ():
            said = _object(one)
            host, number = str(said.get("HostIp", "")), str(said.get("HostPort", ""))
            host = _ANY.get(host, host)
            if port is not None and number.isdecimal() and _is_address(host):
                yield str(port), [host, number]
                break
