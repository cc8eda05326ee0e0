"""Compares what the configuration says about the disk with the disk, and changes nothing.

The question is never whether *this process* may read a file but whether the user that needs it may:
document roots, CA bundles and sockets are opened after the privileges are gone, a site's own
certificate and the access log before. `reader` works the answer out. Where this process may not
look itself, no fault is claimed.
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path as FilePath
from typing import Literal

from acme_client.errors import IssuanceError
from acme_client.issuers.external_account import mac_key
from acme_client.x509.pem import PemError
from acme_client.x509.trust_bundle import authorities

from ..schema.acme import Credential
from ..schema.parse import Parsed
from ..schema.site import Route
from ..syntax.address_sets import AddressEntry, AddressFile, read_list
from ..syntax.addresses import parse_webhook
from ..syntax.faults import Fault, Path, Wrong
from ..syntax.password_hashes import NotAHash, read_users
from ..syntax.sections import Section
from ..values import Backend
from . import pages
from .mounts import Mounts
from .reader import Reader, Trouble, reach, typed
from .real_paths import RealPaths

Place = tuple[Path, FilePath]  # the key's path in the document, the file it names

# Keys of files that nobody but the server is to read.
_SECRETS = frozenset(
    {"secret_file", "key_file", "password_file", "hmac_key_file", "webhook_file", "users_file"}
)
_WHERE_SECRETS_COME_FROM = (
    "copy it from a machine of the cluster; "
    "the first machine makes it: treehouse-proxy cluster init"
)


def check(
    parsed: Parsed,
    state: FilePath,
    reader: Reader | None,
    opener: Reader | None,
    notices: list[Fault],
) -> Iterator[Fault]:
    """Yield a fault for each file, folder and socket that the configuration names and cannot have.

    ``reader`` is the user that the server becomes, ``opener`` who starts it and reads what only
    that one may; None is somebody unknown, or a running server, whose start is over. What is no
    fault, and clients will notice, goes to ``notices``.
    """
    roots = list(_roots(parsed))
    places = [(path, file, True) for path, file in roots]
    places += [(path, file, False) for path, file in _read_later(parsed)]

    @cache  # thousands of sites may have one root
    def looked_at(file: str, directory: bool, secret: bool) -> Trouble | None:
        return _trouble(FilePath(file), directory, reader, secret=secret)

    for path, file, directory in places:
        secret = path[-1] in _SECRETS or "credentials" in path
        trouble = looked_at(str(file), directory, secret)
        if path == ("cluster", "secret_file"):
            if trouble is not None and "does not exist" in trouble[0]:
                trouble = trouble[0], _WHERE_SECRETS_COME_FROM
            elif trouble is None and (wrong := _no_cluster_secret(file)):
                notices.append(parsed.origins.fault(path, *wrong))
        if trouble is None and path[-1] == "ca_file":
            trouble = _no_bundle(file, "clients" if "client_auth" in path else "servers")
        if trouble is None and path[-1] == "webhook_file":
            trouble = _no_webhook(file)
        if trouble is None and "credentials" in path:
            trouble = _nothing_in_it(file)
        if trouble is None and path[-1] == "hmac_key_file":
            trouble = _no_mac_key(file)
        if trouble:
            yield parsed.origins.fault(path, *trouble)
    yield from _hooks(parsed, reader)
    if any(site.certificate for _index, site in parsed.sites):
        from . import certificates  # cryptography, which takes half the time of all that reads

        yield from certificates.check(parsed, opener, notices)
    yield from _address_lists(parsed, reader)
    yield from _password_files(parsed, reader)
    yield from pages.check(parsed, reader, notices)
    yield from _sockets(parsed, reader, notices)
    yield from _log(parsed, reader, opener)
    yield from _state(parsed, state, roots)
    yield from _command(parsed, reader)


def _hooks(parsed: Parsed, reader: Reader | None) -> Iterator[Fault]:
    """Check the programs of ``acme.dns``, which run as the target user."""
    for index, dns in enumerate(parsed.document.acme.dns):
        for key, file in (("hook", dns.hook), ("hook_cleanup", dns.hook_cleanup)):
            if file is None:
                continue
            trouble = _trouble(file, False, reader)
            # A plug-in of acme.sh is read by a shell.
            executed = key != "hook" or dns.hook_style != "acme.sh"
            if trouble is None and executed and reader and not reader.may(str(file), os.X_OK):
                trouble = (
                    f"uid {reader.uid} may not execute {file}",
                    f"sudo chmod a+x {typed(file)}",
                )
            if trouble:
                yield parsed.origins.fault(("acme", "dns", index, key), *trouble)
    if parsed.document.acme.dns:
        from . import dns_providers  # the catalog of dns-lexicon, which few ask

        yield from dns_providers.check(parsed, reader)


def _roots(parsed: Parsed) -> Iterator[Place]:
    for path, serving in parsed.servings():
        if serving.root is not None:
            yield (*path, "root"), serving.root


def _read_later(parsed: Parsed) -> Iterator[Place]:
    """Yield the files that are read as the target user: every key that ends in ``_file``."""
    yield from _named(parsed.document, ())
    for index, site in parsed.sites:
        yield from _named(site, ("sites", index))


def _named(section: Section, path: Path) -> Iterator[Place]:
    for key in section.given:
        value = getattr(section, key)
        if isinstance(value, FilePath) and key.endswith("_file"):
            yield (*path, key), value
        elif isinstance(value, Section):
            yield from _named(value, (*path, key))
        elif isinstance(value, tuple):
            for number, one in enumerate(value):
                if isinstance(one, Section):
                    yield from _named(one, (*path, key, number))
                elif isinstance(one, Credential) and one.secret_file is not None:
                    yield (*path, key, f"{one.name}_file"), one.secret_file


def _address_lists(parsed: Parsed, reader: Reader | None) -> Iterator[Fault]:
    """Check files of addresses, which workers read before they are confined."""
    for path, entries in _address_entries(parsed):
        for number, entry in enumerate(entries):
            if not isinstance(entry, AddressFile):
                continue
            file = entry.list_file
            trouble = _trouble(file, False, reader)
            if trouble is None:
                try:
                    read_list(file.read_text())
                except OSError:
                    continue  # another user's, and fine as far as can be seen
                except UnicodeDecodeError:
                    trouble = f"{file} is not text", "write an address or network a line"
                except Wrong as wrong:
                    trouble = f"{file}: {wrong.what}", wrong.remedy
            if trouble:
                yield parsed.origins.fault((*path, number), *trouble)


def _address_entries(parsed: Parsed) -> Iterator[tuple[Path, tuple[AddressEntry, ...]]]:
    """Every list of addresses, with its place."""
    for path, rules in parsed.levels():
        yield (*path, "allow"), rules.allow or ()
        yield (*path, "deny"), rules.deny
        if isinstance(rules, Route) and rules.match is not None:
            yield (*path, "match", "from"), rules.match.from_


def _password_files(parsed: Parsed, reader: Reader | None) -> Iterator[Fault]:
    """Users and their hashes, which workers read before they are confined."""
    logins = [(path, rules.basic_auth) for path, rules in parsed.levels()]
    if parsed.document.admin is not None:
        logins.append((("admin",), parsed.document.admin.basic_auth))
    for path, login in logins:
        if login is None or login.users_file is None:
            continue
        file = login.users_file
        trouble = _trouble(file, False, reader)
        if trouble is None:
            try:
                read_users(file.read_text())
            except OSError:
                continue  # another user's, and fine as far as can be seen
            except NotAHash as wrong:
                trouble = f"{file}: {wrong}", "treehouse-proxy hash-password makes a line"
            except UnicodeDecodeError:
                trouble = f"{file} is not text", "write NAME:HASH lines"
        if trouble:
            yield parsed.origins.fault((*path, "basic_auth", "users_file"), *trouble)


def _sockets(parsed: Parsed, reader: Reader | None, notices: list[Fault]) -> Iterator[Fault]:
    """Check the sockets of backends as the user that connects. A missing one is the app's to
    make."""
    for path, backend in _backends(parsed):
        if backend.scheme != "unix" or backend.path.startswith("@"):
            continue
        file = FilePath(backend.path)
        try:
            is_socket = stat.S_ISSOCK(os.stat(file).st_mode)
        except PermissionError:
            trouble = reach(file, os.F_OK, reader) if reader and reader.here else None
        except OSError:
            if "fastcgi" in path:  # no app of one's own, which starts when it starts
                what = f"there is no socket {file} yet"
                remedy = "start PHP-FPM, or name the socket that listen says in its pool"
                notices.append(parsed.origins.fault(path, what, remedy))
            continue
        else:
            trouble = _no_socket(file, is_socket, reader)
        if trouble:
            yield parsed.origins.fault(path, *trouble)


def _backends(parsed: Parsed) -> Iterator[tuple[Path, Backend]]:
    for path, serving in parsed.servings():
        for number, each in enumerate(serving.backend or ()):
            yield (*path, "backend", number), each.url
        for one in serving.fastcgi.url if serving.fastcgi is not None else ():
            yield (*path, "fastcgi"), one


def _no_socket(file: FilePath, is_socket: bool, reader: Reader | None) -> Trouble | None:
    if not is_socket:
        return f"{file} is no socket", "name the socket that the app listens on"
    trouble = reach(file, os.W_OK, reader) if reader is not None else None
    if trouble is None or reader is None or "may not enter" in trouble[0]:
        return trouble
    return (
        f"uid {reader.uid} may not connect to {file}, for which it needs to write to it",
        f"have the app make it with mode 0666, or for gid {reader.gid} with 0660",
    )


def _log(parsed: Parsed, reader: Reader | None, opener: Reader | None) -> Iterator[Fault]:
    if "log" in parsed.broken or not parsed.document.log.access.startswith("/"):
        return
    trouble = _no_log(FilePath(parsed.document.log.access), reader, opener)
    if trouble:
        yield parsed.origins.fault(("log", "access"), *trouble)


def _no_log(file: FilePath, reader: Reader | None, opener: Reader | None) -> Trouble | None:
    """Whether lines can be appended to this file, or it can be made."""
    folder = file.parent
    try:
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            return f"{folder} is not a directory", "name a file in a directory"
    except FileNotFoundError:
        who = f"-o {reader.uid} -g {reader.gid} " if reader is not None else ""
        return (
            f"the directory {folder} does not exist",
            f"sudo install -d {who}-m 750 {typed(folder)}",
        )
    except OSError as error:
        return f"{folder} cannot be looked at: {error.strerror}", "name another place, or stdout"
    try:
        mode = os.lstat(file).st_mode
    except FileNotFoundError:
        return _may_write(folder, os.W_OK | os.X_OK, opener)
    except OSError as error:
        return f"{file} cannot be looked at: {error.strerror}", "name another file, or stdout"
    if stat.S_ISLNK(mode):
        target = os.path.realpath(file)
        streams = {os.path.realpath(f"/proc/self/fd/{fd}") for fd in (1, 2)}
        stream = target in streams or target.startswith(("/dev/", "/proc/"))
        return (
            f"{file} is a symbolic link, which is not followed here",
            "write stdout (or stderr)" if stream else f"name {target} itself, or write stdout",
        )
    if stat.S_ISDIR(mode):
        return f"{file} is a directory", f"name a file in it, like {file}/access.log"
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        return f"{file} is a pipe or a socket and no file", "write stdout, and pipe that"
    return _may_write(file, os.W_OK, opener)


def _may_write(path: FilePath, wanted: int, opener: Reader | None) -> Trouble | None:
    """Check who opens the file: root may, and a running server has it open already."""
    if opener is None or opener.uid == 0 or not opener.here or os.access(path, wanted):
        return None
    return (
        f"uid {opener.uid} may not write to {path}",
        f"sudo chown {opener.uid} {typed(path)}, or write stdout",
    )


def _no_bundle(file: FilePath, purpose: Literal["servers", "clients"]) -> Trouble | None:
    """Check that a file of CAs has one, before the first client, backend or order finds out."""
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


def _no_webhook(file: FilePath) -> Trouble | None:
    """Check that a file holds a URL, before the first alert finds out."""
    try:
        parse_webhook(file.read_text("utf-8", "replace").strip())
    except Wrong as wrong:  # which would repeat what may be secret
        return f"{file} holds no http or https URL", wrong.remedy
    except OSError:
        return None  # not ours to read
    return None


def _nothing_in_it(file: FilePath) -> Trouble | None:
    try:
        empty = not file.read_bytes().strip()
    except OSError:
        return None  # not ours to read
    return (f"{file} is empty", "put the secret there, and nothing else") if empty else None


def _no_cluster_secret(file: FilePath) -> Trouble | None:
    """Check the cluster's secret. The server starts all the same, and serves what it has."""
    from acme_client.storage.etcd.sealing import SecretFault, read_secrets  # cryptography

    try:
        read_secrets(file.read_text("utf-8", "replace"))
    except SecretFault as wrong:
        return f"{file}: {wrong}: nothing is taken from the cluster", _WHERE_SECRETS_COME_FROM
    except OSError:
        return None  # not ours to read
    return None


