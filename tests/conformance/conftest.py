"""One running server per mode serves every case of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .proxied import MODES, TOWARDS_H2, Proxied, proxied_by


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.program)


@pytest.fixture(scope="module", params=MODES)
def proxied(request: pytest.FixtureRequest) -> Iterator[Proxied]:
    with proxied_by(MODES[request.param], getattr(request.module, "script", None)) as made:
        yield made


@pytest.fixture(scope="module", params=[*MODES, TOWARDS_H2])
def proxied_anyhow(request: pytest.FixtureRequest) -> Iterator[Proxied]:
    """Towards HTTP/2 as well."""
    with proxied_by(MODES.get(request.param, []), over_http2=request.param == TOWARDS_H2) as made:
        yield made
