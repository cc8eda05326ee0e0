"""The command line and the files that it names, made into one tree of words.

Flags are laid over the file's tree, so that both pass the same validation, and a fault points at
whichever of them it came from. A site given by ``--domain`` stands beside those of the file; every
other flag replaces its key.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from dataclasses import field
from pathlib import Path
from typing import Any, TypeVar

from acme_client.late_dataclass import dataclass

from ..options import Options
from ..syntax.addresses import parse_host, parse_listen, spell_address
from ..syntax.faults import Fault, Origin, Origins, Wrong
from ..syntax.faults import Path as KeyPath
from ..syntax.yaml_reader import LARGEST, Document, parse
from ..values import Address
from . import containers, include, known_containers
from .sites_dir import scan

DEFAULT_CONFIG = Path("/etc/treehouse-proxy/config.yaml")

T = TypeVar("T")


# Flags and the keys they stand for

_KEYS: dict[str, tuple[str, ...]] = {
    "email": ("acme", "email"),
    "acme_directory": ("acme", "directory"),
    "acme_ca": ("acme", "ca_file"),
    "state": ("state",),
    "user": ("user",),
    "group": ("group",),
    "workers": ("workers",),
    "log_format": ("log", "format"),
    "log_level": ("log", "level"),
    "sandbox": ("sandbox",),
    "fast_lane": ("fast_lane",),
    "uvloop": ("uvloop",),
    "sites": ("sites_dir",),
}


def _flag(option: str, value: object) -> Origin:
    return Origin(f"--{'no-' if value is False else ''}{option.replace('_', '-')}")


def _spell(value: object) -> str:
    """Spell a flag's value as the word that would stand in the file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value.absolute()) if isinstance(value, Path) else str(value)


def _has_comma_for_dot(word: str) -> bool:
    """Whether a list of names may be a single name with a comma where a dot is meant."""
    names = word.split(",")
    return len(names) > 1 and any(name and "." not in name for name in names)


