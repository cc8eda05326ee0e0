"""The version of what is built, taken from git's tags.

A commit with the tag ``v1.2.3`` is version 1.2.3. Any other commit is a development version that
sorts before the next release: ``1.2.4.dev5+g0123abc``, five commits after ``v1.2.3``. Without any
tag the version of ``pyproject.toml`` takes the place of the next release. Changes that are not
committed add ``dirty``. ``PACKAGE_VERSION`` in the environment overrides all of it (the tests build
the next version of a package with it).

    python packaging/version.py            1.2.3rc1
    python packaging/version.py --debian   1.2.3~rc1, as dpkg sorts it
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
# The part of PEP 440 that tags may use: no epoch, no post-release, nothing local.
_RELEASE = re.compile(r"\d+(?:\.\d+){1,2}(?:(?:a|b|rc)\d+)?")
_VERSION = re.compile(_RELEASE.pattern + r"(?:\.dev\d+)?(?:\+[a-z0-9]+(?:\.[a-z0-9]+)*)?")


class Unclear(Exception):
    """What cannot be built, and why, in words for the person who builds."""


def git(*arguments: str) -> str:
    """Return what git prints. Raises `Unclear`, with git's words, when git fails."""
    # The checkout may belong to somebody else than root, who builds packages.
    command = ["git", "-c", f"safe.directory={REPOSITORY}", "-C", str(REPOSITORY), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unclear(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


def release_tags() -> list[str]:
    """Return the versions that tags give the commit at HEAD."""
    found = [line.removeprefix("v") for line in git("tag", "--points-at", "HEAD").split()]
    return [one for one in found if _RELEASE.fullmatch(one)]


def is_dirty() -> bool:
    """Whether the checkout differs from HEAD, files that git does not know included."""
    return bool(git("status", "--porcelain").strip())


def epoch() -> int:
    """Return the time of everything that is built: when HEAD was committed, in Unix seconds."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or git("log", "-1", "--format=%ct"))


def version() -> str:
    """Return the version of this checkout (PEP 440). Raises `Unclear`."""
    given = os.environ.get("PACKAGE_VERSION")
    if given:
        if not _VERSION.fullmatch(given):
            raise Unclear(f"PACKAGE_VERSION: {given!r} is no version such as 1.2.3 or 1.2.3rc1")
        return given
    tags = release_tags()
    if len(tags) > 1:
        raise Unclear(f"HEAD has several tags: {', '.join(tags)} (delete all but one)")
    dirty = is_dirty()
    if tags:
        return f"{tags[0]}+dirty" if dirty else tags[0]
    commit = git("rev-parse", "--short", "HEAD").strip()
    return f"{_coming()}.dev{_commits()}+g{commit}{'.dirty' if dirty else ''}"


def _last_tag() -> str | None:
    try:
        found = git("describe", "--tags", "--abbrev=0", "--match", "v[0-9]*").strip()
    except Unclear:
        return None
    return found if _RELEASE.fullmatch(found.removeprefix("v")) else None


def _commits() -> int:
    last = _last_tag()
    return int(git("rev-list", "--count", f"{last}..HEAD" if last else "HEAD"))


def _coming() -> str:
    """Return the version that is likely to be released next."""
    last = _last_tag()
    if last is None:
        with (REPOSITORY / "pyproject.toml").open("rb") as file:
            return str(tomllib.load(file)["project"]["version"])
    plain = re.fullmatch(r"v(\d+(?:\.\d+)?)\.(\d+)((?:a|b|rc)\d+)?", last)
    if plain is None:  # checked by _last_tag
        raise Unclear(f"the tag {last} is no version")
    head, number, before = plain.groups()
    # A release candidate is followed by the release itself.
    return f"{head}.{number if before else int(number) + 1}"


def debian(text: str) -> str:
    """Return the version as dpkg sorts it: what comes before a release follows a tilde."""
    public, plus, local = text.partition("+")
    return re.sub(r"\.?(a|b|rc|dev)(?=\d)", r"~\1", public) + plus + local


def main() -> None:
    try:
        found = version()
    except Unclear as why:
        sys.exit(f"no version: {why}")
    print(debian(found) if "--debian" in sys.argv else found)


if __name__ == "__main__":
    main()
