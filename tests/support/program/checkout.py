"""A repository of its own with the files of this one, to be tagged, changed and built from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from .server import REPOSITORY

WHEN = "2026-01-02T03:04:05Z"


class Checkout:
    """It has one commit at first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = subprocess.run(
            ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=REPOSITORY, check=True, capture_output=True, text=True,
        ).stdout.split("\0")  # fmt: skip
        for name in names:
            if name and not name.startswith(("tests/", "benchmarks/", "docs/")):
                if not (REPOSITORY / name).is_file():
                    continue
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(REPOSITORY / name, folder / name)
        self.git("init", "-q", "-b", "main")
        self.commit()

    def git(self, *arguments: str) -> None:
        environment = os.environ | {"GIT_AUTHOR_DATE": WHEN, "GIT_COMMITTER_DATE": WHEN}
        names = (
            "-c",
            "user.name=A",
            "-c",
            "user.email=a@example.org",
            "-c",
            "commit.gpgsign=false",
        )
        subprocess.run(
            ["git", *names, "-C", str(self.folder), *arguments],
            check=True, capture_output=True, env=environment,
        )  # fmt: skip

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "All of it")

    def runs(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=os.environ | {"PYTHON": sys.executable} | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )

    def version(self, *options: str, **environment: str) -> str:
        done = self.runs(sys.executable, "packaging/version.py", *options, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()
