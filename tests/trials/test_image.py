"""The image without an engine: runc with its file system read-only, as the user of the image, with no
capability but one, or none. And with podman, which reads the archive as Docker does.

    make test-image
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.http.client import http, https
from support.program.engines import Podman
from support.program.netns import inside
from trials.visitors import HOST, PAGE, Load

# The folder with the image.
IMAGE = Path(os.environ.get("IMAGE_TRY", "/nonexistent"))
UID = 65532
WITHIN = 60.0
HEALTHCHECK = ("/usr/lib/treehouse-proxy/bin/python", "-P", "/usr/lib/treehouse-proxy/healthcheck.py")  # fmt: skip
SITE = """sites:
  - names: [localhost]
    routes:
      - {path: /app/*, respond: {status: 200, body: "from the app\\n"}}
      - {path: /*, root: /srv/www}
"""
BIG = b"0123456789abcdef" * (1 << 20)  # 16 MiB: more than sockets hold
NONE = {"sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"}}
ONE = {"capability": "CAP_NET_BIND_SERVICE"}
# Leaves a process behind whose parent has ended, for the first process of the container to reap. The
# image has no `sleep` but Python's.
_ORPHAN = "import os, time; os.fork() or os.fork() or time.sleep(0.3)"

pytestmark = [pytest.mark.skipif(not IMAGE.is_dir(), reason="make test-image")]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="th-image-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    subprocess.run(["rm", "-rf", "--one-file-system", made], check=True)


@pytest.fixture(scope="module")
def archive() -> Path:
    (found,) = IMAGE.glob("*.oci.tar")
    return found


@pytest.fixture(scope="module")
def bundle(archive: Path, folder: Path) -> Path:
    """The image as umoci unpacks it: every blob is checked against its name, and the layout is read
    by another program than the one that wrote it."""
    layout = folder / "layout"
    layout.mkdir()
    # Debian 12's `tarfile` has no filter to choose, and later ones demand a choice.
    subprocess.run(["tar", "-xf", archive, "-C", layout], check=True)
    index = json.loads((layout / "index.json").read_text())
    tag = index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"]
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:{tag}", folder / "bundle"], check=True)
    return folder / "bundle"


class Container:
    """A container of the image that runc runs, in namespaces of its own."""

    def __init__(self, bundle: Path, folder: Path, name: str, **given: Any) -> None:
        self.name, self.folder = name, folder / name
        for part in ("state", "sites.d", "www"):
            (self.folder / part).mkdir(parents=True)
        # As an engine makes a volume: with the owner and mode that the image has there.
        os.chown(self.folder / "state", UID, UID)
        (self.folder / "state").chmod(0o700)
        (self.folder / "sites.d/site.yaml").write_text(SITE)
        (self.folder / "www/index.html").write_bytes(PAGE)
        (self.folder / "www/big").write_bytes(BIG)
        self._runc = ["runc", "--root", str(self.folder / "runc")]
        self.log = self.folder / "log"
        config = self._config(bundle, **given)
        (self.folder / "config.json").write_text(json.dumps(config))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*self._runc, "run", "--bundle", str(self.folder), name],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def _config(
        self,
        bundle: Path,
        sysctl: dict[str, str] | None = None,
        capability: str | None = None,
        arguments: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        config: dict[str, Any] = json.loads((bundle / "config.json").read_text())
        process = config["process"]
        assert process["user"]["uid"] == process["user"]["gid"] == UID
        process["terminal"] = False
        process["noNewPrivileges"] = True
        process["rlimits"] = []
        kinds = ("bounding", "effective", "inheritable", "permitted", "ambient")
        process["capabilities"] = {kind: [capability] if capability else [] for kind in kinds}
        process["args"] += arguments
        config["root"] = {"path": str(bundle / "rootfs"), "readonly": True}
        config["mounts"] = [
            *(one for one in config["mounts"] if one["type"] != "cgroup"),
            _bound(self.folder / "state", "/var/lib/treehouse-proxy", "rw"),
            _bound(self.folder / "sites.d", "/etc/treehouse-proxy/sites.d", "ro"),
            # Where the image has no folder there is none to mount on; an engine's overlay has.
            _bound(self.folder / "www", "/srv/www", "ro"),
        ]
        linux = config["linux"]
        linux.pop("resources", None)
        linux["cgroupsPath"] = f"/th-{self.folder.parent.name}-{self.name}"
        kinds = ("pid", "network", "ipc", "uts", "mount")
        linux["namespaces"] = [{"type": kind} for kind in kinds]
        linux["sysctl"] = sysctl or {}
        return config

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            subprocess.run([*self._runc, "kill", self.name, "KILL"], check=False)
            self.process.wait(WITHIN)

    @property
    def pid(self) -> int:
        """Of its first process, as this machine sees it."""
        done = subprocess.run([*self._runc, "state", self.name], check=True, capture_output=True)
        return int(json.loads(done.stdout)["pid"])

    def entered(self) -> contextlib.AbstractContextManager[None]:
        return inside(f"/proc/{self.pid}/ns/net")

    def exec(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._runc, "exec", self.name, *command],
            capture_output=True, text=True, timeout=WITHIN, check=False,
        )  # fmt: skip

    def signal(self, number: signal.Signals) -> None:
        subprocess.run([*self._runc, "kill", self.name, number.name], check=True)

    def page(self) -> bool:
        try:
            with self.entered(), https(443, HOST, None) as talk:
                return talk.asks("/", HOST).body == PAGE
        except (OSError, subprocess.CalledProcessError):
            return False

    def await_that(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WITHIN
        while not happened():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)  # another program's state

    def children(self) -> dict[int, str]:
        """Those of its first process, zombies included, with their states and titles."""
        pids = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        found = {}
        for pid in map(int, pids):
            with contextlib.suppress(OSError):
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                title = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()
                found[pid] = f"{state} {title}"
        return found

    def workers(self) -> set[int]:
        return {pid for pid, said in self.children().items() if ": worker" in said}

    def ca(self) -> bytes:
        return (self.folder / "state/internal-ca/root.pem").read_bytes()


def _bound(source: Path, there: str, how: str) -> dict[str, Any]:
    options = ["bind", how, "nosuid", "nodev", "noexec"]
    return {"destination": there, "type": "bind", "source": str(source), "options": options}


@pytest.fixture(scope="module")
def serving(bundle: Path, folder: Path) -> Iterator[Container]:
    """With no capability at all."""
    with Container(bundle, folder, "none", **NONE) as container:
        container.await_that(container.page)
        yield container


def test_nothing_runs_but_the_user_without_any_privilege(serving: Container) -> None:
    for pid in (serving.pid, *serving.children()):
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(rf"^Uid:\t{UID}\t{UID}\t{UID}\t{UID}$", status, re.MULTILINE)
        for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb"):
            assert re.search(rf"^Cap{kind}:\t0+$", status, re.MULTILINE), kind
        assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    assert "Traceback" not in serving.log.read_text()


def test_the_first_process_reaps_what_is_left_to_it(serving: Container) -> None:
    before = set(serving.children())
    for _ in range(5):
        done = serving.exec("/usr/lib/treehouse-proxy/bin/python", "-c", _ORPHAN)
        assert done.returncode == 0, done.stderr
    serving.await_that(lambda: set(serving.children()) == before)


def test_the_healthcheck_tells_a_server_that_serves_from_one_that_hangs(serving: Container) -> None:
    done = serving.exec(*HEALTHCHECK)
    assert (done.returncode, done.stdout[:6]) == (0, "serves"), done
    os.kill(serving.pid, signal.SIGSTOP)
    try:
        done = serving.exec(*HEALTHCHECK)
    finally:
        os.kill(serving.pid, signal.SIGCONT)
    assert done.returncode == 1, done
    assert "does not answer" in done.stdout
    serving.await_that(lambda: serving.exec(*HEALTHCHECK).returncode == 0)


def test_a_worker_that_is_killed_is_replaced(serving: Container) -> None:
    before = serving.workers()
    assert before
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    serving.await_that(
        lambda: len(serving.workers()) == len(before) and not serving.workers() & before
    )
    serving.await_that(serving.page)
    assert serving.exec(*HEALTHCHECK).returncode == 0


def test_a_signal_reloads_while_clients_ask(serving: Container) -> None:
    load = Load(serving.entered, serving.ca())
    generation = serving.log.read_text().count("serving on ")
    with load.throughout():
        serving.signal(signal.SIGHUP)
        serving.await_that(lambda: serving.log.read_text().count("serving on ") > generation)


def test_commands_work_in_it_and_nothing_else_is_there(serving: Container) -> None:
    done = serving.exec("/usr/bin/treehouse-proxy", "status", "--state", "/var/lib/treehouse-proxy")
    assert done.returncode == 0, done.stderr
    assert "443" in done.stdout
    done = serving.exec("/usr/bin/treehouse-proxy", "--version")
    assert done.stdout.endswith(" (accelerated lane)\n"), done
    done = serving.exec("/bin/sh", "-c", "true")
    assert done.returncode != 0
    write = "open('/usr/lib/treehouse-proxy/x', 'w')"
    done = serving.exec("/usr/lib/treehouse-proxy/bin/python", "-c", write)
    assert "Read-only file system" in done.stderr


def test_stop_lets_a_download_end(bundle: Path, folder: Path) -> None:
    """With the one capability, and as an engine stops a container: SIGTERM to the first process."""
    with Container(bundle, folder, "one", **ONE) as container:
        container.await_that(container.page)
        with container.entered(), https(443, HOST, None) as talk:
            talk.says(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
            first = talk.sock.recv(1000)
            assert first.startswith(b"HTTP/1.1 200 ")
            container.signal(signal.SIGTERM)
            container.await_that(lambda: "stopping: SIGTERM" in container.log.read_text())
            with container.entered(), pytest.raises(ConnectionRefusedError):
                http(80)
            whole = bytearray(first)
            length = whole.index(b"\r\n\r\n") + 4 + len(BIG)
            while len(whole) < length:
                piece = talk.sock.recv(1 << 20)
                assert piece, f"cut off after {len(whole)} of {length}"
                whole += piece
            assert whole.endswith(BIG)
        assert container.process.wait(WITHIN) == 0, container.log.read_text()


def test_without_a_way_to_low_ports_it_says_which_there_are(bundle: Path, folder: Path) -> None:
    with Container(bundle, folder, "neither") as container:
        assert container.process.wait(WITHIN) == 3
        assert "ip_unprivileged_port_start" in container.log.read_text()
    high = ("--http-port", "8080", "--https-port", "8443")
    with Container(bundle, folder, "high", arguments=high) as container:
        container.await_that(lambda: "serving on " in container.log.read_text())
        with container.entered():
            # 503 until there is a certificate to lead to.
            assert http(8080).asks("/", HOST).status in (308, 503)
        assert container.exec(*HEALTHCHECK).returncode == 0


@pytest.fixture
def podman(folder: Path) -> Iterator[Podman]:
    (folder / "podman").mkdir()
    made = Podman(folder / "podman")
    yield made
    made.close()


def test_podman_loads_and_runs_it(archive: Path, folder: Path, podman: Podman) -> None:
    loaded = podman.do("load", "-i", str(archive), within=300)
    image = loaded.strip().rpartition("Loaded image: ")[2]
    assert "treehouse-proxy:" in image
    check = json.dumps(HEALTHCHECK)  # words alone would go to a shell
    name = "treehouse-image"
    options = (
        "--cap-drop=ALL", "--security-opt=no-new-privileges", "--read-only", "--cgroups=disabled",
        "--sysctl=net.ipv4.ip_unprivileged_port_start=0", f"--health-cmd={check}",
        "--health-interval=disable", "--health-start-period=30s",
    )  # fmt: skip
    podman.do("run", "-d", "--name", name, *options, image, within=300)
    try:
        deadline = time.monotonic() + WITHIN
        while not _is_well(podman, name):
            assert time.monotonic() < deadline, podman.do("inspect", name)
            time.sleep(0.1)  # another program's state
        # The command asks the server that runs, and does not start another one.
        status = ("/usr/bin/treehouse-proxy", "status", "--state", "/var/lib/treehouse-proxy")
        assert "listening on" in podman.do("exec", name, *status)
        podman.do("stop", "-t", "30", name)
        assert podman.do("inspect", "--format", "{{.State.ExitCode}}", name) == "0\n"
    finally:
        podman.do("rm", "-f", "-t", "0", name)


def _is_well(podman: Podman, name: str) -> bool:
    with contextlib.suppress(OSError):
        podman.do("healthcheck", "run", name)
        return True
    return False
