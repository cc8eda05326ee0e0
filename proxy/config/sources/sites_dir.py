"""Treehouse mode: a directory in which the file system is the configuration.

    example.org/                                 files
    www.example.org -> example.org               redirects there
    app.example.org -> http://127.0.0.1:3000     proxied (https:// and unix: likewise)
    shop.example.org -> /home/shop/public        files that lie elsewhere

`scan` turns this into the same words that ``sites:`` would hold, so that names, backends and
document roots pass the same checks as everything else, and faults point at the entry. Entries that
begin with a dot and plain files are nobody's site; a directory or link whose name is not a domain,
or a link that leads nowhere, is taken for a slip: it is left out and told, and the others are
served.

`signature` tells, every second or so, whether anything is new.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from acme_client.late_dataclass import dataclass

from ..syntax.addresses import parse_backend
from ..syntax.faults import Fault, Origin, Wrong, shown
from ..syntax.names import parse_name

_FILE_SYSTEMS_OWN = frozenset({"lost+found"})
_MOST = 100_000  # entries; a directory with more is not one of sites

_BACKEND_SCHEMES = ("http://", "https://", "unix:")

Signature = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One site, in the words of the schema, and the entry that it comes from."""

    site: dict[str, Any]
    origin: Origin


def scan(directory: Path, https_port: int = 443) -> tuple[list[Entry], list[Fault]]:
    """Return every site below ``directory``, in the order of their names, and why others are left
    out.

    ``https_port`` is where the sites will be found; it goes into redirects unless it is 443.
    Raises `Wrong` when the directory itself cannot be used.
    """
    entries: list[Entry] = []
    faults: list[Fault] = []
    try:
        with os.scandir(directory) as found:
            names = sorted(entry.name for entry in found)
    except OSError as error:
        raise Wrong(*_unreadable(directory, error)) from None
    if len(names) > _MOST:
        raise Wrong(f"{directory} has more than {_MOST} entries", "name the directory of sites")
    for name in names:
        origin = Origin(str(directory / name))
        try:
            site = _site(directory, name, https_port)
        except Wrong as wrong:
            faults.append(left_out(Fault(origin, "", wrong.what, wrong.remedy)))
        except OSError as error:
            faults.append(left_out(Fault(origin, "", *_unreadable(directory / name, error))))
        else:
            if site is not None:
                entries.append(Entry(site, origin))
    return _once_each(entries, faults), faults


def left_out(fault: Fault) -> Fault:
    """What is told of an entry with that fault."""
    return Fault(fault.origin, "", f"left out: {fault.what}", fault.remedy)


def _once_each(entries: list[Entry], faults: list[Fault]) -> list[Entry]:
    """One entry for each domain, the one that is spelt like it before any other; the rest become
    ``faults``."""
    chosen: dict[str, Entry] = {}
    for entry in entries:
        (domain,) = entry.site["names"]
        present = chosen.get(domain)
        if present is None or os.path.basename(entry.origin.where) == domain:
            chosen[domain] = entry
    for entry in entries:
        (domain,) = entry.site["names"]
        if chosen[domain] is not entry:
            what = f"{domain} has the entry {shown(os.path.basename(chosen[domain].origin.where))}"
            faults.append(left_out(Fault(entry.origin, "", what, "keep one of the two")))
    return [entry for entry in entries if chosen[entry.site["names"][0]] is entry]


def signature(directory: Path) -> Signature:
    """Return a value that differs from an earlier one when entries came, went, or lead elsewhere.

    What lies inside the document roots does not matter to it. A directory that cannot be read
    has a signature, too.
    """
    try:
        with os.scandir(directory) as entries:
            return tuple(sorted(_traits(entry) for entry in entries))
    except OSError as error:
        return (error.errno,)


def _traits(entry: os.DirEntry[str]) -> tuple[str, int, bool, str]:
    target = ""
    if entry.is_symlink():
        try:
            target = os.readlink(entry.path)
        except OSError:
            target = "\0"  # gone between two calls; nothing else is called that
    return entry.name, entry.inode(), bool(target), target


def _site(directory: Path, name: str, https_port: int) -> dict[str, Any] | None:
    """Return the site of one entry; None where there is none. Raises `Wrong` and OSError."""
    if name.startswith(".") or name in _FILE_SYSTEMS_OWN:
        return None
    path = directory / name
    mode = os.lstat(path).st_mode
    if stat.S_ISDIR(mode):
        return {"names": [_domain(name)], "root": str(path)}
    if not stat.S_ISLNK(mode):
        return None
    domain = _domain(name)
    target = os.readlink(path)
    if target.startswith(_BACKEND_SCHEMES):
        parse_backend(target)
        return {"names": [domain], "backend": [target]}
    neighbour = _neighbour(directory, target)
    if neighbour is not None:
        other = _domain(neighbour)
        if domain in _followed(directory, neighbour):
            raise Wrong(f"the link leads back to itself by way of {neighbour}", "end it elsewhere")
        return {"names": [domain], "redirect": _address(other, https_port)}
    if not path.is_dir():
        raise Wrong(
            f"the link leads to {shown(target)}, which is not a directory",
            "link to a directory, an entry here, or an http://, https:// or unix: address",
        )
    # Resolved now, so that a link that is changed later takes effect as a whole or not at all.
    return {"names": [domain], "root": os.path.realpath(path)}


def _domain(name: str) -> str:
    remedy = "rename it to the domain, or hide it with a dot in front"
    try:
        domain = parse_name(name)
    except Wrong as wrong:
        raise Wrong(wrong.what, remedy) from None
    if "." not in domain and ":" not in domain and domain != "localhost":
        raise Wrong(f"{shown(name)} is one word and not a domain", remedy)
    return domain


def _neighbour(directory: Path, target: str) -> str | None:
    """Return the name of the entry of ``directory`` that ``target`` is, if it is one."""
    parent, name = os.path.split(target.rstrip("/"))
    if name in ("", ".", ".."):
        return None
    try:
        if not os.path.samefile(directory / parent, directory):
            return None
    except OSError:
        return None
    if not os.path.lexists(directory / name):
        raise Wrong(f"there is no {shown(name)} here that the link could lead to", "create it")
    return name


def _followed(directory: Path, name: str) -> Iterator[str]:
    """Yield the domains that a browser is sent to, from ``name`` on."""
    seen: set[str] = set()
    following: str | None = name
    while following is not None and following not in seen:
        seen.add(following)
        yield _domain(following)
        path = directory / following
        following = _neighbour(directory, os.readlink(path)) if path.is_symlink() else None


def _address(domain: str, https_port: int) -> str:
    host = f"[{domain}]" if ":" in domain else domain
    port = "" if https_port in (0, 443) else f":{https_port}"
    return f"https://{host}{port}{{path}}"


def _unreadable(path: Path, error: OSError) -> tuple[str, str]:
    return f"{path} cannot be read: {error.strerror}", "mend that, or name another directory"