@dataclass(slots=True)
class Draft:
    """A tree of words that is still being put together."""

    tree: dict[str, Any]
    origins: Origins
    faults: list[Fault]
    base: Path
    source: Path | None
    notices: list[Fault] = field(default_factory=list)  # entries of the sites directory, left out
    broken: set[str] = field(default_factory=set)  # keys that a flag should have given, and did not
    entries: set[Origin] = field(default_factory=set)  # of the sites directory
    # Where each word of a container stands, and which of its sites is left out for a fault there.
    labels: dict[Origin, Origin] = field(default_factory=dict)

    @classmethod
    def of_file(cls, options: Options, argv0: str) -> Draft:
        """Return the tree of the file, if there is one to read; else an empty one."""
        path = options.config
        if path is None and options.give_a_site:
            return cls({}, Origins(Origin(argv0)), [], Path.cwd(), None)
        path = path or DEFAULT_CONFIG
        source = path.absolute()
        try:
            text = _read(path)
        except Wrong as wrong:
            what, remedy = wrong.what, wrong.remedy
            if options.config is None:
                what = f"no site is given, and {what}"
                remedy = f"{argv0} --domain NAME --root DIR, or --config FILE"
            fault = Fault(Origin("--config"), "", what, remedy)
            return cls({}, Origins(Origin(str(path))), [fault], source.parent, source)
        document = parse(text, str(path), os.environ)
        faults = list(document.faults)
        return cls(document.value, document.origins, faults, source.parent, source)

    def lay_over(self, options: Options) -> None:
        for option, path in _KEYS.items():
            value = getattr(options, option)
            if value is not None:
                self._put(path, _spell(value), _flag(option, value))
        self._lay_over_listeners(options)
        self._add_site(options)

    def _put(self, path: tuple[str, ...], value: Any, origin: Origin) -> None:
        section = self.tree
        for step in path[:-1]:
            if section.get(step) is None:
                section[step] = {}
            section = section[step]
            if not isinstance(section, dict):
                return  # the file has something else there, which is a fault already
        section[path[-1]] = value
        self.origins.put(path, origin, origin)

    def _lay_over_listeners(self, options: Options) -> None:
        """--bind replaces the hosts of all listeners, the port flags their ports."""
        hosts = []
        for word in options.bind:
            try:
                hosts.append(parse_host(word))
            except Wrong as wrong:
                self.faults.append(Fault(Origin("--bind"), "", wrong.what, wrong.remedy))
        for kind in ("http", "https"):
            port = getattr(options, f"{kind}_port")
            if not hosts and port is None:
                continue
            present = self._listeners(kind)
            ports = [port] if port is not None else _distinct(a.port for a in present)
            addresses = [
                spell_address(Address(host, each))
                for each in ports
                for host in hosts or _distinct(a.host for a in present)
            ]
            flag = Origin(f"--{kind}-port" if port is not None else "--bind")
            self._put(("listen", kind), addresses, flag)
            for index in range(len(addresses)):
                self.origins.put(("listen", kind, index), flag)

    def _listeners(self, kind: str) -> list[Address]:
        """Return the listeners of the file, as far as they can be read, or the default."""
        listen = self.tree.get("listen")
        words = listen.get(kind) if isinstance(listen, dict) else None
        if words is None:
            return [Address("", 80 if kind == "http" else 443)]
        found = []
        for word in words if isinstance(words, list) else [words]:
            with contextlib.suppress(Wrong):
                found.append(parse_listen(str(word)))
        return found

    def _add_site(self, options: Options) -> None:
        if not options.domain:
            for option in ("root", "backend"):
                if getattr(options, option):
                    self._miss_site(_flag(option, True), *_NO_NAME)
            return
        if not (options.root or options.backend):
            self._miss_site(Origin("--domain"), *_NOTHING)
            return
        if slips := [word for word in options.domain if _has_comma_for_dot(word)]:
            meant = slips[0].replace(",", ".")
            what = f'"{slips[0]}" names a host without a dot'
            remedy = f"write {meant} if a dot is meant; else give each name a --domain of its own"
            self._miss_site(Origin("--domain"), what, remedy)
            return
        names = [name for word in options.domain for name in word.split(",")]
        site: dict[str, Any] = {"names": names}
        path = self._append_site(site, Origin("--domain"))
        if options.root:
            site["root"] = _spell(options.root)
            self.origins.put((*path, "root"), Origin("--root"), Origin("--root"))
        if options.backend:
            site["backend"] = list(options.backend)
            self.origins.put((*path, "backend"), Origin("--backend"), Origin("--backend"))

    def _miss_site(self, flag: Origin, what: str, remedy: str) -> None:
        self.faults.append(Fault(flag, "", what, remedy))
        self.broken.add("sites")

    def _append_site(self, site: Any, origin: Origin) -> KeyPath:
        if self.tree.get("sites") is None:
            self.tree["sites"] = []
        sites = self.tree["sites"]
        path: KeyPath = ("sites", len(sites))
        if isinstance(sites, list):  # else that is a fault already
            sites.append(site)
            self.origins.put(path, origin)
            for key in site if isinstance(site, dict) else ():
                self.origins.put((*path, key), origin, origin)
        return path

    def add_included(self) -> None:
        """Append the sites of the files that ``include`` names."""
        given = self.tree.get("include")
        words = given if isinstance(given, list) else [given]
        patterns = [self.base / word for word in words if isinstance(word, str) and word.strip()]
        for _path, document in include.read(patterns, self.source, _parsed):
            if isinstance(document, Wrong):
                self.faults.append(self.origins.fault(("include",), document.what, document.remedy))
                self.broken.add("sites")
                continue
            self.faults += document.faults
            self.faults += include.beside_sites(document)
            if document.faults:
                self.broken.add("sites")
            sites = document.value.get("sites")
            for index, site in enumerate(sites if isinstance(sites, list) else []):
                place = self._append_site(site, document.origins.at(("sites", index)))
                self.origins.adopt(document.origins, ("sites", index), place)

    def add_sites_dir(self, slips: Collection[Origin]) -> None:
        """Add the sites of treehouse mode, but for the entries in ``slips``. An entry that is no
        site keeps nobody else from being served: it is told, and the rest goes on."""
        word = self.tree.get("sites_dir")
        if not isinstance(word, str) or not word.strip() or "\0" in word:
            return  # not given, or a fault of its own
        ports = [address.port for address in self._listeners("https")]
        try:
            entries, faults = scan(self.base / word, ports[0] if ports else 443)
        except Wrong as wrong:
            self.faults.append(self.origins.fault(("sites_dir",), wrong.what, wrong.remedy))
            return
        self.notices += faults
        for entry in entries:
            if entry.origin not in slips:
                self._append_site(entry.site, entry.origin)
                self.entries.add(entry.origin)

    def add_containers(self, state: Path | None, slips: Collection[Origin]) -> None:
        """Add the sites of containers, but for those in ``slips``, as the sites directory's."""
        if state is None or not self.asks_docker:
            return
        entries, told = containers.entries(known_containers.read(state))
        self.notices += told
        for entry in entries:
            if entry.origin in slips:
                continue
            place = self._append_site(entry.site, entry.origin)
            self.labels[entry.origin] = entry.origin
            for path, origin in entry.origins.items():
                self.origins.put((*place, *path), origin, origin)
                self.labels[origin] = entry.origin

    @property
    def asks_docker(self) -> bool:
        """Whether containers have sites."""
        given = self.tree.get("providers")
        return isinstance(given, dict) and given.get("docker") is not None


_NO_NAME = (
    "there is no name to serve this under",
    "add --domain NAME; localhost is one for trying things out",
)
_NOTHING = ("there is nothing to serve under this name", "add --root DIR or --backend URL")


def _parsed(path: Path) -> Document:
    """Raises `Wrong`."""
    return parse(_read(path), str(path), os.environ)


def _distinct(values: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(values))


def _read(path: Path) -> str:
    """Raises `Wrong`."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise Wrong(f"{path} does not exist", "create it, or name another file") from None
    except IsADirectoryError:
        raise Wrong(
            f"{path} cannot be read: Is a directory",
            "name a file in it; a directory of sites is --sites DIR",
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Wrong(
            f"{path} cannot be read as uid {os.geteuid()}: {reason}",
            "mend that; the server reads it again at each reload, as the user it has become",
        ) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Wrong(f"{path} is not UTF-8 in line {line}", "save the file as UTF-8") from None
