"""Another release of Debian in a folder, with the repository in it.

debootstrap makes the folder, once; `Chroot.run` enters it in namespaces of its own: mounts, processes
and, for everything but installing, a network that has nothing but a loopback interface. What is
started in there ends with the command that started it, its mounts are nobody else's, and its ports
clash with nobody's. The kernel is the host's.

The repository is mounted at its own path, so that tests, messages and Git's records mean the same on
both sides; the virtual environment in it is the release's own, kept beside its folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
CACHE = Path(os.environ.get("MATRIX_CACHE", "/var/cache/treehouse-proxy/matrix"))
# What `make` needs before it can install the rest by itself; systemd for the tests of its own.
_BASE = (
    "ca-certificates,dbus,git,iproute2,libpython3-stdlib,make,openssl,procps,python3,"
    "python3-venv,systemd,systemd-sysv"
)

# The root; the repository; its virtual environment, and where that is seen; Git's records, which lie
# elsewhere for a linked work tree; "with-network" or "alone"; then the command.
_ENTER = r"""
set -e
root=$1 repository=$2 own=$3 venv=$4 records=$5; shift 5
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mkdir -p "$root/run/lock"
for folder in "$repository" "$records"; do
  mkdir -p "$root$folder"; mount --bind "$folder" "$root$folder"
done
mkdir -p "$root$venv"; mount --bind "$own" "$root$venv"
[ "$1" = with-network ] || chroot "$root" ip link set lo up
shift
exec chroot "$root" /bin/sh -c 'cd "$1"; shift; exec "$@"' sh "$repository" "$@"
"""

_INSTALL_PROGRAM = r"""
set -e
[ -x /opt/treehouse-proxy/bin/pip ] || python3 -m venv /opt/treehouse-proxy
pip() { /opt/treehouse-proxy/bin/pip -q --disable-pip-version-check "$@"; }
pip install --require-hashes -r requirements/run.txt
source=$(mktemp -d)
cp -r proxy acme_client config pyproject.toml README.md CHANGELOG.md LICENSE "$source"
pip install --no-deps --no-build-isolation --force-reinstall "$source"
rm -r "$source"
"""


@dataclass(frozen=True, slots=True)
class Chroot:
    """A release by its name: "trixie"."""

    release: str

    @property
    def root(self) -> Path:
        return CACHE / self.release

    @property
    def venv(self) -> Path:
        """Seen as ``.venv`` of the repository inside. The scripts in it name that place, so each
        checkout has its own."""
        seen = hashlib.sha256(bytes((REPOSITORY / ".venv").resolve())).hexdigest()[:8]
        return CACHE / f"{self.release}-venv-{seen}"

    def exists(self) -> bool:
        return self.root.is_dir()

    def make(self) -> None:
        """By debootstrap, where it is not there yet; raises CalledProcessError."""
        if not self.exists():
            print(f"making a Debian {self.release} in {self.root}", flush=True)
            CACHE.mkdir(parents=True, exist_ok=True)
            unfinished = self.root.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            command = ["debootstrap", "--variant=minbase", f"--include={_BASE}"]
            # All newer releases are made in one way, which older debootstraps have no name for.
            command += [self.release, str(unfinished), MIRROR, f"{_SCRIPTS}/sid"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            # Nothing that is installed there starts anything.
            policy = unfinished / "usr/sbin/policy-rc.d"
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
            unfinished.rename(self.root)
        self.venv.mkdir(exist_ok=True)

    def command(
        self, *command: str, network: bool = False, environment: dict[str, str] | None = None
    ) -> list[str]:
        """What runs ``command`` there, in the repository, as root of this machine."""
        seen = REPOSITORY / ".venv"
        records = _git("rev-parse", "--path-format=absolute", "--git-common-dir")
        variables = {"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8"} | (environment or {})
        return [
            "env", "-i", *(f"{name}={value}" for name, value in variables.items()),
            "unshare", "--mount", "--pid", "--fork", "--kill-child", *([] if network else ["--net"]),
            "sh", "-c", _ENTER, "sh",
            str(self.root), str(REPOSITORY), str(self.venv), str(seen.resolve()), records,
            "with-network" if network else "alone", *command,
        ]  # fmt: skip

    def run(
        self, *command: str, network: bool = False, environment: dict[str, str] | None = None
    ) -> int:
        """The command's status."""
        if network:
            shutil.copy("/etc/resolv.conf", self.root / "etc/resolv.conf")
            shutil.copy(_TRUSTED, self.root / _TRUSTED_THERE[1:])
        return subprocess.run(
            self.command(*command, network=network, environment=environment), check=False
        ).returncode

    def version(self) -> str:
        """Its Python and OpenSSL."""
        ask = (
            "import ssl, sys; print('Python', sys.version.split()[0], 'with', ssl.OPENSSL_VERSION)"
        )
        done = subprocess.run(
            self.command("python3", "-c", ask), capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def install(self, peers: bool = True) -> None:
        """What tests need there, as `make` installs it: the Python packages and, with ``peers``, the
        programs that the real one is tried with; raises RuntimeError."""
        seen = str((REPOSITORY / ".venv").resolve())  # where it is a link, venv would refuse it
        self._install("sh", "-c", '[ -x "$1/bin/pip" ] || python3 -m venv "$1"', "sh", seen)
        self._install("make", *(["packages"] if peers else []), "environment")

    def install_program(self) -> None:
        """This tree into /opt/treehouse-proxy, as an operator would; raises RuntimeError."""
        self._install("sh", "-c", _INSTALL_PROGRAM)

    def has_program(self) -> bool:
        return (self.root / "opt/treehouse-proxy/bin/treehouse-proxy").exists()

    def _install(self, *command: str) -> None:
        if self.run(*command, network=True, environment=_installing()):
            raise RuntimeError(f"Debian {self.release} could not be given what the tests need")


_SCRIPTS = "/usr/share/debootstrap/scripts"
_TRUSTED, _TRUSTED_THERE = "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/trusted-outside.crt"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _installing() -> dict[str, str]:
    """How this machine reaches its registries: also by a proxy that only it trusts."""
    return {"PIP_CERT": _TRUSTED_THERE} | {
        name: value
        for name, value in os.environ.items()
        if name.lower() in ("http_proxy", "https_proxy", "no_proxy", "pip_index_url")
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
