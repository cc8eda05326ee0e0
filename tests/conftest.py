"""For all tests: none is about how fast this machine is, or draws other examples the next time, and
one that fails shows what the real programs had to say that it had started. What looks for examples
that nobody has seen are `make fuzz` and `make years`."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import settings

from support.program import log_capture

settings.register_profile("any-machine", deadline=None, derandomize=True)
settings.load_profile("any-machine")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[Any],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        report.sections += log_capture.testimonies()
    if call.when == "teardown":
        log_capture.dismiss()
    return report
