"""Sites from the labels of containers (``providers: {docker: …}``).

    treehouse.domain: app.example.org, www.example.org      the site's names
    treehouse.port: "8080"                                  the port inside the container
    treehouse.compress: "false"                             any key of a site
    treehouse.routes.0.path: /api/*                         … at any depth; numbers are list entries
    treehouse.allow: "[10.0.0.0/8, private]"                … a list or mapping as YAML writes it
    treehouse.sites.admin.domain: admin.example.org         further sites of the same container
    treehouse.sites.admin.port: "9000"

`entries` turns them into the words that ``sites:`` would hold, so that they pass the same checks as
everything else, and faults point at the container and its label. What is wrong with one container
costs that container's site alone. A label's value never sees our environment: ``${NAME}`` is not
filled in.

Labels that an image brings along are not heeded: who builds an image is not who runs it.

The containers themselves are found by `proxy.containers`; those that the server knew last are in a
file (`known_containers`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from acme_client.late_dataclass import dataclass

from ..schema.site import ACTIONS
from ..syntax import yaml_reader
from ..syntax.faults import Fault, Origin, nearest, shown
from ..syntax.faults import Path as KeyPath
from .known_containers import BEST_FIRST, PREFIX, Container
from .sites_dir import left_out

_DEPTH = 12  # the deepest key there is stands at eight
# What a label may say beside the keys of a site.
_OWN_WORDS = ("domain", "port", "scheme", "network", "enable")
# Private keys are read before the privileges are dropped.
_ROOTS = frozenset({"certificate"})
_SCHEMES = ("http", "https", "h2c")
_ANSWERS = frozenset({*ACTIONS, "redirect", "respond"})
# What compose and swarm call the containers of one service by.
_SERVICE = (
    "com.docker.compose.project",
    "com.docker.compose.service",
    "com.docker.swarm.service.name",
)

# Where a label of a site stands, by its name behind the prefix.
Place = Callable[[str], Origin]


@dataclass(frozen=True, slots=True)
class Entry:
    """A site in the words of the schema, and where each of its keys comes from; ``origin`` is the
    container, or the containers that serve the site together."""

    site: dict[str, Any]
    origin: Origin
    origins: Mapping[KeyPath, Origin]


# From labels to sites


def entries(containers: Iterable[Container]) -> tuple[list[Entry], list[Fault]]:
    """Return every site, the oldest container's first, and what should be known: containers that
    are left out, with the reason, and those that do not do well."""
    found: list[Entry] = []
    told: list[Fault] = []
    services: dict[tuple[object, ...], list[Container]] = {}
    for one in sorted(containers, key=lambda one: (one.created, one.name)):
        services.setdefault(_service(one), []).append(one)
    for members in services.values():
        told += _of_the_image(members[0])
        best = min((one.condition for one in members), key=BEST_FIRST.index)
        asked = [one for one in members if one.condition == best]
        if best == "unwell":
            what = "unhealthy, or paused, and asked all the same, since no other has its site"
            told.append(Fault(_origin(asked), "", what, "see docker inspect, or its log"))
        for group, labels in _groups(asked[0].labels).items():
            origin = _origin(asked, group)
            try:
                entry = _entry(asked, origin, group, labels)
            except _Slip as slip:
                told.append(left_out(Fault(slip.origin, "", slip.what, slip.remedy)))
                continue
            if entry is not None:
                found.append(entry)
    return found, told


def _service(one: Container) -> tuple[object, ...]:
    """Return what containers have in common that serve a site together: their service, and all
    labels of ours."""
    service = tuple(one.labels.get(name, "") for name in _SERVICE)
    ours = tuple(sorted((name, v) for name, v in one.labels.items() if name.startswith(PREFIX)))
    return (service, ours) if any(service) else (one.name, ours)


def _origin(members: Sequence[Container], group: str = "") -> Origin:
    names = ", ".join(shown(one.name)[1:-1] for one in members)
    which = f", site {shown(group)[1:-1]}" if group else ""
    return Origin(f"container{'s' if len(members) > 1 else ''} {names}{which}")


def _of_the_image(one: Container) -> Iterator[Fault]:
    if one.image_labels:
        labels = ", ".join(map(shown, sorted(one.image_labels)))
        what = f"{labels}: a label of the image, which is not heeded"
        yield Fault(_origin([one]), "", what, "set it where the container is started")


class _Slip(Exception):
    def __init__(self, origin: Origin, what: str, remedy: str) -> None:
        super().__init__(what)
        self.origin, self.what, self.remedy = origin, what, remedy


def _groups(labels: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Sort the labels by the site that they are of: "" is the container's own, others are named."""
    groups: dict[str, dict[str, str]] = {}
    for name, value in sorted(labels.items()):
        if not name.startswith(PREFIX):
            continue
        group, key = "", name.removeprefix(PREFIX)
        if key.startswith("sites."):
            _, group, key = (*key.split(".", 2), "", "")[:3]
        groups.setdefault(group, {})[key] = value
    return groups


