"""`hash-password`, fed as scripts feed it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from proxy.sites.passwords import fits
from support.program.server import REPOSITORY

COMMAND = [sys.executable, "-m", "proxy", "hash-password"]


@pytest.mark.parametrize(
    ("given", "password"),
    [
        (b"secret", b"secret"),
        (b"secret\n", b"secret"),
        (b"secret\r\nand more\n", b"secret"),
        (b" a:b \t\n", b" a:b \t"),
        ("pässwörd\n".encode(), "pässwörd".encode()),
        ("pässwörd\n".encode("latin-1"), "pässwörd".encode("latin-1")),
        (b"\xff\xfe\x00\n", b"\xff\xfe\x00"),
    ],
)
def test_the_bytes_of_the_first_line_are_the_password(given: bytes, password: bytes) -> None:
    # An encoding that has none of these letters.
    done = subprocess.run(
        COMMAND, input=given, cwd=REPOSITORY, env={"LC_ALL": "POSIX", "PYTHONUTF8": "0"},
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    line = done.stdout.decode().strip()
    assert fits(line, password)
    assert not fits(line, password + b"x")


@pytest.mark.parametrize("shell", ['exec "$@" </dev/null', 'exec "$@" <&-', 'echo | exec "$@"'])
def test_without_a_password_there_is_no_line(shell: str) -> None:
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *COMMAND], cwd=REPOSITORY, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "there is no password on standard input (its first line is taken)\n"
