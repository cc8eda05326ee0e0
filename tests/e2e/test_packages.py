"""What packages are made of, in seconds. `make test-packages` makes all of them, twice, and tries them
in real Debians (`tests/trials`)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from proxy.accelerated.build import build
from support.program.checkout import Checkout
from support.program.server import REPOSITORY

SCRIPTS = ["postinst", "prerm", "postrm"]


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


def test_a_wheel_with_the_lane_is_the_pure_one_and_the_lane(
    checkout: Checkout, folder: Path
) -> None:
    checkout.git("tag", "v4.5.6")
    done = checkout.runs("packaging/wheel", "dist")
    assert done.returncode == 0, done.stderr
    pure = checkout.folder / "dist/treehouse_proxy-4.5.6-py3-none-any.whl"
    lane = build(folder)
    wheels = []
    for place in ("one", "other"):
        (folder / place).mkdir()
        done = checkout.runs(
            sys.executable, "packaging/platform_wheel.py", str(pure), str(lane), str(folder / place),
            SOURCE_DATE_EPOCH="1767323045",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        wheels.append(Path(done.stdout.strip()))
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    found = re.fullmatch(rf"treehouse_proxy-4\.5\.6-{python}-{python}-(manylinux_2_\d+_\w+)\.whl", wheels[0].name)  # fmt: skip
    assert found, wheels[0]
    assert wheels[0].read_bytes() == wheels[1].read_bytes()
    with zipfile.ZipFile(pure) as before, zipfile.ZipFile(wheels[0]) as after:
        own = {
            f"proxy/accelerated/{lane.name}",
            "treehouse_proxy-4.5.6.dist-info/WHEEL",
            "treehouse_proxy-4.5.6.dist-info/RECORD",
        }
        assert set(after.namelist()) == set(before.namelist()) | own
        same = set(before.namelist()) - own
        assert all(after.read(name) == before.read(name) for name in same)
        about = after.read("treehouse_proxy-4.5.6.dist-info/WHEEL").decode()
        assert f"Root-Is-Purelib: false\nTag: {python}-{python}-{found[1]}\n" in about
    # pip checks every file against the record, and prefers this wheel to the pure one beside it.
    shutil.copy(pure, folder / "one")
    environment = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "--python", environment,
         "install", "--no-index", "--no-deps", "--no-compile", "--find-links", folder / "one",
         "treehouse-proxy"],
        check=True,
    )  # fmt: skip
    ask = "import proxy.accelerated as found; print(found.lane.__file__, found.fault)"
    done = subprocess.run(
        [environment / "bin/python", "-I", "-c", ask], capture_output=True, text=True, check=True
    )
    (installed,) = environment.rglob(lane.name)
    assert done.stdout == f"{installed} \n"
    assert installed.read_bytes() == lane.read_bytes()


def test_what_is_no_lane_makes_no_wheel(folder: Path) -> None:
    (folder / "lane.so").write_text("")
    done = subprocess.run(
        [sys.executable, REPOSITORY / "packaging/platform_wheel.py", "a.whl", folder / "lane.so", folder],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "lane.so is no extension module of CPython" in done.stderr
    assert not list(folder.glob("*.whl"))


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


# The maintainer scripts in a root of their own, where the programs that they call only take notes.

_NOTED = ["adduser", "deluser", "deb-systemd-helper", "deb-systemd-invoke", "systemctl", "getent"]


class FakeRoot:
    """A folder that maintainer scripts take for /. In place of the programs that they call there are
    scripts, which only note how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = folder / "notes"
        folder.mkdir()
        self.notes.touch()
        for name in (
            "bin",
            "etc/treehouse-proxy/sites.d",
            "var/lib",
            "var/log",
            "usr/lib/treehouse-proxy/bin",
        ):
            (folder / name).mkdir(parents=True)
        for name in _NOTED:
            self.program(f"bin/{name}", "")
        self.program("usr/lib/treehouse-proxy/bin/python", "")
        self.program("usr/lib/treehouse-proxy/bin/treehouse-proxy", "")
        # `install` would need the user treehouse; who owns the folders is asked in the trials.
        self.program("bin/install", 'for last; do :; done; mkdir -p "$last"')

    def program(self, path: str, body: str) -> None:
        made = self.folder / path
        made.write_text(f'#!/bin/sh\necho "{made.name} $*" >> {self.notes}\n{body}\n')
        made.chmod(0o755)

    def boot(self) -> None:
        """Let the scripts believe that systemd runs."""
        (self.folder / "run/systemd/system").mkdir(parents=True)

    def runs(self, script: str, *arguments: str) -> str:
        """Run a script; return the calls that it made, and what it said on standard error."""
        text = (REPOSITORY / "packaging/debian" / script).read_text()
        text = re.sub(r"([ =])/(usr/lib|etc|var|run)/", rf"\1{self.folder}/\2/", text)
        copy = self.folder / script
        copy.write_text(text)
        self.notes.write_text("")
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", str(copy), *arguments], env={"PATH": path}, check=False, timeout=60,
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return self.notes.read_text() + done.stderr