def _no_mac_key(file: FilePath) -> Trouble | None:
    """Check a MAC key, before the first order finds out, in the CA's words."""
    try:
        mac_key(file.read_text("utf-8", "replace"))
    except IssuanceError as problem:
        return (
            f"{file}: {problem.text}",
            "put the key there as the CA hands it out, and nothing else",
        )
    except OSError:
        return None  # not ours to read
    return None


def _command(parsed: Parsed, reader: Reader | None) -> Iterator[Fault]:
    """Check the program that alerts are handed to."""
    alerts = parsed.document.alerts
    if not alerts or not alerts.command or not alerts.command[0].startswith("/"):
        return
    file = FilePath(alerts.command[0])
    trouble = _trouble(file, False, None)
    if not trouble and reader is not None and not reader.may(os.path.realpath(file), os.X_OK):
        trouble = f"uid {reader.uid} may not execute {file}", f"sudo chmod a+rx {typed(file)}"
    if trouble:
        yield parsed.origins.fault(("alerts", "command"), *trouble)


def _trouble(
    path: FilePath, directory: bool, reader: Reader | None, *, secret: bool = False
) -> Trouble | None:
    kind = "directory" if directory else "file"
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return f"{path} does not exist", f"create it, or name the {kind} that is meant"
    except PermissionError:
        return reach(path, os.F_OK, reader) if reader and reader.here else None
    except (OSError, ValueError) as error:
        return f"{path} cannot be looked at: {error}", f"name the {kind} that is meant"
    if stat.S_ISDIR(status.st_mode) != directory:
        return f"{path} is not a {kind}", f"name the {kind} that is meant"
    if reader is None:
        return None
    # To serve files from a directory it must be entered; only to list it must it be read.
    return reach(path, os.X_OK if directory else os.R_OK, reader, secret=secret)


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
    relation = cache(_Relation(state).of)
    for path, root in roots:
        match relation(str(root)):
            case "above":
                yield origins.fault(
                    ("state",),
                    f"the state directory {state} lies in the document root {root}, "
                    "and its keys would be served",
                    f"name a folder within {root} as root, or keep the state elsewhere",
                )
            case "inside":
                yield origins.fault(
                    path,
                    f"the document root {root} lies in the state directory {state}",
                    "keep the two apart",
                )


