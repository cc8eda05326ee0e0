"""What every reader makes and the writer writes: sites and routes in our keys, each with its place.

A key's value is made of str, lists and dicts, as it will stand in YAML. Keys are not checked here:
`proofreading` does that with the code of ``check``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..config.syntax import field_rules
from ..config.syntax.faults import Path, Wrong

# Keys that keep people out. Where one of them goes, what it guarded must not be left open.
GUARDS = frozenset({"allow", "deny", "basic_auth", "forward_auth", "tls"})
# Keys that say which requests a route takes. Without one the route would take more than it should.
CONDITIONS = frozenset({"path", "match", "methods"})
ACTIONS = frozenset({"root", "backend", "redirect", "respond", "fastcgi"})
USUAL_ADDRESS = {"http": ":80", "https": ":443"}
EVERYBODY = ["0.0.0.0/0", "::/0"]


class CannotRead(Exception):
    """Tells why a file cannot be read at all, and where."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line of another program's configuration. ``line`` is 0 where there is none to name."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Left:
    """What was not taken over: its place, its own words, and why. ``guard``: it kept people out."""

    place: Place
    text: str
    why: str
    guard: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.text}: {self.why}"


@dataclass(slots=True)
class Entry:
    """The value of one key. ``inner`` has the places of what lies deeper in the value."""

    value: Any
    place: Place
    inner: dict[Path, Place] = field(default_factory=dict)


@dataclass(slots=True)
class Level:
    """What the top, a site and a route have in common. ``notes`` are said as comments: nothing was
    lost, and somebody should know."""

    place: Place
    keys: dict[str, Entry] = field(default_factory=dict)
    left: list[Left] = field(default_factory=list)
    notes: list[tuple[Place, str]] = field(default_factory=list)

    def put(self, key: str, value: Any, place: Place) -> None:
        self.keys[key] = Entry(value, place)

    def put_in(self, path: tuple[str, ...], value: Any, place: Place) -> None:
        """Set what lies deeper in a key, as ``("headers", "set", "X-A")``; lists grow."""
        entry = self.keys.setdefault(path[0], Entry({}, place))
        if not isinstance(entry.value, dict):
            entry.value = {}
        inner = entry.value
        for step in path[1:-1]:
            inner = inner.setdefault(step, {})
        last = path[-1]
        if isinstance(value, list):
            inner[last] = [*inner.get(last, []), *value]
        else:
            inner[last] = value
        entry.inner[path[1:]] = place

    def redirect(self, target: str, status: str, place: Place) -> None:
        """Send clients to ``target``, as routes write it."""
        self.put("redirect", target, place)
        self.put("status", status, place)

    def run_scripts(
        self, url: str, place: Place, controller: str = "", params: dict[str, str] | None = None
    ) -> None:
        """Have the scripts below ``root`` run. ``controller``: the script that takes what is
        neither a script nor a file, as a path below the root; "" for none."""
        said: dict[str, Any] = {"url": url}
        if controller != "/index.php":
            said["front_controller"] = False
            if controller:
                self.leave(place, controller, "what no file takes is for index.php or for nobody")
        if params:
            said["params"] = params
        for key in ("fallback", "extensions"):
            entry = self.keys.pop(key, None)
            if entry is not None:
                self.leave(entry.place, f"{key} {entry.value}", "scripts have index.php for that")
        self.put("fastcgi", said if len(said) > 1 else url, place)

    def pass_credentials(self, place: Place) -> None:
        """Let the backend see the password that was asked for here, as it did before."""
        removed = (self.value("request_headers") or {}).get("remove", [])
        taken_out = any(name.lower() == "authorization" for name in removed)
        if "basic_auth" in self.keys and "backend" in self.keys and not taken_out:
            self.put_in(("basic_auth", "forward"), True, place)

    def value(self, key: str) -> Any:
        entry = self.keys.get(key)
        return None if entry is None else entry.value

    def leave(self, place: Place, text: str, why: str, *, guard: bool = False) -> None:
        one = Left(place, text, why, guard)
        if one not in self.left:
            self.left.append(one)

    def fix_host(self, place: Place, source: str, text: str) -> None:
        """Take over what backends are told as Host whatever clients said, where it is one name."""
        try:
            host = field_rules.host(text)
        except Wrong:
            self.leave(place, source, "Host is the client's, the backend's own, or one fixed name")
        else:
            self.put_in(("request_headers", "host"), host, place)

    def note(self, place: Place, text: str) -> None:
        if (place, text) not in self.notes:
            self.notes.append((place, text))

    def close(self, place: Place, text: str, why: str) -> None:
        """Leave a guard out, and let nobody in until somebody has put another in its place."""
        self.leave(place, text, f"{why}; closed to everybody until that is settled", guard=True)
        self.keys.pop("allow", None)
        self.put("deny", list(EVERYBODY), place)

    @property
    def action(self) -> str | None:
        """Return the key that answers, if any; files beside scripts are "fastcgi"."""
        if "fastcgi" in self.keys:
            return "fastcgi"
        return next((key for key in self.keys if key in ACTIONS), None)


