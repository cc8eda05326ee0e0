"""What the configuration says about the disk, compared with the disk. Looks, and changes nothing.

The question is never whether *we* may read a file but whether the one who will need it may:
document roots and CA bundles are read after the privileges are gone, a site's own certificate
before. While we are root, the answer for another user is worked out from owner and mode; where
access control lists make that impossible, or where we may not look ourselves, no fault is claimed.
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Literal

from acme_client.certificates.pem import PemError
from acme_client.certificates.trust_bundle import authorities
from acme_client.errors import Problem
from acme_client.issuers.external_account import mac_key

from ..schema.acme import Acme, Fallback
from ..schema.parse import Parsed
from ..schema.site import Serving
from ..syntax.faults import Fault, Path
from .mounts import Mounts

_ACL = "system.posix_acl_access"

Trouble = tuple[str, str]  # what is wrong, what to do
Place = tuple[Path, FilePath]  # the key's path in the document, the file it names


@dataclass(frozen=True, slots=True)
class Reader:
    """Who will read. ``here`` when that is this very process, which can then simply ask."""

    uid: int
    gid: int
    here: bool

    def may(self, path: str, wanted: int) -> bool:
        if self.here:
            return os.access(path, wanted, effective_ids=True)
        status = os.stat(path)
        if _has_acl(path):
            return True
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid == self.gid else 0
        return bool(status.st_mode >> shift & wanted)


def check(
    parsed: Parsed, base: FilePath, state: FilePath, reader: Reader | None
) -> Iterator[Fault]:
    """``base`` is what relative paths start from; ``reader`` None is somebody unknown."""
    roots = list(_roots(parsed, base))
    places = [(path, file, True, reader) for path, file in roots]
    places += [(path, file, False, reader) for path, file in _read_later(parsed, base)]
    places += [(path, file, False, None) for path, file in _read_first(parsed, base)]
    for path, file, directory, needed_by in places:
        trouble = _trouble(file, directory, needed_by)
        if trouble is None and path[-1] == "ca_file":
            trouble = _no_bundle(file, "clients" if "client_auth" in path else "servers")
        if trouble is None and path[-1] == "hmac_key_file":
            trouble = _no_mac_key(file)
        if trouble:
            yield parsed.origins.fault(path, *trouble)
    yield from _hooks(parsed, base, reader)
    yield from _state(parsed, state, roots)
    yield from _command(parsed, reader)


def _hooks(parsed: Parsed, base: FilePath, reader: Reader | None) -> Iterator[Fault]:
    """Programs that are run as the target user."""
    for index, dns in enumerate(parsed.document.acme.dns):
        if dns.hook is None:
            continue
        file = base / dns.hook
        trouble = _trouble(file, False, reader)
        if trouble is None and reader is not None and not reader.may(str(file), os.X_OK):
            trouble = f"uid {reader.uid} may not execute {file}", f"chmod a+x {file}"
        if trouble:
            yield parsed.origins.fault(("acme", "dns", index, "hook"), *trouble)


def _servings(parsed: Parsed) -> Iterator[tuple[Path, Serving]]:
    for index, site in parsed.sites:
        yield ("sites", index), site
        for number, route in enumerate(site.routes):
            yield ("sites", index, "routes", number), route


def _roots(parsed: Parsed, base: FilePath) -> Iterator[Place]:
    for path, serving in _servings(parsed):
        if serving.root is not None:
            yield (*path, "root"), base / serving.root


def _read_first(parsed: Parsed, base: FilePath) -> Iterator[Place]:
    """Read while the process may still be root."""
    for index, site in parsed.sites:
        for number, certificate in enumerate(site.certificate):
            path: Path = ("sites", index, "certificate", number)
            yield (*path, "chain"), base / certificate.chain
            yield (*path, "key"), base / certificate.key


def _read_later(parsed: Parsed, base: FilePath) -> Iterator[Place]:
    """Read as the target user."""
    acme = parsed.document.acme
    authorities: list[tuple[Path, Acme | Fallback]] = [(("acme",), acme)]
    authorities += [(("acme", "fallback", i), each) for i, each in enumerate(acme.fallback)]
    for path, authority in authorities:
        if authority.ca_file:
            yield (*path, "ca_file"), base / authority.ca_file
        if authority.eab:
            yield (*path, "eab", "hmac_key_file"), base / authority.eab.hmac_key_file
    for index, dns in enumerate(acme.dns):
        if dns.tsig:
            yield ("acme", "dns", index, "tsig", "secret_file"), base / dns.tsig.secret_file
    alerts = parsed.document.alerts
    if alerts and alerts.ca_file:
        yield ("alerts", "ca_file"), base / alerts.ca_file
    if alerts and alerts.email and alerts.email.password_file:
        yield ("alerts", "email", "password_file"), base / alerts.email.password_file
    for index, site in parsed.sites:
        if site.tls.client_auth:
            path = ("sites", index, "tls", "client_auth", "ca_file")
            yield path, base / site.tls.client_auth.ca_file
    for path, serving in _servings(parsed):
        if serving.backend_tls and serving.backend_tls.ca_file:
            yield (*path, "backend_tls", "ca_file"), base / serving.backend_tls.ca_file


def _no_bundle(file: FilePath, purpose: Literal["servers", "clients"]) -> Trouble | None:
    """A file of CAs that has none would be found out by the first client, backend or order."""
    usual = "name the file that begins with BEGIN CERTIFICATE"
    try:
        bundle = authorities(file.read_bytes(), purpose)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=bundle)
    except PemError as error:
        return f"{file} holds no certificate in PEM: {error}", error.mending(str(file)) or usual
    except ssl.SSLError as error:
        return f"{file} holds a certificate that OpenSSL does not take: {error.reason}", usual
    except OSError:
        return None  # not ours to read
    return None


def _no_mac_key(file: FilePath) -> Trouble | None:
    """A key that was mistyped would be found out by the first order, in the CA's words."""
    try:
        mac_key(file.read_text("utf-8", "replace"))
    except Problem as problem:
        return (
            f"{file}: {problem.text}",
            "put the key there as the CA hands it out, and nothing else",
        )
    except OSError:
        return None  # not ours to read
    return None


