"""Machines in networks of their own, joined by a switch: links that can be cut and healed.

    with Machines(3) as machines, machines.entered():
        Server([...], folder, prefix=machines.places[0].prefix)
        with machines.without(0):
            ...

Who has `entered` is at the switch: a thread's sockets, and processes that it starts, are reached
from all machines at `SWITCH`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Self

from support.etcd import Place

from .netns import Netns

SWITCH = "10.77.0.254"


class Machines:
    def __init__(self, number: int) -> None:
        self._hub = Netns()
        self._spaces = [Netns() for _ in range(number)]
        self.places = [
            Place(f"10.77.0.{each}", space.prefix) for each, space in enumerate(self._spaces, 1)
        ]
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            hub = self._stack.enter_context(self._hub)
            hub.run("ip", "link", "add", "switch", "type", "bridge")
            hub.run("ip", "address", "add", f"{SWITCH}/24", "dev", "switch")
            hub.run("ip", "link", "set", "switch", "up")
            for each, space in enumerate(self._spaces):
                self._stack.enter_context(space)
                link = f"to{each}"
                hub.run(
                    "ip", "link", "add", link, "type", "veth",
                    "peer", "name", "eth0", "netns", space.name,
                )  # fmt: skip
                hub.run("ip", "link", "set", link, "master", "switch", "up")
                space.run("ip", "address", "add", f"{self.places[each].address}/24", "dev", "eth0")
                space.run("ip", "link", "set", "eth0", "up")
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def entered(self) -> contextlib.AbstractContextManager[None]:
        return self._hub.entered()

    def at(self, number: int) -> contextlib.AbstractContextManager[None]:
        """The same on a machine, which may be cut off."""
        return self._spaces[number].entered()

    @contextlib.contextmanager
    def without(self, number: int) -> Iterator[None]:
        """Inside, nothing comes from a machine and nothing goes to it; the others are not told."""
        self._hub.run("ip", "link", "set", f"to{number}", "down")
        try:
            yield
        finally:
            self._hub.run("ip", "link", "set", f"to{number}", "up")
