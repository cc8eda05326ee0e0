"""Every test here starts real processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.program import folders
from support.program.copies import copied
from support.program.netns import Netns
from support.program.ports import free_ports
from support.program.server import REPOSITORY, packages

pytest_itemcollected = folders.start_the_program
pytest_ignore_collect = folders.not_in(folders.FAST)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that nobody (the user) may enter, unlike pytest's own."""
    made = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    os.chmod(made, 0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def root(folder: Path) -> Path:
    """A document root with a page."""
    made = folder / "www"
    made.mkdir()
    (made / "index.html").write_text("<p>hello\n")
    return made


@pytest.fixture
def netns() -> Iterator[Netns]:
    with Netns() as made:
        yield made


@pytest.fixture
def ports() -> tuple[int, int]:
    """Two free ports: for http and https."""
    one, other = free_ports(2)
    return one, other


@pytest.fixture
def program(folder: Path) -> Path:
    """A copy of the program that a test may change."""
    return copied(folder)


@pytest.fixture(scope="session")
def shared_python() -> str:
    """An interpreter that any user can run: that of the tests, or Debian's, which finds the
    packages by `PACKAGES`."""
    become = ("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups")
    for candidate in (sys.executable, "/usr/bin/python3"):
        # The shell is for a second exec: the first is still made with root's capabilities.
        command = [*become, "sh", "-c", 'exec "$0" -c "import proxy.boot"', candidate]
        environment = os.environ | packages(REPOSITORY)
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        if not done.returncode:
            return candidate
    pytest.skip("every interpreter lies where only root can reach it")
