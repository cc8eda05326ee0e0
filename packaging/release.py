"""`make release`: everything that is published, twice, and only if both are the same.

    python packaging/release.py FOLDER          builds into FOLDER, which is emptied
    python packaging/release.py --check         says what is in the way, builds nothing

A release is a tag with an entry in CHANGELOG.md. It is built from clones of that tag, never from
the checkout, so nothing that lies about can come into it: the wheels, the Debian packages, the
image, a bill of materials for each, and `SHA256SUMS`. The second build is in another folder, with
another umask, time zone and order of names; where a single byte differs, nothing is released. What
is fetched for it (the Debian systems to build in, wheels, Debian's packages for the image) is
shared by both, and pinned by hash or signed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from version import REPOSITORY, Unclear, debian, git, release_tags

_SHOWN = 5
# The two builds differ in the length of their folders' names, and in these variables: a build that
# puts any of it into a file is found out.
_WORKS = ("one", "other-build")
_FIRST = {"TZ": "UTC", "LC_ALL": "C.UTF-8"}
_SECOND = {"TZ": "Pacific/Kiritimati", "LC_ALL": "C"}


def obstacles() -> Iterator[str]:
    """Yield all that is in the way of a release of HEAD, each as a sentence with its remedy."""
    for name in ("PACKAGE_VERSION", "SOURCE_DATE_EPOCH"):
        if os.environ.get(name):
            yield f"{name} is set, and a release takes it from its tag (unset {name})"
    changed = [line[3:] for line in git("status", "--porcelain").splitlines()]
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        shown = ", ".join(changed[:_SHOWN]) + more
        yield f"the tree has changes that are not committed: {shown} (commit or remove them)"
    tags = release_tags()
    if not tags:
        yield "HEAD has no tag of a version (git tag -a v1.2.3 -m 1.2.3)"
    if len(tags) > 1:
        yield f"HEAD has several tags: {', '.join(tags)} (delete all but one)"
    for one in tags:
        yield from _of_the_changelog((REPOSITORY / "CHANGELOG.md").read_text(), one)


def _of_the_changelog(text: str, version: str) -> Iterator[str]:
    heading = re.compile(rf"(?m)^## \[{re.escape(version)}\](.*)$")
    found = heading.search(text)
    if found is None:
        yield (
            f"CHANGELOG.md has no entry for {version} (put the heading "
            f'"## [{version}] - YEAR-MONTH-DAY" below "## [Unreleased]")'
        )
        return
    if not re.fullmatch(r" - \d{4}-\d\d-\d\d", found[1]):
        yield f"the entry of CHANGELOG.md for {version} has no date (## [{version}] - 2026-01-31)"
    entry = text[found.end() :].partition("\n## ")[0]
    if not re.search(r"(?m)^- \S", entry):
        yield f"the entry of CHANGELOG.md for {version} is empty (say what is new for operators)"


def clone_of(tag: str, folder: Path) -> None:
    """Clone a tag of this repository into ``folder``. Raises CalledProcessError."""
    # The checkout may belong to another user than root, who builds. The process that git starts to
    # read it has to be told that itself: it inherits no settings.
    reader = "git -c 'safe.directory=*' upload-pack"
    command = ["git", "clone", "-q", "--no-hardlinks", "--branch", tag, "--upload-pack", reader]
    settings = ["-c", "advice.detachedHead=false"]
    subprocess.run([*command, *settings, f"file://{REPOSITORY}", str(folder)], check=True)


def build(tag: str, work: Path, environment: dict[str, str], umask: int) -> Path:
    """Build everything of the tag in a clone in ``work``; return the folder with the outcome.
    Raises CalledProcessError."""
    clone = work / "clone"
    out = clone / "dist"

    def run(*command: str | Path, **more: str) -> None:
        subprocess.run(
            [str(word) for word in command],
            cwd=clone, env=_environment() | environment | more, umask=umask, check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip

    clone_of(tag, clone)
    when = subprocess.run(
        ["git", "-C", clone, "log", "-1", "--format=%ct"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    run("packaging/wheel", out)
    version = tag.removeprefix("v")
    for release in ("bookworm", "trixie"):
        run("packaging/deb", release, out)
    for wheel in out.glob("*.whl"):
        with wheel.with_suffix(".cdx.json").open("wb") as file:
            subprocess.run(
                [sys.executable, "packaging/sbom.py", "--lock", "requirements/run.txt",
                 "--only-locked", "--name", "treehouse-proxy", "--version", version,
                 "--kind", "wheel", _site_packages()],
                cwd=clone, env=_environment() | environment | {"SOURCE_DATE_EPOCH": when},
                check=True, stdout=file,
            )  # fmt: skip
    run("packaging/image/build", out)
    for report in out.glob("lintian-*.txt"):
        report.unlink()
    return out


def _environment() -> dict[str, str]:
    """Return the environment of a build: no more than it may know of this machine."""
    kept = (
        "PATH",
        "HOME",
        "DEBIAN_MIRROR",
        "PIP_CERT",
        "PIP_INDEX_URL",
        "http_proxy",
        "https_proxy",
    )
    known = {name: os.environ[name] for name in kept if name in os.environ}
    return known | {
        "PYTHON": sys.executable,
        "PACKAGING_CACHE": os.environ.get("PACKAGING_CACHE", str(REPOSITORY / ".run/packaging")),
    }


def _site_packages() -> str:
    return next(path for path in sys.path if path.endswith("site-packages"))


def sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder, by name."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Return the names whose sums are not the same in both, or that are in one of them only."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def expected(version: str, architecture: str) -> set[str]:
    """Return the names of all files of a release, but for the sums."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(architecture, architecture)
    tags = ["py3-none-any"]
    # One for the Python of each release; no symbol of a newer C library is in the lane.
    tags += [f"{python}-{python}-manylinux_2_17_{machine}" for python in ("cp311", "cp313")]
    wheels = [f"treehouse_proxy-{version}-{one}" for one in tags]
    debs = [f"treehouse-proxy_{debian(version)}-1~deb{one}_{architecture}" for one in (12, 13)]
    image = f"treehouse-proxy_{version}_{architecture}.oci"
    return {
        *(f"{wheel}.{ending}" for wheel in wheels for ending in ("whl", "cdx.json")),
        *(f"{deb}.{ending}" for deb in debs for ending in ("deb", "cdx.json")),
        *(f"{image}.{ending}" for ending in ("tar", "cdx.json")),
    }


