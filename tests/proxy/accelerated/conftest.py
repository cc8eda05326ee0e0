from __future__ import annotations

import pytest

from support.accelerated import lane


@pytest.fixture(autouse=True, scope="module")
def _there_is_a_lane() -> None:
    try:
        lane()
    except RuntimeError as error:
        pytest.skip(str(error))
