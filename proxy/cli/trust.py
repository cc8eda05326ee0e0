"""``treehouse-proxy trust``: puts the built-in CA's root into trust stores, or takes it out.

A root goes into the system's store, which curl and most programs read, and into the NSS databases
of the user who asks, which Chromium and Firefox read. Nothing else is touched: a root is known by
its fingerprint, and `--remove` takes out that very root.

The system's store needs root; the browsers' databases belong to the user, also under sudo.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from acme_client.late_dataclass import dataclass


class CannotTrust(Exception):
    """The text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Store:
    """A system's trust store: a folder of roots, and the command that reads it anew."""

    folder: Path
    command: tuple[str, ...]
    ending: str = ".crt"


# By distribution: Debian and its heirs, Fedora and its heirs, Arch, SUSE.
STORES = (
    Store(Path("/usr/local/share/ca-certificates"), ("update-ca-certificates",)),
    Store(Path("/etc/pki/ca-trust/source/anchors"), ("update-ca-trust",), ".pem"),
    Store(Path("/etc/ca-certificates/trust-source/anchors"), ("trust", "extract-compat")),
    Store(Path("/etc/pki/trust/anchors"), ("update-ca-certificates",), ".pem"),
)


_NAMED = "treehouse-internal-ca-"


def trust(state: Path, *, remove: bool) -> Iterator[str]:
    """Put the root of the state directory into the stores, or take it out; yield what was done,
    a line for each store. Raises `CannotTrust`."""
    root = state / "internal-ca" / "root.pem"
    try:
        certificate = x509.load_pem_x509_certificate(root.read_bytes())
    except FileNotFoundError:
        raise CannotTrust(
            f"{root} is not there: the built-in CA makes it when it first issues a certificate; "
            f"--state DIR or --config FILE names another server{_left() if remove else ''}"
        ) from None
    except PermissionError:
        raise CannotTrust(f"{root} may not be read by this user; ask as root (sudo)") from None
    except (OSError, ValueError) as error:
        raise CannotTrust(f"{root} cannot be read: {error}") from None
    name = f"{_NAMED}{certificate.fingerprint(hashes.SHA256()).hex()[:16]}"
    store = _store(root)
    target = store.folder / f"{name}{store.ending}"
    yield _system(store, root, target, remove=remove)
    yield from _browsers(target, name, remove=remove)


def _left() -> str:
    """Say which roots of ours the system trusts, for whoever has deleted the state first."""
    several = [
        (one, found)
        for one in STORES
        if one.folder.is_dir()
        for found in sorted(one.folder.glob(f"{_NAMED}*"))
    ]
    if not several:
        return "; the system trusts no root of ours"
    paths = ", ".join(str(found) for _store, found in several)
    command = " ".join(_reading(several[0][0], remove=True))
    return f"; the system still trusts {paths}: delete what is not wanted, then {command}"


def _store(root: Path) -> Store:
    found = [one for one in STORES if one.folder.is_dir() and shutil.which(one.command[0])]
    if not found:
        raise CannotTrust(
            "no trust store of a system is known here; import it by hand: " + str(root)
        )
    return found[0]


def _reading(store: Store, *, remove: bool) -> list[str]:
    """Return the command that reads a store anew. Debian's leaves links to what is gone."""
    return [*store.command, "--fresh"] if remove and store is STORES[0] else [*store.command]


def _system(store: Store, root: Path, target: Path, *, remove: bool) -> str:
    there = target.exists()
    try:
        if remove:
            target.unlink(missing_ok=True)
        else:
            target.write_bytes(root.read_bytes())
            target.chmod(0o644)
    except PermissionError:
        raise CannotTrust(
            f"{store.folder} may be written by root alone: sudo treehouse-proxy trust"
            f"{' --remove' if remove else ''}"
        ) from None
    command = _reading(store, remove=remove)
    done = subprocess.run(  # noqa: S603 - a command of the table above
        command, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CannotTrust(f"{' '.join(command)} failed: {done.stderr.strip()}")
    removed = "removed" if there else "was not trusted"
    return f"system: {removed if remove else 'trusted'} ({target})"


def _browsers(root: Path, name: str, *, remove: bool) -> Iterator[str]:
    """The NSS databases of the user, made by Chromium and Firefox."""
    user = _user()
    databases = [Path(user.pw_dir) / ".pki/nssdb"]
    databases += sorted(one.parent for one in Path(user.pw_dir).glob(".mozilla/firefox/*/cert9.db"))
    databases = [one for one in databases if (one / "cert9.db").exists()]
    if not databases:
        yield f"browsers: {user.pw_name} has no database yet; start the browser, then trust again"
        return
    if shutil.which("certutil") is None:
        yield "browsers: certutil is missing (Debian: sudo apt-get install libnss3-tools)"
        return
    for database in databases:
        words = ["-D", "-n", name] if remove else ["-A", "-n", name, "-t", "C,,", "-i", str(root)]
        done = subprocess.run(  # noqa: S603 - certutil, as the user
            ["certutil", "-d", f"sql:{database}", *words],  # noqa: S607 - the system's own
            capture_output=True, text=True, check=False,
            user=user.pw_uid if os.geteuid() == 0 else None, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        said = "removed" if remove else "trusted"
        if done.returncode:
            said = "was not trusted" if remove else f"not trusted: {done.stderr.strip()}"
        yield f"browsers: {said} ({database})"


def _user() -> pwd.struct_passwd:
    """Who sits before the browser: under sudo the user who called it."""
    caller = os.environ.get("SUDO_UID", "")
    uid = int(caller) if os.geteuid() == 0 and caller.isdigit() else os.getuid()
    return pwd.getpwuid(uid)