def release(target: Path) -> None:
    """Build HEAD's tag twice and put it into ``target``. Raises `Unclear`."""
    (version,) = release_tags()
    if os.geteuid() != 0:
        raise Unclear("packages and the image are built in chroots (sudo make release)")
    architecture = subprocess.run(
        ["dpkg", "--print-architecture"], check=True, capture_output=True, text=True
    ).stdout.strip()
    works = [tempfile.mkdtemp(prefix=f"treehouse-{word}-", dir="/var/tmp") for word in _WORKS]
    try:
        print(f"building {version}", flush=True)
        first = build(f"v{version}", Path(works[0]), _FIRST, 0o022)
        print(f"building {version} once more, elsewhere and otherwise", flush=True)
        again = build(f"v{version}", Path(works[1]), _SECOND, 0o077)
        one, other = sums(first), sums(again)
        if wrong := differences(one, other):
            raise Unclear(f"two builds differ: {', '.join(wrong)} ({works[0]} and {works[1]})")
        if one.keys() != expected(version, architecture):
            raise Unclear(f"other files than a release has were built: {', '.join(one)}")
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in one:
            shutil.copyfile(first / name, target / name)
        lines = "".join(f"{digest}  {name}\n" for name, digest in one.items())
        (target / "SHA256SUMS").write_text(lines)
    except Unclear:
        works.clear()  # to be compared
        raise
    finally:
        for work in works:
            subprocess.run(["rm", "-rf", "--one-file-system", work], check=True)
    print(f"two builds of {version} are the same, byte by byte:\n{lines}in {target}")


def main() -> int:
    try:
        found = list(obstacles())
        for sentence in found:
            print(f"no release: {sentence}", file=sys.stderr)
        if found:
            return 1
        if sys.argv[1] != "--check":
            release(Path(sys.argv[1]).absolute())
    except Unclear as why:
        print(f"no release: {why}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"no release: {error.cmd[0]} failed with status {error.returncode}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