class _Relation:
    """How document roots lie to the state directory."""

    def __init__(self, state: FilePath) -> None:
        self._mounts = Mounts()
        self._real = RealPaths()
        self._identities = cache(_identity)
        real = self._real.of(state)
        self._above = set(_way_up(real, self._identities))
        self._own, self._place = self._identities(real), self._mounts.position(state)
        self._below: dict[str, bool] = {}

    def of(self, root: str) -> Literal["above", "inside"] | None:
        real = self._real.of(root)
        identity = self._identities(real)
        if identity is None:
            return None
        place, position = self._place, self._mounts.position(FilePath(root))
        if identity in self._above or (place and position and place.lies_in(position)):
            return "above"
        if self._own is None:
            return None
        if self._is_below(real) or (place and position and position.lies_in(place)):
            return "inside"
        return None

    def _is_below(self, real: str) -> bool:
        """Whether a directory is the state directory or lies below it."""
        known = self._below.get(real)
        if known is None:
            above = os.path.dirname(real)
            known = self._identities(real) == self._own
            known = known or (above != real and self._is_below(above))
            self._below[real] = known
        return known


def _way_up(
    real: str, identity_of: Callable[[str], tuple[int, int] | None]
) -> Iterator[tuple[int, int]]:
    """Yield device and inode of a real path and all directories above it, of those that exist.

    Names would miss links; these two numbers are what a directory is. What is bound elsewhere has
    others above it: see `mounts`.
    """
    each = ""
    while each != real:
        each, real = real, os.path.dirname(real)
        identity = identity_of(each)
        if identity is not None:
            yield identity


def _identity(path: str | FilePath) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
