"""Caddyfiles, and the JSON that ``caddy adapt`` makes of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile

from ...config.syntax.faults import Wrong
from ...config.syntax.names import parse_name
from ..draft import USUAL_ADDRESS, CannotRead, Draft, Place, Site
from ..times import duration
from ..word_lists import words
from . import adapted, blocks, directives, matchers
from .tokens import Directive, Parser

_KEY_TYPES = {
    "p256": "ecdsa-p256",
    "p384": "ecdsa-p384",
    "rsa2048": "rsa-2048",
    "rsa4096": "rsa-4096",
}
_PATIENCE = 20.0  # for caddy adapt, which takes a tenth of a second
_NEEDLESS = frozenset(
    words(
        """
    admin debug order log grace_period shutdown_delay auto_https_dry_run persist_config
    renew_interval ocsp_stapling ocsp_interval storage_clean_interval default_sni
    fallback_sni cert_lifetime storage filesystem metrics skip_install_trust cert_issuer
    default_bind
    """
    )
)


def import_caddy(path: str) -> Draft:
    """Raises `CannotRead`."""
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
        options = top.pop(0)
        _global(options, draft)
    for addresses, place, block in _site_blocks(top):
        _site(addresses, place, block, draft)
    return draft


def _of_json(path: str) -> Draft:
    draft = Draft(Place(path), source="Caddy")
    sites, options = adapted.read(path)
    _global(Directive("", [], draft.place, options), draft)
    for addresses, place, block in sites:
        _site(addresses, place, block, draft, ordered=False)
    return draft


def _adapt(path: str) -> Draft | None:
    """What Caddy itself makes of a file that cannot be read here; None where there is no Caddy, or
    it cannot either."""
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
    """A file without braces is one site: its first line has the addresses."""
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
            _listen(draft, kind, f":{port}", place)
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
                _tls(one, site, draft)
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
    """The names that a block tells apart by ``host``."""
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


def _listen(draft: Draft, kind: str, address: str, place: Place) -> None:
    entry = draft.value("listen") or {}
    there = entry.get(kind) or [USUAL_ADDRESS[kind]]
    if address not in there:
        draft.put("listen", {**entry, kind: [*there, address]}, place)


def _tls(one: Directive, site: Site, draft: Draft) -> None:
    args = one.args
    if args == ["internal"]:
        draft.put_in(("acme", "directory"), "internal", one.place)
        site.note(one.place, "the built-in CA certifies every site of this server then")
    elif len(args) == 2:
        site.put("certificate", {"chain": args[0], "key": args[1]}, one.place)
    elif len(args) == 1 and "@" in args[0]:
        draft.put_in(("acme", "email"), args[0], one.place)
    for each in one.block or ():
        match each.name:
            case "protocols" if each.args[:1] == ["tls1.3"]:
                draft.put_in(("tls", "min_version"), "1.3", each.place)
            case "key_type" if each.args and each.args[0] in _KEY_TYPES:
                site.put("key_type", _KEY_TYPES[each.args[0]], each.place)
            case "client_auth":
                _client_auth(each, site)
            case "on_demand":
                if "on_demand" not in site.keys:
                    site.put("on_demand", {"dns": "true"}, each.place)
                    site.note(each.place, "names on demand must be allowed: dns, ask or patterns")
            case "protocols" | "ciphers" | "curves" | "alpn" | "propagation_timeout" | "resolvers":
                pass
            case "dns":
                site.leave(
                    each.place, str(each), "acme.dns says how records are set: zone, provider"
                )
            case "ca" if each.args:
                draft.put_in(("acme", "directory"), each.args[0], each.place)
            case "ca_root" if each.args:
                draft.put_in(("acme", "ca_file"), each.args[0], each.place)
            case _:
                site.leave(each.place, str(each), "it has no counterpart here")


def _client_auth(one: Directive, site: Site) -> None:
    mode, file = "require", ""
    for each in one.block or ():
        if each.name == "mode" and each.args:
            mode = "require" if each.args[0] == "require_and_verify" else "request"
            if each.args[0] in ("require", "request"):
                site.close(each.place, str(each), "client certificates are verified here")
                return
        elif each.name in ("trusted_ca_cert_file", "trusted_leaf_cert_file") and each.args:
            file = each.args[0]
        elif each.name == "trust_pool" and each.args[:1] == ["file"]:
            file = each.args[1] if len(each.args) > 1 else ""
            for inner in each.inner("pem_file"):
                file = inner.args[0]
    if not file:
        site.close(one.place, str(one), "whose certificates are asked for is not said by a file")
        return
    site.put_in(("tls", "client_auth"), {"ca_file": file, "mode": mode}, one.place)


# Errors

_ERROR = re.compile(r"\{(?:http\.error\.status_code|err\.status_code)\}")


def _errors(one: Directive, site: Site) -> None:
    """``handle_errors``: pages for statuses."""
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


# Global options


def _global(options: Directive, draft: Draft) -> None:
    for one in options.block or ():
        args, place = one.args, one.place
        match one.name:
            case "email" if args:
                draft.put_in(("acme", "email"), args[0], place)
            case "acme_ca" if args:
                draft.put_in(("acme", "directory"), args[0], place)
            case "acme_ca_root" if args:
                draft.put_in(("acme", "ca_file"), args[0], place)
            case "key_type" if args and args[0] in _KEY_TYPES:
                draft.put_in(("acme", "key_type"), _KEY_TYPES[args[0]], place)
            case "local_certs":
                draft.put_in(("acme", "directory"), "internal", place)
            case "http_port" | "https_port" if args:
                draft.put_in(("listen", one.name.removesuffix("_port")), [f":{args[0]}"], place)
            case "preferred_chains" if len(args) == 1:
                draft.put_in(("acme", "preferred_chain"), args[0], place)
            case "on_demand_tls":
                for each in one.block or ():
                    if each.name == "ask" and each.args:
                        draft.note(each.place, f"names on demand: ask {each.args[0]}")
            case "servers":
                _servers(one, draft)
            case "auto_https":
                draft.note(place, "port 80 leads to https always")
            case "acme_eab":
                draft.leave(place, str(one), "acme.eab: {kid, hmac_key_file}")
            case "acme_dns" | "dns":
                draft.leave(place, str(one), "acme.dns says how records are set: zone, provider")
            case name if name in _NEEDLESS:
                pass
            case _:
                draft.leave(place, str(one), "it has no counterpart here")


def _servers(one: Directive, draft: Draft) -> None:
    for each in one.block or ():
        if each.name == "trusted_proxies" and each.args[:1] == ["static"]:
            networks = ["private" if word == "private_ranges" else word for word in each.args[1:]]
            draft.put("trusted_proxies", networks, each.place)
        elif each.name == "timeouts":
            for inner in each.block or ():
                if inner.name == "read_header" and inner.args and duration(inner.args[0]):
                    draft.put_in(("limits", "header_timeout"), duration(inner.args[0]), inner.place)
                elif inner.name == "idle" and inner.args and duration(inner.args[0]):
                    path = ("limits", "keepalive_timeout")
                    draft.put_in(path, duration(inner.args[0]), inner.place)
        elif each.name == "protocols":
            if "h2" not in each.args:
                draft.put("http2", "off", each.place)
        elif each.name == "listener_wrappers" and each.inner("proxy_protocol"):
            for inner in each.inner("proxy_protocol"):
                for allow in inner.inner("allow"):
                    draft.put("proxy_protocol", allow.args, allow.place)
        elif each.name not in ("metrics", "max_header_size", "log_credentials", "strict_sni_host",
                               "keepalive_interval", "trusted_proxies_strict", "client_ip_headers",
                               "enable_full_duplex", "name", "trace"):  # fmt: skip
            draft.leave(each.place, str(each), "it has no counterpart here")
