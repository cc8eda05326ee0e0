"""A Debian whose systemd is process 1: as a machine would boot it, in namespaces, on a copy.

    with Booted(Chroot("trixie").root, folder) as machine:
        machine.run("systemctl", "start", "treehouse-proxy")

What it writes goes to an overlay in memory, so every machine is new. It has a network of its own
with nothing but a loopback interface, no device but the harmless ones, and none of the services that
the release's packages would start (basic.target). systemd asks for a
control group of its own and for cgroups of version 2; both can be had wherever the kernel mounts
that version, also beside the older one (there without controllers, so without limits of memory).

Its end is sure: it is the first process of a namespace, and is killed with the one that started it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from .netns import inside

_BOOTED_WITHIN = 120.0

# $1: the root; $2: an empty folder.
_BOOT = r"""
set -e
root=$1 work=$2
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay -o "lowerdir=$root,upperdir=$work/upper,workdir=$work/work" overlay "$work/root"
cd "$work/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
  touch "dev/$node"; mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/shm dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
pivot_root . mnt
cd /
umount -l mnt
ip link set lo up
exec env -i container=treehouse PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --unit=basic.target --log-target=journal --show-status=no
"""


class Booted:
    """``root``: the file system of a Debian, which is only read. ``folder`` may hold the overlay."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = folder
        self._group = _cgroup2() / f"treehouse-{uuid.uuid4().hex[:10]}"
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def __enter__(self) -> Booted:
        self._folder.mkdir(exist_ok=True)
        self._group.mkdir()
        # The namespace of control groups begins at the group that its maker is in.
        self._process = subprocess.Popen(
            [
                "sh", "-c", 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"', "sh", str(self._group),
                "unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--fork",
                "--kill-child", "sh", "-c", _BOOT, "sh", str(self._root), str(self._folder),
            ],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            self._await_boot(self._process)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        deadline = time.monotonic() + 60
        while self._group.exists():
            with contextlib.suppress(OSError):  # as long as something in there is ending
                for group in sorted(self._group.rglob("*/"), reverse=True):
                    group.rmdir()
                self._group.rmdir()
            if time.monotonic() > deadline:
                raise TimeoutError(f"processes are left in {self._group}")

    def command(self, *command: str) -> list[str]:
        """What runs ``command`` in there."""
        return ["nsenter", "--target", str(self.pid), "--all", "--", *command]

    def run(self, *command: str, check: bool = True, timeout: float = 60) -> str:
        """What ``command`` prints in there, on both of its outputs; raises AssertionError with it
        where it fails."""
        done = subprocess.run(
            self.command(*command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        assert done.returncode == 0 or not check, f"{command}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file in there, and the folders above it."""
        self.run("mkdir", "-p", os.path.dirname(path))
        subprocess.run(
            self.command("sh", "-c", 'cat > "$1"; chmod "$2" "$1"', "sh", path, f"{mode:o}"),
            input=text, text=True, check=True, timeout=60,
        )  # fmt: skip

    def put(self, path: str, content: bytes) -> None:
        """A file in there, as it is."""
        subprocess.run(
            self.command("sh", "-c", 'cat > "$1"', "sh", path),
            input=content,
            check=True,
            timeout=60,
        )

    def entered(self) -> contextlib.AbstractContextManager[None]:
        """Sockets that this thread makes meanwhile are in there."""
        return inside(f"/proc/{self.pid}/ns/net")

    def _await_boot(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _BOOTED_WITHIN
        while True:
            if process.poll() is not None:
                raise RuntimeError(f"nothing was booted: status {process.returncode}")
            if time.monotonic() > deadline:
                raise TimeoutError("systemd has not come up")
            self.pid = next(_children(process.pid), 0)
            # `running` or, as no kernel module can be loaded here, `degraded`.
            if self.pid and Path(f"/proc/{self.pid}/comm").read_text() == "systemd\n":
                state = self.run("systemctl", "is-system-running", "--wait", check=False)
                if state.strip() in ("running", "degraded"):
                    return
            time.sleep(0.05)


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        yield from map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def _cgroup2() -> Path:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise RuntimeError("this kernel has no cgroups of version 2 mounted")
