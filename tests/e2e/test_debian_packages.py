"""The Debian package in a Debian: installed, upgraded while clients ask, removed and purged, with nothing
but what a bare system of that release has.

    make test-packages

makes two versions of it for each release and runs this. There is no systemd in a chroot: the server is
started by hand, as another service manager would. The package's scripts talk to it as they do under
systemd, over its control socket. At the end stands a table for docs/packages.md.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.http.client import Talk, context, http, https
from support.http.load_clients import Visitors
from support.program.netns import Netns

# A folder with old/ and new/, two versions of the packages, and the bare systems beside it.
TRY = Path(os.environ.get("PACKAGES_TRY", "/nonexistent"))
RELEASES = {"bookworm": 12, "trixie": 13}
SITE = "sites: [{names: [localhost], root: /srv/www}]\n"
CONFIG = "/etc/treehouse-proxy/config.yaml"
CLIENTS = 8
WITHIN = 120.0  # seconds; other builds may share the machine
# What programs of the system write as they run.
_OF_THE_SYSTEM = re.compile(
    r"/(proc|sys|dev|run|tmp|var/(cache|log/(apt|dpkg|alternatives|lastlog|faillog|btmp|wtmp)|lib/(apt|dpkg|systemd|pam|logrotate)))\b"
    r"|/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$"
)
rows: list[str] = []

pytestmark = [
    pytest.mark.skipif(not TRY.is_dir(), reason="make test-packages"),
    pytest.mark.timeout(1800),
]


class Debian:
    """A bare system in a folder. ``netns``: where its servers listen."""

    def __init__(self, release: str, folder: Path, netns: Netns) -> None:
        self.release, self.folder, self.netns = release, folder, netns
        self.server: subprocess.Popen[bytes] | None = None
        self.log = folder / "server.log"
        subprocess.run(["tar", "-C", folder, "-xf", TRY.parent / f"{release}-bare.tar"], check=True)
        subprocess.run(["mount", "-t", "proc", "proc", folder / "proc"], check=True)
        shutil.copy("/etc/resolv.conf", folder / "etc/resolv.conf")

    def close(self) -> None:
        if self.server is not None and self.server.poll() is None:
            self.server.terminate()
            self.server.wait(WITHIN)
        subprocess.run(["umount", self.folder / "proc"], check=True)

    def package(self, which: str) -> Path:
        (found,) = (TRY / which).glob(f"*~deb{RELEASES[self.release]}_*.deb")
        return found

    def command(self, *command: str) -> list[str]:
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "HOME": "/root",
            "DEBIAN_FRONTEND": "noninteractive",
        }
        variables = [f"{name}={value}" for name, value in environment.items()]
        return ["chroot", str(self.folder), "env", "-i", *variables, *command]

    def runs(self, *command: str, status: int = 0) -> str:
        """What it prints, on both streams."""
        done = subprocess.run(
            self.command(*command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900
        )  # fmt: skip
        assert done.returncode == status, (command, done.returncode, done.stdout[-3000:])
        return done.stdout

    def installs(self, which: str) -> float:
        """The seconds that it took."""
        shutil.copy(self.package(which), self.folder / "tmp/treehouse-proxy.deb")
        began = time.monotonic()
        self.runs("dpkg", "--force-confold", "-i", "/tmp/treehouse-proxy.deb")
        return time.monotonic() - began

    def starts(self) -> None:
        """The service as its unit starts it, and wait until it answers."""
        with self.log.open("ab") as log:
            self.server = subprocess.Popen(
                [*self.netns.prefix, *self.command("treehouse-proxy", "--config", CONFIG)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        deadline = time.monotonic() + WITHIN
        while '"pid": null' in self.status() or '"state": "serving"' not in self.status():
            assert self.server.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)  # another program's state

    def status(self) -> str:
        done = subprocess.run(
            self.command("treehouse-proxy", "status", "--json"),
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.stdout or '"pid": null'

    def version(self) -> str:
        """That of the server that runs, not of the program on disk."""
        found = re.search(r'"version": "([^"]+)"', self.status())
        assert found is not None
        return found[1]

    def talk(self, ca: bytes | None = None) -> Talk:
        with self.netns.entered():
            return https(443, "localhost", ca)

    def files(self) -> set[str]:
        """What lies in this system, but for what changes by itself."""
        names = (
            "/" + os.path.relpath(os.path.join(place, name), self.folder)
            for place, folders, files in os.walk(self.folder)
            for name in itertools.chain(folders, files)
        )
        return {
            name
            for name in names
            if not _OF_THE_SYSTEM.match(name)
            and "__pycache__" not in name
            and name != "/server.log"
        }


@pytest.fixture(params=list(RELEASES))
def debian(request: pytest.FixtureRequest, netns: Netns) -> Iterator[Debian]:
    folder = Path(tempfile.mkdtemp(prefix="th-debian-", dir="/var/tmp"))
    folder.chmod(0o755)
    made = Debian(request.param, folder, netns)
    try:
        yield made
    finally:
        made.close()
        subprocess.run(["rm", "-rf", "--one-file-system", folder], check=True)


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    yield
    head = "| Debian | install | upgrade, clients asking | failed | slowest | new program broken | remove | purge |"
    print("", head, "|---|---|---|---|---|---|---|---|", *rows, sep="\n")


class Load:
    """Clients that ask for the page all the while; how many did, and what the slowest waited."""

    def __init__(self, debian: Debian) -> None:
        self.slowest = 0.0
        self._lock = threading.Lock()
        using = context(
            (debian.folder / "var/lib/treehouse-proxy/internal-ca/root.pem").read_bytes()
        )

        def connect() -> Talk:
            with debian.netns.entered():
                return https(443, "localhost", None, using=using)

        def page(talk: Talk) -> bool:
            began = time.monotonic()
            answer = talk.asks("/", "localhost")
            took = time.monotonic() - began
            with self._lock:
                self.slowest = max(self.slowest, took)
            assert (answer.status, answer.body) == (200, b"<p>hello\n"), answer.head
            return answer.get("connection") == "close"

        # A new connection after a hundred requests: handshakes are lost as well as requests are.
        self.visitors: Visitors[Talk] = Visitors(connect, *[page] * CLIENTS, rounds=100)

    @contextlib.contextmanager
    def throughout(self) -> Iterator[None]:
        with self.visitors:
            self.visitors.await_rounds(200)
            yield
            self.visitors.await_rounds(200)
        assert self.visitors.failures == []


def test_the_life_of_a_package(debian: Debian) -> None:
    depends = subprocess.run(
        ["dpkg-deb", "-f", debian.package("old"), "Depends"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    debian.runs("apt-get", "update", "-qq")
    # apt itself finds that the dependencies of the package are enough.
    debian.runs("apt-get", "satisfy", "-y", "-qq", "--no-install-recommends", depends)
    before = debian.files()
    row = [str(RELEASES[debian.release])]

    # Installed: nothing is served, and all is there.
    row.append(f"{debian.installs('old'):.0f} s")
    assert "1.0.0" in debian.runs("treehouse-proxy", "--version")
    assert debian.runs("treehouse-proxy", "check") == "valid: 0 sites, 0 names\n"
    assert re.match(r"treehouse:x:\d+:\d+:", debian.runs("getent", "passwd", "treehouse"))
    facts = debian.runs(
        "stat", "-c", "%U:%G %a", "/var/lib/treehouse-proxy", "/var/log/treehouse-proxy"
    )
    assert facts == "treehouse:treehouse 700\ntreehouse:adm 750\n"
    wanted = debian.folder / "etc/systemd/system/multi-user.target.wants/treehouse-proxy.service"
    assert wanted.is_symlink()
    assert (debian.folder / "usr/share/man/man1/treehouse-proxy.1.gz").is_file()
    # Nothing that is carried lacks something, at its place or in this Python.
    carried = (
        "import acme, h2, lexicon.client, opentelemetry.sdk.trace, uvloop, zlib_ng, brotli, bcrypt"
    )
    debian.runs("/usr/lib/treehouse-proxy/bin/python", "-W", "error::ImportWarning", "-c", carried)
    debian.starts()
    with debian.netns.entered():
        assert http(80).asks("/", "localhost").status == 404
    with pytest.raises(OSError, match=r"unrecognized name|UNRECOGNIZED_NAME"):
        debian.talk()

    # A site: what runs is the user treehouse, and without any privilege.
    (debian.folder / "srv/www").mkdir()
    (debian.folder / "srv/www/index.html").write_text("<p>hello\n")
    (debian.folder / "etc/treehouse-proxy/sites.d/localhost.yaml").write_text(SITE)
    assert "generation 2" in debian.runs("treehouse-proxy", "reload")
    await_page(debian)
    uid = debian.runs("id", "-u", "treehouse").strip()
    for pid in map(int, re.findall(r'"pid": (\d+)', debian.status())):
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(rf"^Uid:\t{uid}\t{uid}\t{uid}\t{uid}$", status, re.MULTILINE)
        assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    serial = certificate(debian)

    # Upgraded while clients ask.
    load = Load(debian)
    with load.throughout():
        took = debian.installs("new")
    assert debian.version() == "1.0.1", debian.log.read_text()
    asked = load.visitors.done.total()
    row += [f"{asked:,} requests in {took:.0f} s", "0", f"{load.slowest * 1000:.0f} ms"]
    assert certificate(debian) == serial

    # A new program that cannot serve: the package is installed, the old program goes on, and says so.
    sites = debian.folder / "etc/treehouse-proxy/sites.d/localhost.yaml"
    sites.write_text(SITE.replace("root", "rot"))
    load = Load(debian)
    with load.throughout():
        said = debian.runs("dpkg", "-i", "/tmp/treehouse-proxy.deb")
    assert "the program from before goes on serving" in said
    row.append(f"{load.visitors.done.total():,} requests, 0 failed")
    sites.write_text(SITE)
    assert "upgraded: process" in debian.runs("treehouse-proxy", "upgrade")

    # Removed: it has stopped; what cannot be had again is there.
    server = debian.server
    assert server is not None
    debian.runs("dpkg", "-r", "treehouse-proxy")
    assert server.wait(WITHIN) == 0
    assert not (debian.folder / "usr/lib/treehouse-proxy").exists()
    assert certificate(debian) == serial
    assert sites.is_file()
    assert (debian.folder / CONFIG[1:]).is_file()
    row.append("stopped; certificates, keys, configuration, logs kept")

    # Installed once more: the same certificate is served at once.
    debian.installs("new")
    debian.starts()
    await_page(debian)
    assert certificate(debian) == serial

    # Purged: nothing of ours is left but what somebody else has put there.
    debian.runs("dpkg", "-P", "treehouse-proxy")
    left = debian.files() - before
    assert left == {
        "/srv/www",
        "/srv/www/index.html",
        "/etc/treehouse-proxy",
        "/etc/treehouse-proxy/sites.d",
        "/etc/treehouse-proxy/sites.d/localhost.yaml",
    }
    assert before - debian.files() == set()
    row.append("nothing left but the administrator's own files and the user")
    rows.append(f"| {' | '.join(row)} |")


def certificate(debian: Debian) -> bytes:
    folder = debian.folder / "var/lib/treehouse-proxy/certificates/localhost"
    return (folder / "fullchain.pem").read_bytes()


def await_page(debian: Debian) -> None:
    """Until the certificate is there, a handshake is refused."""
    deadline = time.monotonic() + WITHIN
    while True:
        with contextlib.suppress(OSError), debian.talk() as talk:
            assert talk.asks("/", "localhost").status == 200
            return
        assert time.monotonic() < deadline, debian.log.read_text()
        time.sleep(0.1)  # another program's state