def _entry(
    members: Sequence[Container], origin: Origin, group: str, labels: dict[str, str]
) -> Entry | None:
    """Make the site of a group of labels; None where it is not to be served. Raises `_Slip`."""
    prefix = f"{PREFIX}sites.{group}." if group else PREFIX

    def place(key: str) -> Origin:
        return Origin(f"{origin.where}: label {prefix}{key}")

    enabled = labels.get("enable", "true").strip().lower()
    if enabled in ("false", "no", "off", "0"):
        return None
    if not {"domain", "names"} & labels.keys():
        given = ", ".join(prefix + key for key in sorted(labels))
        close = nearest(next(iter(sorted(labels))), ["domain"])
        remedy = close if "did you mean" in close else f"add {prefix}domain: NAME"
        raise _Slip(origin, f"there is {given} and no {prefix}domain", remedy)
    for key in sorted(labels):
        if key.partition(".")[0] in _ROOTS:
            what = "root reads these files, and takes no orders from labels"
            raise _Slip(place(key), what, "write the site into the configuration")
    site, origins = _tree({k: v for k, v in labels.items() if k not in _OWN_WORDS}, place)
    for path in _code(site):
        what = "a filter in Python may do all that this server may, and no label names one"
        raise _Slip(
            origins.get(path) or place(str(path[0])), what, "write the site into the configuration"
        )
    if "domain" in labels:
        if "names" in labels:
            raise _Slip(place("names"), "domain and names are the same", "keep one of the two")
        site["names"] = [name.strip() for name in labels["domain"].split(",") if name.strip()]
        for path in (("names",), *(("names", n) for n in range(len(site["names"])))):
            origins[path] = place("domain")
    _add_backends(site, origins, members, origin, labels, place)
    return Entry(site, origin, origins)


def _code(site: Mapping[str, Any]) -> Iterator[KeyPath]:
    """Yield the place of each key by which a site, or a route of it, names filters in Python."""
    if "use" in site:
        yield ("use",)
    routes = site.get("routes")
    # A single route needs no list.
    for number, route in enumerate(routes if isinstance(routes, list) else [routes]):
        if isinstance(route, dict) and "use" in route:
            yield ("routes", number, "use")


def _add_backends(
    site: dict[str, Any],
    origins: dict[KeyPath, Origin],
    members: Sequence[Container],
    origin: Origin,
    labels: Mapping[str, str],
    place: Place,
) -> None:
    """Give the site, or its routes that say no other answer, the containers as backends."""
    routes = site.get("routes")
    if _ANSWERS & site.keys():
        return
    if isinstance(routes, list):
        bare = [
            (number, route) for number, route in enumerate(routes)
            if isinstance(route, dict) and not _ANSWERS & route.keys()
        ]  # fmt: skip
        all_else = not any(isinstance(one, dict) and one.get("path") == "/*" for one in routes)
        if not bare and not all_else:
            return
        backend = [_backend(one, labels, place, origin) for one in members]
        source = place("port") if "port" in labels else origin
        for number, route in bare:
            route["backend"] = backend
            origins["routes", number, "backend"] = source
        if all_else:
            origins["routes", len(routes)] = origin
            origins["routes", len(routes), "backend"] = source
            routes.append({"path": "/*", "backend": backend})
        return
    site["backend"] = [_backend(one, labels, place, origin) for one in members]
    origins["backend",] = place("port") if "port" in labels else origin


