"""The life of the Debian package on Debian 12 and 13, with systemd as process 1 and without a network:
installed by apt, upgraded and downgraded while clients ask, removed, installed again, purged.

    make test-packages

makes two versions of the package for each release and runs this. What it finds becomes the table in
docs/packages.md. The machine has what a small server has, in namespaces of its own (`Booted`); the
packages that ours depends on lie in apt's cache there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from support.http.client import http, https
from support.program.booted import Booted
from trials.report import Row, write
from trials.visitors import FROM_APP, HOST, PAGE, Load

# A folder with old/ and new/, two versions of the packages, and the one with the bare systems.
TRY = Path(os.environ.get("PACKAGES_TRY", "/nonexistent"))
SYSTEMS = Path(os.environ.get("PACKAGING_CACHE", TRY.parent))
RELEASES = {"bookworm": 12, "trixie": 13}
UNIT = "treehouse-proxy.service"
UNPRIVILEGED = "treehouse-proxy-unprivileged.service"
SOCKETS = ("treehouse-proxy-http.socket", "treehouse-proxy-https.socket")
CONFIG = "/etc/treehouse-proxy/config.yaml"
SITE_FILE = "/etc/treehouse-proxy/sites.d/localhost.yaml"
SITE = """sites:
  - names: [localhost]
    routes:
      - {path: /app/*, backend: "http://127.0.0.1:3000", strip_prefix: true}
      - {path: /*, root: /srv/www}
"""
DEB = "/tmp/treehouse-proxy.deb"
APT = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-qq", "--no-install-recommends",
       "-o", "Dpkg::Options::=--force-confold")  # fmt: skip
WITHIN = 120.0  # seconds; other builds may share the machine
# What programs of the system write as they run, or apt with every package.
_OF_THE_SYSTEM = re.compile(
    r"/(proc|sys|dev|run|tmp|var/tmp|var/cache|var/log/(apt|journal)|var/lib/(apt|dpkg|systemd/catalog))(/|$)"
    r"|/var/log/(dpkg|alternatives|lastlog|faillog|btmp|wtmp)|/etc/ld\.so\.cache"
    r"|/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$|.*/__pycache__(/|$)"
    r"|/var/lib/systemd/(linger|random-seed|timesync|timers|credential\.secret)"
)

pytestmark = [
    pytest.mark.skipif(not TRY.is_dir(), reason="make test-packages"),
    pytest.mark.timeout(3600),
]


