"""The containers that the server knows, and the file of the state directory that it keeps them in.

`proxy.containers` finds them. With the file, a start without the engine serves what was served
before, and every command knows the same as the server. What their labels mean is `containers`'s
business.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from acme_client.late_dataclass import dataclass
from acme_client.storage import documents

FILE = "containers.json"
VERSION = 1
PREFIX = "treehouse."  # of the labels that are ours
_LARGEST = 64 * 1024 * 1024

# How well a container does: of several with the same labels, the best are asked.
Condition = Literal["well", "starting", "unwell", "gone"]
BEST_FIRST: tuple[Condition, ...] = ("well", "starting", "unwell", "gone")


@dataclass(frozen=True, slots=True)
class Network:
    """A network of a container, and its address there. ``near``: this machine is in it."""

    name: str
    address: str
    near: bool


@dataclass(frozen=True, slots=True)
class Container:
    """``created`` sorts by age. ``exposed`` are TCP ports; ``published`` says where this machine
    has them, as address and port. ``shares_host``: it is in the network of its machine."""

    name: str
    created: str
    labels: dict[str, str]
    condition: Condition = "well"
    networks: tuple[Network, ...] = ()
    exposed: tuple[int, ...] = ()
    published: dict[str, list[str]] = field(default_factory=dict)
    shares_host: bool = False
    image_labels: tuple[str, ...] = ()  # those of ours that the image has as well


def written(containers: Iterable[Container]) -> bytes:
    document = {"containers": [spelt(one) for one in containers]}
    return documents.write(document, VERSION)


def spelt(one: Container) -> dict[str, object]:
    """Spell a container as plain values, which `understood` reads."""
    networks = [[net.name, net.address, net.near] for net in one.networks]
    return documents.fields(one) | {
        "networks": networks,
        "exposed": list(one.exposed),
        "image_labels": list(one.image_labels),
    }


def read(state: Path) -> list[Container]:
    """Return the containers that the server knew last; none where it knows of none. The file is the
    server's user's, and root may ask: no link is followed."""
    try:
        fd = os.open(state / FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return []
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return []
        document = documents.read(file.read(_LARGEST), VERSION)
    found = document.get("containers")
    return understood(found) if isinstance(found, list) else []


def understood(found: Sequence[object]) -> list[Container]:
    containers = []
    for one in found:
        try:
            containers.append(_container(one))
        except (TypeError, ValueError, KeyError, AttributeError):
            continue
    return containers


def _container(plain: Any) -> Container:
    networks = tuple(Network(str(n), str(at), bool(near)) for n, at, near in plain["networks"])
    condition = plain["condition"]
    if condition not in BEST_FIRST:
        raise ValueError("no condition")
    return Container(
        name=str(plain["name"]),
        created=str(plain["created"]),
        labels={str(name): str(value) for name, value in plain["labels"].items()},
        condition=condition,
        networks=networks,
        exposed=tuple(int(port) for port in plain["exposed"]),
        published={str(p): [str(at), str(int(n))] for p, (at, n) in plain["published"].items()},
        shares_host=bool(plain["shares_host"]),
        image_labels=tuple(map(str, plain["image_labels"])),
    )
