"""The whole examination, in the order in which one thing stands on another: configuration, machine,
files and backends, CAs, then each name. What can be asked at the same time is, and all of it has
bounds.

What only root can see is looked at first. Then root is given up, before anybody on the network has
said a word: names may lead anywhere, and whoever answers there is a stranger.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from acme_client.certificates import ca_choice
from acme_client.names import covers
from acme_client.on_demand.ask_url import CannotTell
from acme_client.on_demand.dns_check import interface_addresses
from acme_client.on_demand.policy import takes
from acme_client.status import CertificateStatus

from ..config.load import ConfigurationFaults, Options, load, state_directory
from ..config.model import Config, FastCgi, FastCgiAction, FilesAction, Site
from ..ipc import control_client
from ..ipc.control_client import NotRunning
from ..ipc.documents import Status
from ..system import preload
from ..version import VERSION
from .findings import Finding
from .probes import backends, cas, document_roots, machine
from .probes import reachability as visits
from .probes import server as running
from .probes import state as records
from .probes.dns import Names, Resolver
from .probes.server import Server
from .probes.state import Records
from .rules import (
    backends as backend_rules,
)
from .rules import (
    cas as judge_authorities,
)
from .rules import (
    dns as judge_names,
)
from .rules import (
    document_roots as document_root_rules,
)
from .rules import (
    machine as judge_machine,
)
from .rules import (
    reachability,
)
from .rules.cas import Configured, Directory
from .rules.dns import Issuer, Ours
from .rules.machine import ClockFacts
from .rules.reachability import Expected

# Names and addresses that are looked at at the same time: they wait more than they work.
_AT_ONCE = 16
# Of all names together; who has more than that asks about one of them.
_NAMES_MOST = 50


class NoSuchName(Exception):
    """The name that was asked about is not configured."""


def examine(
    options: Options, name: str | None, resolver: Resolver | None, uid: int
) -> Iterator[Finding]:
    """``uid``: who asks. Raises `NoSuchName`."""
    try:
        config = load(options, now_uid=uid)
    except ConfigurationFaults as faults:
        status = _status_of_server(options)
        if status is not None and status["config"] is None and _names_no_configuration(options):
            yield from _started_by_flags(status, name)
            return
        for line in str(faults).splitlines():
            yield Finding("wrong", "configuration", line)
        if status is not None:
            yield Finding(
                "attention", "server",
                f"runs, pid {status['pid']}, with an earlier configuration",
                "mend the file; until then a reload changes nothing",
            )  # fmt: skip
            yield from _certificates(status, name)
        return
    sites = _sites(config, name)
    where = f" ({config.source})" if config.source else ""
    yield Finding("ok", "configuration", f"valid: {len(config.sites)} sites{where}")
    hosts = _hosts(sites, name)
    server = running.find(config, [host for host, _site in hosts[:_NAMES_MOST]])
    yield running.speaks(server)
    if server.hidden:
        yield Finding(
            "unknown", "state directory", f"{config.state} is another user's", "ask as root"
        )
    else:
        yield from judge_machine.state(machine.state(config.state, config.uid), config.uid, uid)
    public = any(_is_public(site, config) for site in sites)
    http_01 = "http-01" in config.acme.challenges
    pid = server.status["pid"] if server.status else None
    yield from judge_machine.ports(
        machine.ports(config, pid),
        running=None if server.hidden else pid is not None,
        http_01=http_01,
        public=public,
    )
    kept = records.look_up(config, server)
    _give_up_root(config)
    yield from _content(config, sites)
    yield from _cluster(config)
    directories, ahead, whom = yield from _authorities(sites, kept)
    yield from judge_machine.clock(ClockFacts(ahead, whom, machine.synchronised()))
    if resolver is None and config.acme.resolvers:
        resolver = config.acme.resolvers[0].host, config.acme.resolvers[0].port
    yield from _names(config, hosts, server, kept, directories, resolver)
    if len(hosts) > _NAMES_MOST:
        yield Finding(
            "attention", "names", f"{len(hosts) - _NAMES_MOST} more names were not looked at",
            "treehouse-proxy doctor NAME",
        )  # fmt: skip


def _cluster(config: Config) -> Iterator[Finding]:
    if config.cluster is None:
        return
    from ..certifier import cluster as of_cluster
    from .probes import cluster as probe
    from .rules import cluster as rules

    yield from rules.findings(
        probe.look(of_cluster.settings(config.cluster), config.cluster.secret_file, config.state)
    )


def _sites(config: Config, name: str | None) -> list[Site]:
    if name is None:
        return list(config.sites)
    found = [site for site in config.sites if _serves(site, name)]
    if not found:
        known = ", ".join(site.names[0] for site in config.sites)
        raise NoSuchName(f"{name} is no configured name; there are: {known}")
    return found


def _serves(site: Site, name: str) -> bool:
    if covers(site.names, name):
        return True
    return site.on_demand is not None and takes(site.on_demand.patterns, name)


def _hosts(sites: list[Site], name: str | None) -> list[tuple[str, Site]]:
    if name is not None:
        return [(name, sites[0])]
    return [(host, site) for site in sites for host in site.names]


def _asks_a_ca(site: Site) -> bool:
    return not site.certificates and not site.internal


def _is_public(site: Site, config: Config) -> bool:
    """Whether a CA on the internet has to get there; one with a URL of its own may be anywhere."""
    return _asks_a_ca(site) and not config.acme.directory_given


def _status_of_server(options: Options) -> Status | None:
    """What a server says of itself whose configuration we do not have."""
    try:
        return control_client.status(state_directory(options.config, options.state), 5.0)
    except (NotRunning, ConfigurationFaults):
        return None


def _names_no_configuration(options: Options) -> bool:
    return options.config is None and not options.give_a_site


def _started_by_flags(status: Status, name: str | None) -> Iterator[Finding]:
    """A server without a file is nothing wrong: what it says of itself is looked at."""
    yield Finding(
        "ok", "server",
        f"runs: pid {status['pid']} as uid {status['uid']}, started by flags, without a file",
    )  # fmt: skip
    yield from _certificates(status, name)
    for one in status["upstreams"]:
        if one["healthy"] == "no":
            yield Finding(
                "wrong", one["url"], one["last_error"] or "requests to this backend fail",
                "start the backend, or see the server's log",
            )  # fmt: skip
    yield Finding(
        "unknown", "configuration", "names, ports and backends were not looked at from here",
        "give doctor the flags that the server was started with",
    )  # fmt: skip


def _certificates(status: Status, name: str | None) -> Iterator[Finding]:
    found = [one for one in status["certificates"] if name is None or name in one["names"]]
    if name is not None and not found:
        known = ", ".join(one["names"][0] for one in status["certificates"])
        raise NoSuchName(f"{name} is no name of the server that runs; there are: {known}")
    for one in found:
        yield from judge_authorities.certificate(one, (), time.time())


# What sites serve


def _content(config: Config, sites: list[Site]) -> Iterator[Finding]:
    """Document roots and backends, as the server's user meets them."""
    roots: dict[Path, list[str]] = {}
    scripts: dict[Path, FastCgi] = {}
    indexes: dict[Path, list[str]] = {}
    listed: set[Path] = set()
    for site in sites:
        for route in site.routes:
            if isinstance(route.action, FilesAction | FastCgiAction):
                if isinstance(route.action, FastCgiAction):
                    scripts[route.action.root] = route.action.fastcgi
                rules = route.rules
                if rules.listing.format != "off":
                    listed.add(route.action.root)
                indexes.setdefault(route.action.root, []).extend(rules.index)
                needed_by = roots.setdefault(route.action.root, [])
                if site.names[0] not in needed_by:
                    needed_by.append(site.names[0])
    for root, needed_by in roots.items():
        yield from document_root_rules.findings(
            document_roots.look(
                root, tuple(needed_by), indexes[root], root in listed, scripts.get(root)
            )
        )
    try:
        visits_of_backends = backends.visit_all(config, [site.names[0] for site in sites])
    except OSError as error:
        yield Finding("unknown", "backends", f"could not be looked at: {error.strerror}")
        return
    for visit in visits_of_backends:
        yield from backend_rules.findings(visit)