class Machine:
    """A Debian with systemd, and what is done to the package on it."""

    def __init__(self, release: str, booted: Booted) -> None:
        self.release, self.booted = release, booted
        self.run = booted.run

    def package(self, which: str) -> Path:
        (found,) = (TRY / which).glob(f"*~deb{RELEASES[self.release]}_*.deb")
        return found

    def install(self, which: str, *options: str) -> float:
        """By apt, as a person would; the seconds that it took."""
        self.booted.put(DEB, self.package(which).read_bytes())
        began = time.monotonic()
        self.run(*APT, *options, "install", DEB, timeout=600)
        return time.monotonic() - began

    def shown(self, unit: str, name: str) -> str:
        return self.run("systemctl", "show", "--value", "-p", name, unit).strip()

    def journal(self, unit: str = UNIT) -> str:
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit)

    def running(self) -> str:
        """The version of the server that runs, not of the program on disk."""
        found = re.search(r'"version": "([^"]+)"', self.status())
        assert found is not None
        return found[1]

    def status(self) -> str:
        return self.run("treehouse-proxy", "status", "--json", "--config", CONFIG)

    def ca(self) -> bytes:
        return self.run("cat", "/var/lib/treehouse-proxy/internal-ca/root.pem").encode()

    def certificate(self) -> str:
        return self.run("cat", f"/var/lib/treehouse-proxy/certificates/{HOST}/fullchain.pem")

    def load(self) -> Load:
        return Load(self.booted.entered, self.ca())

    def exists(self, path: str) -> bool:
        return self.run("sh", "-c", f"test -e {path} && echo yes || true") == "yes\n"

    def files(self) -> set[str]:
        """What lies in this system, but for what changes by itself."""
        listed = self.run("find", "/", "-xdev", "-print").splitlines()
        return {name for name in listed if not _OF_THE_SYSTEM.match(name)}

    def accounts(self) -> str:
        return self.run("sh", "-c", "getent passwd; getent group")

    def units(self) -> str:
        """Those that systemd knows, loaded or as files."""
        return self.run("systemctl", "list-unit-files", "--no-legend", "--no-pager", "treehouse*", check=False)  # fmt: skip

    def await_page(self) -> None:
        """Until the certificate is there, a handshake is refused."""
        self.await_that(self._has_page)

    def _has_page(self) -> bool:
        try:
            with self.booted.entered(), https(443, HOST, None) as talk:
                return talk.asks("/", HOST).body == PAGE
        except OSError:
            return False

    def await_that(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WITHIN
        while not happened():
            assert time.monotonic() < deadline, self.journal()
            time.sleep(0.1)  # another program's state


@pytest.fixture(params=list(RELEASES))
def machine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    root = tmp_path_factory.mktemp(request.param)
    subprocess.run(["tar", "-C", root, "-xf", SYSTEMS / f"{request.param}-booted.tar"], check=True)
    root.chmod(0o755)
    try:
        with Booted(root, tmp_path_factory.mktemp("machine")) as booted:
            yield Machine(request.param, booted)
    finally:
        subprocess.run(["rm", "-rf", "--one-file-system", root], check=True)


@pytest.fixture
def keep() -> Callable[[Row], None]:
    """Takes what was found of one release. With that of both, the table is written."""

    def kept(row: Row) -> None:
        (TRY / f"found-{row.debian}.json").write_text(json.dumps(asdict(row)))
        found = [Row(**json.loads(path.read_text())) for path in TRY.glob("found-*.json")]
        if {row.debian for row in found} == set(RELEASES.values()):
            write(found)

    return kept


def test_the_life_of_a_package(machine: Machine, keep: Callable[[Row], None]) -> None:
    row = Row(RELEASES[machine.release], machine.run("systemctl", "--version").split()[1])
    # What it depends on stays when it goes, as on any machine that has it anyway.
    depends = ("dpkg-deb", "-f", str(machine.package("old")), "Depends")
    words = subprocess.run(depends, check=True, capture_output=True, text=True).stdout.strip()
    machine.run(*APT, "satisfy", words, timeout=600)
    before = machine.files(), machine.accounts()
    _installed(machine, row)
    _configured(machine)
    _upgraded(machine, row)
    _conffiles(machine, row)
    _without_root(machine, row)
    _removed_and_purged(machine, row, before)
    keep(row)


def _installed(machine: Machine, row: Row) -> None:
    """It runs, serves nothing, and says so."""
    row.install = machine.install("old")
    _accelerated(machine)
    assert machine.shown(UNIT, "ActiveState") == "active", machine.journal()
    assert machine.run("systemctl", "is-enabled", UNIT) == "enabled\n"
    nothing = "there is no site yet: nothing is served (write a site in /etc/treehouse-proxy/sites.d/*.yaml, then reload)"
    assert nothing in machine.journal()
    assert nothing in machine.run("treehouse-proxy", "check")
    assert "serving 0 sites" in machine.shown(UNIT, "StatusText")
    with machine.booted.entered():
        assert http(80).asks("/", HOST).status == 404
    with pytest.raises(OSError, match=r"(?i)unrecognized.name"), machine.booted.entered():
        https(443, HOST, None)
    assert re.match(r"treehouse:x:\d+:\d+:", machine.run("getent", "passwd", "treehouse"))
    facts = machine.run("stat", "-c", "%U:%G %a", "/var/lib/treehouse-proxy", "/var/log/treehouse-proxy")  # fmt: skip
    assert facts == "treehouse:treehouse 700\ntreehouse:adm 750\n"
    for path in (
        "/usr/share/man/man1/treehouse-proxy.1.gz",
        "/usr/share/bash-completion/completions/treehouse-proxy",
        "/usr/share/zsh/vendor-completions/_treehouse-proxy",
        "/usr/share/fish/vendor_completions.d/treehouse-proxy.fish",
        "/usr/share/doc/treehouse-proxy/reference.yaml",
        "/etc/logrotate.d/treehouse-proxy",
    ):
        assert machine.exists(path), path
    # Nothing that is carried lacks something, at its place or in this Python.
    carried = "import acme, h2, lexicon.client, opentelemetry.sdk.trace, uvloop, zlib_ng, brotli, bcrypt"  # fmt: skip
    machine.run("/usr/lib/treehouse-proxy/bin/python", "-W", "error::ImportWarning", "-c", carried)
    for unit in (UNIT, UNPRIVILEGED):
        path = f"/usr/lib/systemd/system/{unit}"
        assert machine.run("systemd-analyze", "verify", "--man=no", path) == ""


def _accelerated(machine: Machine) -> None:
    """The package has the lane of this release's Python; where it cannot be loaded, the program runs
    without it, and says why."""
    version = "treehouse-proxy, version 1.0.0"
    assert machine.run("treehouse-proxy", "--version") == f"{version} (accelerated lane)\n"
    lane = machine.run("find", "/usr/lib/treehouse-proxy", "-name", "lane.*.so").strip()
    machine.run("mv", lane, "/tmp/lane")
    machine.booted.put(lane, b"of another machine")
    said = machine.run("treehouse-proxy", "--version")
    assert said.startswith(f"{version} (pure Python: the accelerated lane cannot be loaded: ")
    machine.run("systemctl", "restart", UNIT)
    assert machine.shown(UNIT, "ActiveState") == "active", machine.journal()
    machine.run("mv", "/tmp/lane", lane)
    machine.run("chmod", "644", lane)
    machine.run("systemctl", "restart", UNIT)


def _configured(machine: Machine) -> None:
    """A site with a certificate of the built-in CA. What runs is the user treehouse, without any
    privilege."""
    machine.booted.write("/srv/www/index.html", PAGE.decode())
    machine.booted.write("/srv/app/answer.txt", FROM_APP.decode())
    app = ("python3", "-m", "http.server", "3000", "--bind", "127.0.0.1", "--directory", "/srv/app")
    machine.run("systemd-run", "--unit=app", "--quiet", "-p", "User=nobody", *app)
    machine.booted.write(SITE_FILE, SITE)
    assert "valid: 1 sites, 1 names" in machine.run("treehouse-proxy", "check")
    machine.run("systemctl", "reload", UNIT)
    machine.await_page()
    # systemd runs the reload as root, and leaves the state to the user that the server became.
    machine.run("systemctl", "reload", UNIT)
    owners = machine.run("find", "/var/lib/treehouse-proxy", "-printf", "%u:%g\\n").split()
    assert set(owners) == {"treehouse:treehouse"}
    uid = machine.run("id", "-u", "treehouse").strip()
    for pid in re.findall(r'"pid": (\d+)', machine.status()):
        status = machine.run("cat", f"/proc/{pid}/status")
        assert re.search(rf"^Uid:\t{uid}\t{uid}\t{uid}\t{uid}$", status, re.MULTILINE)
        assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    machine.await_that(lambda: "serving 1 site" in machine.shown(UNIT, "StatusText"))


def _upgraded(machine: Machine, row: Row) -> None:
    """To the newer version, back to the older one, and to one whose program cannot serve."""
    certificate, process = machine.certificate(), machine.shown(UNIT, "MainPID")
    load = machine.load()
    with load.throughout():
        row.upgrade = machine.install("new")
    row.asked, row.slowest = load.done, load.slowest
    assert machine.running() == "1.0.1", machine.journal()
    successor = machine.shown(UNIT, "MainPID")
    assert successor != process
    assert machine.certificate() == certificate
    _is_well(machine, UNIT)

    load = machine.load()
    with load.throughout():
        machine.install("old", "--allow-downgrades")
    row.back = sum(load.done.values())
    assert machine.running() == "1.0.0", machine.journal()
    _is_well(machine, UNIT)

    # The package is installed, the old program goes on, and the upgrade says so and how to mend it.
    machine.booted.write(SITE_FILE, SITE.replace("root", "rot"))
    process = machine.shown(UNIT, "MainPID")
    machine.booted.put(DEB, machine.package("new").read_bytes())
    load = machine.load()
    with load.throughout():
        said = machine.run("dpkg", "-i", DEB, timeout=600)
    row.broken = sum(load.done.values())
    assert "the program from before goes on serving" in said
    assert (machine.running(), machine.shown(UNIT, "MainPID")) == ("1.0.0", process)
    assert machine.run("dpkg-query", "-W", "-f", "${Status} ${Version}", "treehouse-proxy").startswith(
        "install ok installed 1.0.1"
    )  # fmt: skip
    machine.booted.write(SITE_FILE, SITE)
    assert "upgraded: process" in machine.run("treehouse-proxy", "upgrade")
    assert machine.running() == "1.0.1"
    # Reloads and restarts reach the program that serves now.
    machine.run("systemctl", "reload", UNIT)
    _is_well(machine, UNIT)


def _is_well(machine: Machine, unit: str) -> None:
    assert machine.shown(unit, "ActiveState") == "active"
    assert machine.shown(unit, "NRestarts") == "0"
    machine.await_page()


def _conffiles(machine: Machine, row: Row) -> None:
    """A newer package with another config.yaml: taken where nobody has changed it, asked for where
    somebody has. Without anybody to answer, the person's file stays."""
    work = "/tmp/other"
    machine.booted.put(DEB, machine.package("new").read_bytes())
    for number in (2, 3):
        machine.run("rm", "-rf", work)
        machine.run("dpkg-deb", "-R", DEB, work)
        machine.run("sh", "-c", f"echo '# of version 1.0.{number}' >> {work}{CONFIG}")
        machine.run(
            "sed", "-i", f"s/^Version: .*/Version: 1.0.{number}-1/", f"{work}/DEBIAN/control"
        )
        machine.run("dpkg-deb", "-Znone", "-b", work, f"/tmp/{number}.deb")
    machine.run("dpkg", "-i", "/tmp/2.deb", timeout=600)
    assert "# of version 1.0.2" in machine.run("cat", CONFIG)
    machine.run("sh", "-c", f"echo '# our own line' >> {CONFIG}")
    asked = machine.run("dpkg", "-i", "/tmp/3.deb", timeout=600, check=False)
    assert f"Configuration file '{CONFIG}'" in asked
    assert "end of file on stdin at conffile prompt" in asked
    machine.run("dpkg", "--force-confold", "--configure", "-a", timeout=600)
    assert "# our own line" in machine.run("cat", CONFIG)
    assert "# of version 1.0.3" in machine.run("cat", f"{CONFIG}.dpkg-dist")
    machine.run("rm", f"{CONFIG}.dpkg-dist", "/tmp/2.deb", "/tmp/3.deb")
    machine.run("rm", "-rf", work)
    _is_well(machine, UNIT)
    row.conffile = True


def _without_root(machine: Machine, row: Row) -> None:
    """The other unit, by its sockets; the package leaves that choice alone."""
    machine.run("systemctl", "disable", "--now", UNIT)
    machine.run("systemctl", "enable", "--now", *SOCKETS)
    machine.await_page()
    load = machine.load()
    with load.throughout():
        machine.install("new", "--allow-downgrades")
    row.without_root = sum(load.done.values())
    _is_well(machine, UNPRIVILEGED)
    assert machine.run("systemctl", "is-enabled", UNIT, check=False) == "disabled\n"
    assert machine.shown(UNIT, "ActiveState") == "inactive"
    machine.run("systemctl", "disable", "--now", *SOCKETS, UNPRIVILEGED)
    machine.run("systemctl", "enable", "--now", UNIT)
    machine.await_page()


def _removed_and_purged(machine: Machine, row: Row, before: tuple[set[str], str]) -> None:
    files, accounts = before
    certificate = machine.certificate()
    machine.run(*APT, "remove", "treehouse-proxy", timeout=600)
    assert machine.shown(UNIT, "ActiveState") == "inactive"
    assert machine.shown(UNIT, "Result") == "success"
    assert "treehouse" not in machine.run("ps", "-eo", "user:20,args")
    assert not machine.exists("/usr/lib/treehouse-proxy")
    assert not machine.exists(f"/usr/lib/systemd/system/{UNIT}")
    # What cannot be had again is there.
    assert machine.certificate() == certificate
    for path in (CONFIG, SITE_FILE, "/var/log/treehouse-proxy"):
        assert machine.exists(path), path
    row.removed = True

    machine.install("new")
    machine.await_page()
    assert machine.certificate() == certificate
    assert machine.run("systemctl", "is-enabled", UNIT) == "enabled\n"
    row.again = True

    # The administrator's own file stays, and the folders that it is in; all else goes.
    machine.run(*APT, "purge", "treehouse-proxy", timeout=600)
    ours = {os.path.dirname(os.path.dirname(SITE_FILE)), os.path.dirname(SITE_FILE), SITE_FILE}
    assert ours <= machine.files() - files
    machine.run("rm", "-r", "/etc/treehouse-proxy", "/srv/www", "/srv/app")
    assert machine.files() - files == set()
    assert files - machine.files() == set()
    assert machine.accounts() == accounts
    assert machine.units() == ""
    row.purged = True

    # Removed and purged in one go, where nobody has put anything of their own.
    machine.install("new")
    machine.run(*APT, "purge", "treehouse-proxy", timeout=600)
    assert machine.files() - files == set()
    assert machine.accounts() == accounts
