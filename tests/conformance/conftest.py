"""One running server per mode serves every case of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.program import folders

from .proxied import MODES, TOWARDS_H2, Proxied, proxied_by

pytest_itemcollected = folders.start_the_program
pytest_ignore_collect = folders.not_in(folders.FAST)


@pytest.fixture(scope="module", params=MODES)
def proxied(request: pytest.FixtureRequest) -> Iterator[Proxied]:
    with proxied_by(MODES[request.param], getattr(request.module, "script", None)) as made:
        yield made


@pytest.fixture(scope="module", params=[*MODES, TOWARDS_H2])
def proxied_anyhow(request: pytest.FixtureRequest) -> Iterator[Proxied]:
    """Towards HTTP/2 as well."""
    with proxied_by(MODES.get(request.param, []), over_http2=request.param == TOWARDS_H2) as made:
        yield made