# CAs


def _authorities(
    sites: list[Site], kept: Records
) -> Generator[Finding, None, tuple[dict[str, Directory], float | None, str]]:
    """Gives back the directories by URL, and how far our clock is ahead of whose."""
    asked = kept.customers(sites)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        agent = f"treehouse-proxy/{VERSION}"
        answers = list(pool.map(lambda one: cas.directory(one, agent), asked.values()))
    addresses = any(_is_address(name) for site in sites for name in site.names)
    ahead: float | None = None
    whom = "nobody"
    directories: dict[str, Directory] = {}
    for authority, (found, off) in zip(asked.values(), answers, strict=True):
        directories[found.url] = found
        if off is not None and ahead is None:
            ahead, whom = off, found.host
        known, _url = kept.accounts[found.url]
        given = Configured(authority.profile, authority.eab is not None, known, addresses)
        yield from judge_authorities.directory(found, given)
    return directories, ahead, whom


def _is_address(name: str) -> bool:
    return name.replace(".", "").isdigit() or ":" in name


# Names


def _names(
    config: Config,
    hosts: list[tuple[str, Site]],
    server: Server,
    kept: Records,
    directories: dict[str, Directory],
    resolver: Resolver | None,
) -> Iterator[Finding]:
    ours = _our_addresses()
    asking = Names(resolver) if any(not _local(host) for host, _site in hosts) else None

    def about(entry: tuple[str, Site]) -> list[Finding]:
        host, site = entry
        status = kept.statuses.get(host) or kept.statuses.get(site.names[0])
        found: list[Finding] = []
        if status is not None and (host == site.names[0] or len(hosts) == 1):
            second = [one for name, one in kept.statuses.items() if name.startswith(f"{host}/")]
            runs = server.status is not None
            for one in (status, *second):
                name = host if one is status else one["name"]
                renamed = one.copy()
                renamed["names"] = [name, *one["names"]]
                costs = kept.costs.get(one["name"], ())
                found += judge_authorities.certificate(renamed, costs, time.time(), running=runs)
        try:
            found += _name(host, site, config, server, status, ours, asking, directories, kept)
        except Exception as error:  # of one name; the others are looked at all the same
            fault = f"a fault in the doctor itself: {error!r}"
            found.append(Finding("unknown", host, fault, "please report it"))
        return found

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for found in pool.map(about, hosts[:_NAMES_MOST]):
            yield from found


