"""Caddyfiles, and the JSON that ``caddy adapt`` makes of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile

from ...config.syntax.faults import Wrong
from ...config.syntax.names import parse_name
from ..draft import CannotRead, Draft, Place, Site
from . import adapted, blocks, directives, matchers, options
from .tokens import Directive, Parser

_PATIENCE = 20.0  # for caddy adapt, which takes a tenth of a second


def import_caddy(path: str) -> Draft:
    """Read a Caddyfile, or the JSON of Caddy. Raises `CannotRead`."""
    if os.path.isdir(path):
        path = os.path.join(path, "Caddyfile")
    if path.endswith(".json"):
        return _of_json(path)
    parser = Parser(os.environ)
    try:
        top = parser.file(path)
    except CannotRead:
        made = _adapt(path)
        if made is None:
            raise
        return made
    draft = Draft(Place(path), source="Caddy")
    for place, text, why in parser.notes:
        draft.leave(place, text, why)
    if top and not top[0].name and top[0].block is not None:
        options.whole_server(top.pop(0), draft)
    for addresses, place, block in _site_blocks(top):
        _site(addresses, place, block, draft)
    return draft


def _of_json(path: str) -> Draft:
    draft = Draft(Place(path), source="Caddy")
    sites, said = adapted.read(path)
    options.whole_server(Directive("", [], draft.place, said), draft)
    for addresses, place, block in sites:
        _site(addresses, place, block, draft, ordered=False)
    return draft


def _adapt(path: str) -> Draft | None:
    """Read what Caddy itself makes of a file that cannot be read here. None where there is no
    Caddy, or Caddy cannot read the file either."""
    program = shutil.which("caddy")
    if program is None or not os.path.isfile(path):
        return None
    command = [program, "adapt", "--adapter", "caddyfile", "--config", path]
    try:
        # The program of the caller's PATH, for a file that the caller names.
        done = subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    with tempfile.TemporaryDirectory() as folder:
        made = os.path.join(folder, "Caddyfile.json")
        with open(made, "wb") as file:
            file.write(done.stdout)
        draft = _of_json(made)
    draft.note(draft.place, f"{path}, as caddy adapt reads it; places are lines of its JSON")
    return draft


def _site_blocks(top: list[Directive]) -> list[tuple[list[str], Place, list[Directive]]]:
    """Return addresses, place and block of each site. A file without braces is one site, and its
    first line has the addresses."""
    if not top:
        return []
    held: list[str] = []
    found: list[tuple[list[str], Place, list[Directive]]] = []
    for number, one in enumerate(top):
        words = [word for text in (one.name, *one.args) for word in text.split(",") if word]
        if one.block is None:
            if (one.args[-1] if one.args else one.name).endswith(","):
                held += words
                continue
            if number == 0 or (held and not found):
                return [([*held, *words], one.place, top[number + 1 :])]
            raise CannotRead(f"{one.place}: {one} stands in no site's block")
        found.append(([*held, *words], one.place, one.block))
        held = []
    return found


# Sites


def _site(
    addresses: list[str],
    place: Place,
    block: list[Directive],
    draft: Draft,
    *,
    ordered: bool = True,
) -> None:
    names: list[str] = []
    plain: list[str] = []
    nameless = False
    for address in addresses:
        found = re.fullmatch(r"(?:(https?)://)?(\[[^\]]+\]|[^:/]*)(?::(\d+))?(/.*)?", address)
        if found is None or "{" in address:
            draft.leave(place, address, "a site has a name")
            continue
        scheme, host, port, path = found.groups()
        if path and path not in ("/", "/*"):
            draft.leave(place, address, "paths are told apart in a site, by routes")
        if port and port not in ("80", "443"):
            kind = "http" if scheme == "http" else "https"
            options.listen(draft, kind, f":{port}", place)
        if not host or host == "*":
            nameless = True
            continue
        try:
            name = parse_name(host.strip("[]"))
        except Wrong as wrong:
            draft.leave(place, address, str(wrong))
            continue
        (plain if scheme == "http" or port == "80" else names).append(name)
    there = {name for site in draft.sites for name in site.names}
    if plain and not names and _only_to_https(block):
        known = [name for name in plain if name not in there]
        if not known:
            return
    names = [name for name in dict.fromkeys([*names, *plain]) if name not in there]
    double = [name for name in (*names, *plain) if name in there]
    if double and not names:
        draft.leave(place, " ".join(addresses), "there is a site with this name already")
        return
    hosts = _hosts(block)
    rest = list(names)
    for host in hosts:
        if not any(host == one or (one[:2] == "*." and host.endswith(one[1:])) for one in names):
            continue
        if host in names and len(names) == 1:
            continue
        if host in rest:
            rest.remove(host)
        if host not in there:
            _one(Site(place, names=[host]), block, host, draft, there, ordered)
    site = Site(place, names=rest)
    if not rest and nameless:
        if "localhost" in there:
            draft.leave(place, " ".join(addresses), "there is a site for localhost already")
            return
        site.stand_for_nameless()
    elif nameless:
        site.default = True
    if site.names:
        if plain and not _only_to_https(block):
            site.note_plain()
        _one(site, block, "" if not hosts else "\0", draft, there, ordered)


def _one(
    site: Site,
    block: list[Directive],
    host: str,
    draft: Draft,
    there: set[str],
    ordered: bool,
) -> None:
    for one in block:
        match one.name:
            case "tls":
                options.tls(one, site, draft)
            case "bind":
                site.leave(one.place, str(one), "addresses are listened on for all sites: listen")
            case "handle_errors":
                pass
    directives.compile_site(blocks.read_block(block, site, host, ordered=ordered), site)
    for one in block:
        if one.name == "handle_errors":
            _errors(one, site)
    draft.sites.append(site)
    there.update(site.names)


def _hosts(block: list[Directive]) -> list[str]:
    """Return the names that a block tells apart by ``host``."""
    found: list[str] = []
    for one in block:
        if one.name.startswith("@"):
            matcher = matchers.named(one)
            found += [
                name for name in matcher.hosts if not name.startswith("*") and "{" not in name
            ]
    return list(dict.fromkeys(found))


def _only_to_https(block: list[Directive]) -> bool:
    return bool(block) and all(
        one.name == "redir" and any("https://{host}" in word for word in one.args) for one in block
    )


# Errors

_ERROR = re.compile(r"\{(?:http\.error\.status_code|err\.status_code)\}")


def _errors(one: Directive, site: Site) -> None:
    """Take over ``handle_errors``, which has a page for each status, as ``error_pages``."""
    codes = [word for word in one.args if re.fullmatch(r"\d(\d\d|xx)", word)]
    inside = list(one.block or ())
    pages: dict[str, str] = {}
    named = {each.name: each for each in inside if each.name.startswith("@")}
    for each in inside:
        if each.name.startswith("@") or each.name in ("file_server", "root", "header", "templates"):
            continue
        if each.name == "rewrite" and each.args and each.args[0] in named:
            text = " ".join(named[each.args[0]].args)
            _page(re.findall(r"\b([45]\d\d)\b", text), each.args[-1], site, pages, each)
        elif each.name == "rewrite" and each.args:
            _page(codes or ["4xx", "5xx"], each.args[-1], site, pages, each)
        elif each.name == "handle" and each.args and each.args[0] in named:
            text = " ".join(named[each.args[0]].args)
            statuses = re.findall(r"\b([45]\d\d)\b", text)
            for inner in each.inner("rewrite"):
                _page(statuses, inner.args[-1], site, pages, inner)
            if not each.inner("rewrite"):
                site.leave(each.place, str(each), "an error page is a file, or a path of the site")
        else:
            site.leave(each.place, str(each), "an error page is a file, or a path of the site")
    for route in site.routes if pages else ():
        if route.action != "redirect":
            route.put("error_pages", dict(pages), one.place)


def _page(codes: list[str], target: str, site: Site, pages: dict[str, str], one: Directive) -> None:
    if not codes:
        site.leave(one.place, str(one), "which errors it is for is not said by their numbers")
        return
    if "{" not in target:
        pages[",".join(codes)] = target
        return
    if not _ERROR.search(target) or "{" in _ERROR.sub("", target):
        site.leave(one.place, str(one), "an error page is a file, or a path of the site")
        return
    root = next((route.value("root") for route in site.routes if route.value("root")), None)
    found = []
    for status in (
        "400",
        "401",
        "403",
        "404",
        "405",
        "410",
        "413",
        "429",
        "500",
        "502",
        "503",
        "504",
    ):
        path = _ERROR.sub(status, target)
        if root is not None and os.path.isfile(f"{root}{path}"):
            pages[status] = path
            found.append(status)
    if not found:
        site.leave(one.place, str(one), "each status is named here, with its page")