def _command(parsed: Parsed, reader: Reader | None) -> Iterator[Fault]:
    """The program that alerts are handed to."""
    alerts = parsed.document.alerts
    if not alerts or not alerts.command or not alerts.command[0].startswith("/"):
        return
    file = FilePath(alerts.command[0])
    trouble = _trouble(file, False, None)
    if not trouble and reader is not None and not reader.may(os.path.realpath(file), os.X_OK):
        trouble = f"uid {reader.uid} may not execute {file}", f"chmod a+rx {file}"
    if trouble:
        yield parsed.origins.fault(("alerts", "command"), *trouble)


def _trouble(path: FilePath, directory: bool, reader: Reader | None) -> Trouble | None:
    kind = "directory" if directory else "file"
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return f"{path} does not exist", f"create it, or name the {kind} that is meant"
    except PermissionError:
        return _reach(path, os.F_OK, reader) if reader and reader.here else None
    except (OSError, ValueError) as error:
        return f"{path} cannot be looked at: {error}", f"name the {kind} that is meant"
    if stat.S_ISDIR(status.st_mode) != directory:
        return f"{path} is not a {kind}", f"name the {kind} that is meant"
    if reader is None:
        return None
    # To serve files from a directory it must be entered; only to list it must it be read.
    return _reach(path, os.X_OK if directory else os.R_OK, reader)


def _reach(path: FilePath, wanted: int, reader: Reader) -> Trouble | None:
    """Whether the reader gets as far as ``path``, and what stops it."""
    real = FilePath(os.path.realpath(path))
    for parent in reversed(real.parents):
        if not reader.may(str(parent), os.X_OK):
            return (
                f"uid {reader.uid} may not enter {parent}",
                f"chmod o+x {parent}, or move what lies in it",
            )
    if reader.may(str(real), wanted):
        return None
    if wanted == os.X_OK:
        return f"uid {reader.uid} may not enter {real}", f"chmod o+x {real}"
    return (
        f"uid {reader.uid} may not read {real}",
        f"chmod o+r {real}, or chgrp it to gid {reader.gid}",
    )


def _has_acl(path: str) -> bool:
    try:
        return _ACL in os.listxattr(path)
    except OSError:
        return False


# Keys and certificates must never be served


def _state(parsed: Parsed, state: FilePath, roots: list[Place]) -> Iterator[Fault]:
    if "state" in parsed.broken:
        return
    origins = parsed.origins
    try:
        is_other = not stat.S_ISDIR(os.stat(state).st_mode)
    except FileNotFoundError:
        is_other = False
    except NotADirectoryError:
        is_other = True
    except OSError as error:
        what = f"{state} cannot be reached as uid {os.geteuid()}: {error.strerror}"
        yield origins.fault(("state",), what, "name a directory of this user's: --state DIR")
        return
    if is_other:
        yield origins.fault(("state",), f"{state} is not a directory", "name another")
        return
    mounts = Mounts()
    above_state = set(_way_up(state))
    own, place = _identity(state), mounts.position(state)
    for path, root in roots:
        identity = _identity(root)
        if identity is None:
            continue
        position = mounts.position(root)
        if identity in above_state or (place and position and place.lies_in(position)):
            yield origins.fault(
                ("state",),
                f"the state directory {state} lies in the document root {root}, "
                "and its keys would be served",
                "keep it elsewhere, such as /var/lib/treehouse-proxy",
            )
        elif own is not None and (
            own in _way_up(root) or (place and position and position.lies_in(place))
        ):
            yield origins.fault(
                path,
                f"the document root {root} lies in the state directory {state}",
                "keep the two apart",
            )


def _way_up(path: FilePath) -> Iterator[tuple[int, int]]:
    """Device and inode of ``path`` and all directories above it, of those that exist.

    Names would miss links; these two numbers are what a directory is. What is bound elsewhere has
    others above it: see `mounts`.
    """
    real = FilePath(os.path.realpath(path))
    for each in (real, *real.parents):
        identity = _identity(each)
        if identity is not None:
            yield identity


def _identity(path: FilePath) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
