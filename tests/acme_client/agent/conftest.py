"""What the certifier meets at a real CA: servers that the CA validates at, and a front that plays the
CA's faults. Each file has a CA of its own (``ca``)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.acme.ca_faults import Faults
from support.acme.certifier import FakeServer
from support.acme.pebble import Pebble


@pytest.fixture(scope="module")
def doors() -> Iterator[FakeServer]:
    """Holds the ports that the file's CA validates at."""
    with FakeServer() as server:
        yield server


@pytest.fixture
def server(doors: FakeServer) -> FakeServer:
    doors.forget()
    return doors


@pytest.fixture
def front(ca: Pebble) -> Iterator[Faults]:
    with Faults(ca) as faults:
        yield faults