def _name(
    host: str,
    site: Site,
    config: Config,
    server: Server,
    status: CertificateStatus | None,
    ours: Ours,
    asking: Names | None,
    directories: dict[str, Directory],
    kept: Records,
) -> Iterator[Finding]:
    public = _is_public(site, config)
    addresses: tuple[str, ...] = ()
    if _is_address(host):
        addresses = (host,)
    elif _local(host) or asking is None:
        addresses = ("127.0.0.1",)
    else:
        if not host.startswith("*."):
            facts = asking.name(host, authoritative=_asks_a_ca(site))
            yield from judge_names.addresses(facts, ours, public=public)
            addresses = facts.addresses
        if _asks_a_ca(site):
            issuer = _issuer(site, config, directories, kept)
            yield from judge_names.caa(asking.caa(host), issuer)
    if host.startswith("*.") or not addresses:
        return
    expected = Expected(
        running=server.status is not None or server.hidden,
        serial=status["serial"] if status else None,
        # Beside a wildcard it is for when the records have failed.
        needs_http="http-01" in config.acme.challenges
        and _methods(site, config)[0] not in ca_choice.BY_DNS
        and _asks_a_ca(site),
        told=not server.hidden and (server.status is None or server.nonce is not None),
    )  # fmt: skip
    if (config.listen.http and 80 in [one.port for one in config.listen.http]) or public:
        met = tuple(visits.http_visit(host, one, server.nonce) for one in addresses)
        yield from reachability.http(host, met, expected)
    if 443 in [one.port for one in config.listen.https] or public:
        seen = tuple(visits.tls_visit(host, one) for one in addresses)
        yield from reachability.tls(host, seen, expected)


def _methods(site: Site, config: Config) -> tuple[str, ...]:
    """The challenges that its names may be proven by, the first one to begin with."""
    return ca_choice.kinds(site.names, config.acme.challenges, bool(config.acme.dns))


def _issuer(site: Site, config: Config, directories: dict[str, Directory], kept: Records) -> Issuer:
    directory = directories.get(config.acme.directory)
    identities = directory.identities if directory else ()
    _known, account = kept.accounts.get(config.acme.directory, (None, None))
    title = directory.host if directory else config.acme.directory
    return Issuer(title, identities, _methods(site, config), account)


def _local(host: str) -> bool:
    """Names that never leave the machine (RFC 6761 §6.3)."""
    return host == "localhost" or host.endswith(".localhost")


def _our_addresses() -> Ours:
    try:
        return Ours(tuple(str(one) for one in interface_addresses()))
    except CannotTell:
        return Ours(())


def _give_up_root(config: Config) -> None:
    """Become who the server is. A container that forbids it goes on as it is: nothing here is a
    gate."""
    if os.geteuid() != 0:
        return
    preload.everything()
    if config.cluster is not None:
        # `_cluster` imports them by then as a user who may not be able to read them.
        for name in ("proxy.certifier.cluster", "proxy.doctor.probes.cluster"):
            importlib.import_module(name)
    with contextlib.suppress(OSError):
        os.setgroups([])
        os.setresgid(config.gid, config.gid, config.gid)
        os.setresuid(config.uid, config.uid, config.uid)