@dataclass(slots=True)
class Route(Level):
    path: str = "/*"

    @property
    def conditional(self) -> bool:
        """Whether the route takes only some of the requests for its path."""
        return bool({"match", "methods"} & self.keys.keys())

    def ask(self, asked: dict[str, Any], place: Place) -> None:
        """Take only requests that are as ``asked`` as well, which is said as ``match`` has it."""
        there = self.value("match") or {}
        merged = {kind: {**there.get(kind, {}), **said} if isinstance(said, dict) else said
                  for kind, said in asked.items()}  # fmt: skip
        self.put("match", {**there, **merged}, place)

    def copy(self, path: str) -> Route:
        """Return a route for another path that does the same; what was left is told once."""
        keys = {key: Entry(one.value, one.place, one.inner) for key, one in self.keys.items()}
        return Route(self.place, keys, [], [], path)

    def serve_whole(self, base: str, place: Place) -> None:
        """Serve files from ``base`` by their whole path, prefix included. Without this the folder
        of the route must be there, and nothing outside it can be sent in a file's place."""
        self.put("root", base or "/", place)
        if self.path.endswith("/*") and self.path != "/*":
            self.put("rewrite", f"{self.path[:-1]}{{rest}}", place)


@dataclass(slots=True)
class Site(Level):
    names: list[str] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    default: bool = False

    def stand_for_nameless(self) -> None:
        """Serve what a block without a name served; a person has to say which names these are."""
        self.names, self.default = ["localhost"], True
        self.note(self.place, "the block names no host; put its names in the place of localhost")

    def note_plain(self) -> None:
        """Tell that the other program served the site without TLS."""
        self.note(self.place, "it was plain HTTP; here it is HTTPS, and port 80 leads there")

    def order_certificate(self, file: str, place: Place) -> None:
        """Leave out the certificate in ``file``, which an ACME client has obtained before."""
        text = "the certificate is ordered from now on"
        if "letsencrypt" in file:
            text += "; treehouse-proxy certs import certbot takes over what is there"
        self.note(place, text)

    def add(self, route: Route) -> None:
        """Add a route, unless an earlier route takes the same requests, which is told."""
        for other in self.routes:
            if other.path == route.path and not other.conditional and not route.conditional:
                if other.keys != route.keys and route.action:
                    text = f"a second answer for {route.path}"
                    self.leave(route.place, text, f"the one of {other.place} is kept")
                self.left += route.left
                return
        self.routes.append(route)

    def require(
        self, path: str, asked: dict[str, Any], answer: dict[str, Any], place: Place
    ) -> None:
        """Let the routes of a path have only requests that are as ``asked``, and give ``answer``
        (its keys) to all others."""
        mine = [route for route in self.routes if route.path == path]
        for route in mine:
            route.ask(asked, place)
        rest = Route(place, path=path)
        for key, value in answer.items():
            rest.put(key, value, place)
        self.routes.insert(self.routes.index(mine[-1]) + 1, rest)


@dataclass(slots=True)
class Draft(Level):
    """The whole configuration. ``source`` is what people call the other program, like "nginx"."""

    source: str = ""
    sites: list[Site] = field(default_factory=list)

    def run_as(self, user: str, group: str, place: Place) -> None:
        """Take over who the other program ran as: the group alone. Its first process stayed root
        and kept the keys; here they belong to the server's user, and applications that run as the
        other program's user, PHP as a rule, would have them."""
        self.put("group", group, place)
        self.note(
            place,
            f"user {user} is not taken over, as which applications run: they would read the keys; "
            f"user: {user} is for files that {user} alone may read",
        )

    def listen_on(self, kind: str, addresses: Mapping[str, Place]) -> None:
        """Listen on addresses, each with its place, for http or https; nothing is said where that
        is what happens anyway."""
        if addresses and list(addresses) != [USUAL_ADDRESS[kind]]:
            self.put_in(("listen", kind), list(addresses), next(iter(addresses.values())))

    def levels(self) -> Iterator[Level]:
        yield self
        for site in self.sites:
            yield site
            yield from site.routes

    def all_left(self) -> list[Left]:
        found = [one for level in self.levels() for one in level.left]
        return sorted(dict.fromkeys(found), key=lambda one: (not one.guard, one.place))


Reader = Callable[[str], Draft]
