"""A clean copy of the source, to be built from.

    python packaging/source.py FOLDER

What is built must depend on the commit alone: neither on who checked it out, nor on files that lie
about. So a copy is made of the files that git knows, as they are in the working tree, with git's
modes, the time of the commit, and the version of the tags in place of that of ``pyproject.toml``.
Files that git does not know are not in it; they only make the version a dirty one.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from version import REPOSITORY, Unclear, epoch, git, version

# Nothing of these is in a package.
_LEFT_OUT = ("tests/", "benchmarks/", "docs/", ".ci/")


def copy(to: Path) -> str:
    """Fill the folder ``to``, which must not exist; return the version. Raises `Unclear`."""
    found, when = version(), epoch()
    to.mkdir(parents=True)
    for entry in git("ls-files", "-z", "--stage").split("\0"):
        facts, _, name = entry.partition("\t")
        source = REPOSITORY / name
        if not name or name.startswith(_LEFT_OUT) or not source.is_file():
            continue
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o755 if facts.startswith("100755") else 0o644)
    _stamp(to / "pyproject.toml", r'(?m)^version = ".*"$', f'version = "{found}"')
    # What is built need not look for what its installer has written down.
    _stamp(to / "proxy/version.py", r"(?m)^VERSION = .*$", f'VERSION = "{found}"')
    for path in [*to.rglob("*"), to]:
        if path.is_dir():
            path.chmod(0o755)
        os.utime(path, (when, when))
    return found


def _stamp(path: Path, pattern: str, line: str) -> None:
    text, count = re.subn(pattern, line, path.read_text())
    if count != 1:
        raise Unclear(f"{path.name} has no line for the version")
    path.write_text(text)


def main() -> None:
    try:
        print(copy(Path(sys.argv[1])))
    except Unclear as why:
        sys.exit(f"nothing can be built: {why}")


if __name__ == "__main__":
    main()
