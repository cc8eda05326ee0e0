"""What a process is called in ``ps`` and ``top``."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import os, sys
from proxy.system.process_title import set_title
set_title(sys.argv[1], sys.argv[2])
with open("/proc/self/comm") as file:
    print(file.read().strip())
with open("/proc/self/cmdline") as file:
    print(file.read().rstrip(chr(0)))
with open("/proc/self/environ") as file:
    print("MARK=here" in file.read().split(chr(0)))
print(os.environ["MARK"], len(sys.argv), sys.argv[2])
"""


@pytest.mark.parametrize(
    ("short", "title", "comm"),
    [
        ("th-worker-1", "treehouse-proxy: worker 1", "th-worker-1"),
        ("a-name-of-more-than-fifteen", "treehouse-proxy: supervisor", "a-name-of-more-"),
        ("x", "t" * 5000, "x"),
        ("x", "bücher", "x"),
    ],
)
def test_both_names_and_nothing_else(short: str, title: str, comm: str) -> None:
    room = "and arguments that make room for it"
    said = subprocess.run(
        [sys.executable, "-c", CODE, short, title, room],
        env={"MARK": "here", "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert said[0] == comm
    assert title.startswith(said[1].rstrip("\ufffd"))
    assert said[1]
    assert said[2:] == ["True", f"here 4 {title}"], "the environment and our own copy are untouched"
