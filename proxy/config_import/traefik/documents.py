"""Traefik's configuration, from whichever file, as one tree with places.

Keys are the same in any case of letters, values are text or lists or mappings. A docker-compose
file has its configuration in labels, ``traefik.http.routers.shop.rule=…``, which make the same
tree; a file with ``providers.file`` names the file that has routers.
"""

from __future__ import annotations

import glob
import os
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import field
from typing import Any

from acme_client.late_dataclass import dataclass

from ...config.syntax.faults import Path
from ...config.syntax.yaml_reader import parse
from ..draft import CannotRead, Place
from ..source_text import read_text

_LABEL = "traefik."


@dataclass(slots=True)
class Node:
    """A mapping, list or word, and where it stands."""

    value: dict[str, Node] | list[Node] | str
    place: Place
    used: bool = False

    def get(self, *path: str) -> Node | None:
        node: Node | None = self
        for step in path:
            if node is None or not isinstance(node.value, dict):
                return None
            wanted = step.lower()
            node = next((one for key, one in node.value.items() if key.lower() == wanted), None)
            if node is not None:
                node.used = True
        return node

    def word(self, *path: str) -> str:
        found = self.get(*path)
        return found.value if found is not None and isinstance(found.value, str) else ""

    def on(self, *path: str) -> bool:
        return self.word(*path).lower() == "true"

    def items(self) -> Iterator[tuple[str, Node]]:
        self.used = True
        yield from self.value.items() if isinstance(self.value, dict) else ()

    def members(self) -> list[Node]:
        self.used = True
        if isinstance(self.value, list):
            return self.value
        return [self] if isinstance(self.value, str) and self.value else []

    def words(self, *path: str) -> list[str]:
        found = self.get(*path)
        if found is None:
            return []
        if isinstance(found.value, str):  # a label has its list in one word
            return [word.strip() for word in found.value.split(",") if word.strip()]
        return [one.value for one in found.members() if isinstance(one.value, str)]

    def use(self) -> None:
        """Mark the node and all that stands in it as taken over."""
        self.used = True
        inner = self.value.values() if isinstance(self.value, dict) else self.value
        for one in inner if not isinstance(inner, str) else ():
            one.use()

    def unused(self, path: str = "") -> Iterator[tuple[str, Node]]:
        """Yield what nobody has asked for, and nothing of what stands in that."""
        inner: Any = ()
        if isinstance(self.value, dict):
            inner = self.value.items()
        for key, one in inner:
            at = f"{path}.{key}" if path else key
            if not one.used:
                yield at, one
            else:
                yield from one.unused(at)


@dataclass(slots=True)
class Source:
    """Traefik's static and dynamic configuration in one tree; one file may hold both."""

    tree: Node
    compose: bool = False
    ports: dict[str, str] = field(default_factory=dict)  # of containers, by service
    left: list[tuple[Place, str, str]] = field(default_factory=list)


def read(path: str) -> Source:
    """Read a file, or a folder of files. Raises `CannotRead`."""
    if os.path.isdir(path):
        names = ("traefik.yml", "traefik.yaml", "traefik.toml")
        found = next((os.path.join(path, one) for one in names
                      if os.path.exists(os.path.join(path, one))), None)  # fmt: skip
        if found is None:
            return _merged(_folder(path), Place(path))
        path = found
    tree = _tree(path)
    if _is_compose(tree):
        return _compose(tree, path)
    others: list[str] = []
    file = tree.get("providers", "file")
    if file is not None:
        folder = os.path.dirname(os.path.abspath(path))
        inside = file.word("directory")
        named = [file.word("filename"), *_folder(os.path.join(folder, inside) if inside else "")]
        for one in named:
            if not one:
                continue
            beside = one if os.path.exists(one) else os.path.join(folder, os.path.basename(one))
            others.append(os.path.join(folder, one) if not os.path.isabs(one) else beside)
        file.use()
    source = Source(tree)
    for one in others:
        try:
            _join(source.tree, _tree(one))
        except CannotRead as error:
            source.left.append(
                (file.place if file else tree.place, f"providers.file {one}", str(error))
            )
    return source


def _merged(paths: list[str], place: Place) -> Source:
    if not paths:
        raise CannotRead(f"{place}: there is no YAML and no TOML file in it")
    whole = Source(Node({}, place))
    for path in paths:
        one = read(path)
        _join(whole.tree, one.tree)
        whole.ports |= one.ports
        whole.left += one.left
        whole.compose = whole.compose or one.compose
    return whole


def _folder(path: str) -> list[str]:
    if not path:
        return []
    found = [one for ending in ("yml", "yaml", "toml") for one in glob.glob(f"{path}/*.{ending}")]
    return sorted(found)


def _join(tree: Node, other: Node) -> None:
    if not isinstance(tree.value, dict) or not isinstance(other.value, dict):
        return
    known = {key.lower(): key for key in tree.value}
    for key, one in other.value.items():
        there = tree.value.get(known.get(key.lower(), key))
        if there is None:
            tree.value[key] = one
        elif isinstance(there.value, dict) and isinstance(one.value, dict):
            _join(there, one)
        elif key.lower() == "certificates" and isinstance(there.value, list):
            there.value += one.members()


