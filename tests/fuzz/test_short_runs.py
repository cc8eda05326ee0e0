"""Each coverage-guided target for two seconds, the same way each time; `make fuzz` runs them for
minutes, each time another way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TARGETS = sorted(HERE.glob("fuzz_*.py"))


@pytest.mark.parametrize("target", TARGETS, ids=lambda path: path.stem)
def test_a_short_run_finds_nothing(target: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(target), "-seed=1", "-max_total_time=2", "-max_len=512",
         str(tmp_path)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": f"{HERE.parents[1]}:{HERE.parent}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done " in done.stderr
