"""What packages are made of, in seconds. `make test-packages` makes all of them, twice, and tries them
in real Debians (`tests/trials`)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from support.program.server import REPOSITORY

SCRIPTS = ["postinst", "prerm", "postrm"]
WHEN = "2026-01-02T03:04:05Z"


class Checkout:
    """A repository of its own with the files of this one, and one commit."""

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


@pytest.fixture
def checkout(folder: Path) -> Checkout:
    return Checkout(folder / "checkout")


def test_versions_come_from_tags(checkout: Checkout) -> None:
    assert checkout.version().startswith("0.1.0.dev1+g")
    assert checkout.version("--debian").startswith("0.1.0~dev1+g")
    checkout.git("tag", "v1.2.0rc1")
    checkout.git("tag", "unrelated")
    assert checkout.version() == "1.2.0rc1"
    assert checkout.version("--debian") == "1.2.0~rc1"
    (checkout.folder / "new.txt").write_text("")
    assert checkout.version() == "1.2.0rc1+dirty"
    checkout.commit()
    # A release candidate is followed by its release, a release by the next one.
    assert checkout.version().startswith("1.2.0.dev1+g")
    checkout.git("tag", "v1.2.0")
    assert checkout.version() == "1.2.0"
    (checkout.folder / "newer.txt").write_text("")
    checkout.commit()
    between = checkout.version("--debian")
    assert between.startswith("1.2.1~dev1+g")
    for before, after in [("1.2.0~rc1", "1.2.0"), ("1.2.0", between), (between, "1.2.1")]:
        compared = ["dpkg", "--compare-versions", before, "lt", after]
        assert subprocess.run(compared, check=False).returncode == 0, (before, after)
    checkout.git("tag", "v1.3.0")
    checkout.git("tag", "v1.3.1")
    done = checkout.runs(sys.executable, "packaging/version.py")
    assert done.returncode == 1
    assert "HEAD has several tags: 1.3.0, 1.3.1" in done.stderr
    refused = checkout.runs(sys.executable, "packaging/version.py", PACKAGE_VERSION="1;2")
    assert "is no version such as 1.2.3" in refused.stderr


def test_the_wheel_has_everything_and_two_of_them_are_the_same(checkout: Checkout) -> None:
    checkout.git("tag", "v4.5.6")
    wheels = []
    # Another checkout, by somebody with another umask, at another time.
    other = checkout.folder.parent / "other"
    checkout.git("clone", "-q", str(checkout.folder), str(other))
    subprocess.run(["chmod", "-R", "go-rwx", str(other)], check=True)
    for place in (checkout.folder, other):
        done = checkout.runs(str(place / "packaging/wheel"), str(place / "dist"))
        assert done.returncode == 0, done.stderr
        (wheel,) = (place / "dist").glob("*.whl")
        wheels.append(wheel)
    assert wheels[0].name == "treehouse_proxy-4.5.6-py3-none-any.whl"
    assert wheels[0].read_bytes() == wheels[1].read_bytes()
    with zipfile.ZipFile(wheels[0]) as archive:
        names = set(archive.namelist())
        assert 'VERSION = "4.5.6"' in archive.read("proxy/version.py").decode()
        modes = {one.external_attr >> 16 & 0o777 for one in archive.infolist()}
    assert modes <= {0o644, 0o664, 0o755}
    # Whatever git knows of the packages and their data is in it: a page that lacks its script is none.
    known = subprocess.run(
        ["git", "ls-files", "proxy", "acme_client"],
        cwd=checkout.folder, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert not set(known) - names
    assert {"proxy/worker/admin/page.html", "proxy/worker/admin/page.js"} <= names
    share = "treehouse_proxy-4.5.6.data/data/share"
    for path in (
        "man/man1/treehouse-proxy.1",
        "doc/treehouse-proxy/schema.json",
        "doc/treehouse-proxy/reference.yaml",
        *(f"treehouse-proxy/systemd/{one.name}" for one in (REPOSITORY / "config/systemd").iterdir()),
        *(f"doc/treehouse-proxy/examples/{one.name}" for one in (REPOSITORY / "config/examples").iterdir()),
    ):  # fmt: skip
        assert f"{share}/{path}" in names
    # And nothing of what only developers need.
    assert not [
        name for name in names if name.split("/")[0] in ("tests", "packaging", "benchmarks")
    ]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_maintainer_script_is_a_shell_script(script: str) -> None:
    path = REPOSITORY / "packaging/debian" / script
    text = path.read_text()
    assert text.startswith("#!/bin/sh\n")
    assert "\nset -e\n" in text
    assert os.access(path, os.X_OK)
    subprocess.run(["dash", "-n", str(path)], check=True)
    # What dpkg never says is a mistake, and is told.
    done = subprocess.run([str(path), "nonsense"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "unknown argument `nonsense'" in done.stderr


def test_the_configuration_of_the_package_is_one_and_serves_nothing(
    folder: Path, root: Path
) -> None:
    text = (REPOSITORY / "packaging/debian/config.yaml").read_text()
    (folder / "sites.d").mkdir()
    path = folder / "config.yaml"
    path.write_text(
        text.replace("treehouse\n", "nobody\n", 1).replace("group: treehouse", "group: nogroup")
    )
    ports = ["--http-port", "8080", "--https-port", "8443", "--state", str(folder / "state")]
    check = [sys.executable, "-m", "proxy", "check", "--config", str(path), *ports]
    done = subprocess.run(check, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "valid: 0 sites, 0 names\n"), done.stderr
    assert "there is no site yet: nothing is served (write a site in " in done.stderr
    # The example in its comment is a site.
    example = [line[4:] for line in text.splitlines() if line.startswith("#   ")]
    site = "\n".join(line for line in example if not line.startswith("treehouse"))
    (folder / "sites.d/example.org.yaml").write_text(
        site.replace("/srv/www/example.org", str(root))
    )
    done = subprocess.run(check, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "valid: 2 sites, 3 names\n"), done.stderr
    assert "no site yet" not in done.stderr


def test_the_packages_carry_what_the_tests_ran_with() -> None:
    """The same versions in all three lock files."""
    pins: dict[str, set[str]] = {}
    for name in ("run", "dev", "packages"):
        for line in (REPOSITORY / f"requirements/{name}.txt").read_text().splitlines():
            package, equals, version = line.partition("==")
            if equals and not line.startswith((" ", "#")):
                pins.setdefault(package, set()).add(version.split()[0])
    assert "dns-lexicon" in pins
    assert {name: found for name, found in pins.items() if len(found) > 1} == {}