def _backend(one: Container, labels: Mapping[str, str], place: Place, origin: Origin) -> str:
    scheme = labels.get("scheme", "http").strip()
    if scheme not in _SCHEMES:
        what = f"{shown(scheme)} is not known here"
        raise _Slip(place("scheme"), what, nearest(scheme, _SCHEMES))
    port = _port(one, labels, place, origin)
    host, number = _address(one, port, labels.get("network"), place, origin)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{number}"


def _port(one: Container, labels: Mapping[str, str], place: Place, origin: Origin) -> int:
    text = labels.get("port", "").strip()
    if text:
        if text.isascii() and text.isdecimal() and 0 < int(text) < 65536:
            return int(text)
        raise _Slip(place("port"), f"{shown(text)} is not a port", "write it like 8080")
    if len(one.exposed) == 1:
        return one.exposed[0]
    known = ", ".join(map(str, one.exposed))
    what = f"it has the ports {known}" if known else "it says nothing of a port"
    raise _Slip(origin, what, "say which one: treehouse.port, the port inside the container")


def _address(
    one: Container, port: int, network: str | None, place: Place, origin: Origin
) -> tuple[str, int]:
    """Return the host and port at which the server reaches this port of the container."""
    if one.shares_host:
        return "127.0.0.1", port
    by_name = {net.name: net for net in one.networks if net.address}
    if network is not None:
        if network.strip() in by_name:
            return by_name[network.strip()].address, port
        what = f"it is in no network {shown(network.strip())}"
        raise _Slip(place("network"), what, nearest(network, sorted(by_name)) or "leave it out")
    near = sorted(name for name, net in by_name.items() if net.near)
    if near:
        return by_name[near[0]].address, port
    published = one.published.get(str(port))
    if published is not None:
        return published[0], int(published[1])
    if by_name:
        return by_name[min(by_name)].address, port
    raise _Slip(
        origin,
        f"its port {port} cannot be reached: it is in no network and does not publish it",
        f"publish it (127.0.0.1:{port}:{port}), or put it into a network of this machine",
    )


# From dotted names to a tree


def _tree(labels: Mapping[str, str], place: Place) -> tuple[dict[str, Any], dict[KeyPath, Origin]]:
    tree: dict[str, Any] = {}
    origins: dict[KeyPath, Origin] = {}
    for key, text in labels.items():
        steps = key.split(".")
        if not all(steps) or len(steps) > _DEPTH:
            raise _Slip(place(key), "this is not the name of a key", "write it like routes.0.path")
        section = tree
        for step in steps[:-1]:
            section = section.setdefault(step, {})
            if not isinstance(section, dict):
                raise _Slip(place(key), "another label has the key above it", "leave one out")
        if steps[-1] in section:
            raise _Slip(place(key), "other labels have keys below it", "leave one out")
        section[steps[-1]] = _value(text, place(key))
        for length in range(1, len(steps) + 1):
            path = tuple(int(one) if one.isdecimal() else one for one in steps[:length])
            origins.setdefault(path, place(key))
    made = {key: _with_lists(value) for key, value in tree.items()}
    return made, origins


def _value(text: str, origin: Origin) -> Any:
    """Read a label's value: a word, or a list or mapping as YAML writes them on one line."""
    if not re.match(r"\s*[\[{]", text):
        return text
    document = yaml_reader.parse(f"value: {text}", "label")
    if document.faults:
        fault = document.faults[0]
        raise _Slip(origin, fault.what, fault.remedy)
    return document.value["value"]


def _with_lists(value: Any) -> Any:
    """Make lists of the mappings whose keys are 0, 1, 2, …; status codes and the like stay keys."""
    if not isinstance(value, dict):
        return value
    made = {key: _with_lists(inner) for key, inner in value.items()}
    numbers = [str(number) for number in range(len(made))]
    return [made[number] for number in numbers] if made and made.keys() == set(numbers) else made