@pytest.fixture
def fake(folder: Path) -> FakeRoot:
    return FakeRoot(folder / "root")


def test_installing_makes_the_user_and_starts_the_service(fake: FakeRoot) -> None:
    fake.program("bin/getent", "exit 2")
    without = fake.runs("postinst", "configure", "")
    assert "adduser --system --group --quiet --no-create-home" in without
    assert "treehouse" in without
    assert (fake.folder / "var/lib/treehouse-proxy").is_dir()
    assert (fake.folder / "var/log/treehouse-proxy").is_dir()
    assert "deb-systemd-helper" in without
    assert "deb-systemd-invoke" not in without  # a chroot, where an image is made
    fake.boot()
    fake.program("bin/getent", "")
    again = fake.runs("postinst", "configure", "")
    assert "adduser" not in again
    assert "deb-systemd-invoke start treehouse-proxy.service" in again
    fake.program("bin/deb-systemd-invoke", "exit 1")
    assert "journalctl -u treehouse-proxy -n 20" in fake.runs("postinst", "configure", "")


def test_an_upgrade_stops_nothing_and_hands_over(fake: FakeRoot) -> None:
    fake.boot()
    before = fake.runs("prerm", "upgrade", "1.0.1-1")
    assert "stop" not in before
    running = 'case "$1" in status) echo \'{"pid": 12}\';; esac'
    fake.program("usr/lib/treehouse-proxy/bin/treehouse-proxy", running)
    told = fake.runs("postinst", "configure", "1.0.0-1")
    assert "treehouse-proxy upgrade --config" in told
    assert not re.search(r"invoke|restart", told)
    failing = f"{running}; [ $1 != upgrade ]"
    fake.program("usr/lib/treehouse-proxy/bin/treehouse-proxy", failing)
    assert "the program from before goes on serving" in fake.runs(
        "postinst", "configure", "1.0.0-1"
    )
    # Where no server runs there is nothing to hand over, and nothing is started.
    fake.program("usr/lib/treehouse-proxy/bin/treehouse-proxy", "echo '{\"pid\": null}'")
    told = fake.runs("postinst", "configure", "1.0.0-1")
    assert not re.search(r"proxy upgrade|invoke", told)


def test_a_removal_stops_and_keeps_what_a_purge_deletes(fake: FakeRoot) -> None:
    fake.boot()
    fake.runs("postinst", "configure", "")
    state = fake.folder / "var/lib/treehouse-proxy/key.pem"
    state.write_text("")
    compiled = fake.folder / "usr/lib/treehouse-proxy/lib/__pycache__"
    compiled.mkdir(parents=True)
    removed = fake.runs("prerm", "remove")
    assert "deb-systemd-invoke stop treehouse-proxy.service" in removed
    assert "treehouse-proxy stop --config" in removed
    assert not compiled.exists()
    fake.runs("postrm", "remove")
    assert state.exists()
    # An administrator's own user of that name stays; ours has the home that postinst gives.
    fake.program("bin/getent", "echo treehouse:x:1000:1000::/home/treehouse:/bin/bash")
    assert "deluser" not in fake.runs("postrm", "purge")
    assert not state.exists()
    fake.program(
        "bin/getent", "echo treehouse:x:101:102::/var/lib/treehouse-proxy:/usr/sbin/nologin"
    )
    assert "deluser --system --quiet treehouse" in fake.runs("postrm", "purge")
    # What a removal has left starts again; dpkg names the version from before then, too.
    masked = fake.folder / "var/lib/systemd/deb-systemd-helper-masked/treehouse-proxy.service"
    masked.parent.mkdir(parents=True)
    masked.touch()
    (fake.folder / "usr/lib/treehouse-proxy/bin").mkdir(parents=True, exist_ok=True)
    told = fake.runs("postinst", "configure", "1.0.0-1")
    assert "deb-systemd-invoke start treehouse-proxy.service" in told
    assert not (fake.folder / "etc/treehouse-proxy").exists()
    (fake.folder / "etc/treehouse-proxy/sites.d").mkdir(parents=True)
    own = fake.folder / "etc/treehouse-proxy/sites.d/own.yaml"
    own.write_text("")
    fake.runs("postrm", "purge")
    assert own.exists()