def _tree(path: str) -> Node:
    text = read_text(path)
    if path.endswith(".toml"):
        return _of_toml(text, path)
    document = parse(text, path, None)
    if document.faults:
        raise CannotRead(str(document.faults[0]))

    def place(at: Path) -> Place:
        origin = document.origins.of_key(at)
        return Place(path, origin.line)

    return _node(document.value, (), place)


def _of_toml(text: str, path: str) -> Node:
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CannotRead(f"{path}: {error}") from None
    lines = _toml_lines(text)

    def place(at: Path) -> Place:
        names = [step for step in at if isinstance(step, str)]
        while names:
            line = lines.get(tuple(names))
            if line:
                return Place(path, line)
            names.pop()
        return Place(path)

    return _node(value, (), place)


def _toml_lines(text: str) -> dict[tuple[str, ...], int]:
    """Return the line of each table and key. Keys in inline tables have the line of the table."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        header = re.match(r"\[\[?([^\]]+)\]\]?", stripped)
        if header and "=" not in stripped.split("]")[0]:
            table = tuple(word.strip().strip("\"'") for word in header[1].split("."))
            found.setdefault(table, number)
            continue
        key = re.match(r"([A-Za-z0-9_.\"'-]+)\s*=", stripped)
        if key:
            names = tuple(word.strip("\"'") for word in key[1].split("."))
            found.setdefault((*table, *names), number)
    return found


def _node(value: Any, at: Path, place: Callable[[Path], Place]) -> Node:
    if isinstance(value, dict):
        inner = {str(key): _node(one, (*at, key), place) for key, one in value.items()}
        return Node(inner, place(at))
    if isinstance(value, list):
        return Node([_node(one, (*at, n), place) for n, one in enumerate(value)], place(at))
    if value is None:
        return Node({}, place(at))
    return Node(str(value).lower() if isinstance(value, bool) else str(value), place(at))


# docker-compose


def _is_compose(tree: Node) -> bool:
    services = tree.value.get("services") if isinstance(tree.value, dict) else None
    if services is None or not isinstance(services.value, dict):
        return False
    return any(one.get("image") or one.get("build") or one.get("labels")
               for one in services.value.values())  # fmt: skip


def _compose(tree: Node, path: str) -> Source:
    made = Node({}, Place(path))
    source = Source(made, compose=True)
    services = tree.get("services")
    for name, service in services.items() if services is not None else ():
        labels = service.get("labels") or service.get("deploy", "labels")
        _own_flags(service, made)
        if labels is None:
            continue
        port = _port(service)
        if port:
            source.ports[name] = port
        pairs = [
            (key, one) for key, one in labels.items()
        ] or [
            (one.value.partition("=")[0], Node(one.value.partition("=")[2], one.place))
            for one in labels.members() if isinstance(one.value, str)
        ]  # fmt: skip
        if any(key == "traefik.enable" and one.value == "false" for key, one in pairs):
            continue
        for key, one in pairs:
            if key.startswith(_LABEL) and isinstance(one.value, str):
                one.value = one.value.replace("$$", "$")
                _label(made, key.removeprefix(_LABEL), one, name)
        _container(made, name, pairs)
    return source


def _own_flags(service: Node, made: Node) -> None:
    """Take over the flags of Traefik's own container, which are its static configuration."""
    image = service.word("image")
    if not image.partition(":")[0].endswith("traefik"):
        return
    command = service.get("command")
    for one in command.members() if command is not None else ():
        if not isinstance(one.value, str):
            continue
        for word in one.value.split():
            key, _equals, value = word.lstrip("-").partition("=")
            _put(made, key.split("."), Node(value or "true", one.place))


def _port(service: Node) -> str:
    for word in service.words("expose") + service.words("ports"):
        found = re.search(r"(\d+)(?:/tcp)?$", word)
        if found:
            return found[1]
    return ""


def _label(made: Node, key: str, one: Node, container: str) -> None:
    steps = [re.sub(r"\[(\d+)\]", "", step) for step in key.split(".")]
    if steps[0].lower() in ("enable", "docker"):
        return
    _put(made, steps, one)
    # Which container a service or a router without one means.
    if len(steps) >= 3 and [step.lower() for step in steps[:2]] == ["http", "services"]:
        _put(made, ["http", "services", steps[2], "container"], Node(container, one.place))
    if len(steps) >= 3 and [step.lower() for step in steps[:2]] == ["http", "routers"]:
        _put(made, ["http", "routers", steps[2], "container"], Node(container, one.place))


def _container(made: Node, name: str, pairs: list[tuple[str, Node]]) -> None:
    routed = [one for key, one in pairs if key.lower().startswith("traefik.http.routers.")]
    named = [key for key, _one in pairs if key.lower().startswith("traefik.http.services.")]
    if routed and not named:
        _put(made, ["http", "services", name, "container"], Node(name, routed[0].place))


def _put(tree: Node, steps: list[str], one: Node) -> None:
    node = tree
    for step in steps[:-1]:
        if not isinstance(node.value, dict):
            return
        known = next((key for key in node.value if key.lower() == step.lower()), step)
        node = node.value.setdefault(known, Node({}, one.place))
    if isinstance(node.value, dict):
        last = next((key for key in node.value if key.lower() == steps[-1].lower()), steps[-1])
        node.value[last] = one
