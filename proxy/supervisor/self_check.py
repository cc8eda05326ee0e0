"""Checks that each worker serves the certificates in force: every hour, and after each change.

Where there are many, they are looked at in turn, a few every second.

The supervisor knows which certificates are in force; a worker answers which one a client gets from
it (`worker.self_probe`). Where the two differ, the worker is told again, and replaced where that
does not help. Neither should ever be needed, and both are errors in the log: otherwise clients
would be the first to find out that a renewed certificate is not served.
"""

from __future__ import annotations

import ipaddress
import itertools
import logging
import math
import time
from collections.abc import Iterable

from acme_client.late_dataclass import dataclass

from ..config.model import Config, Site
from ..ipc.messages import CertificateFacts, Probe, ProbeResult
from ..name_table import NameTable, covers, wildcard_of
from ..worker.startup import Announced
from .process_table import Child, Processes
from .registry import Registry
from .reload.generations import Generations

log = logging.getLogger("treehouse.supervisor")

EVERY = 3600.0
# Changes come in bursts, and in force they are when they have been acknowledged.
_SOON = 2.0
# Certificates that are looked at in one beat, each by a handshake with every worker: a twentieth of
# a worker's time, while there are so many.
_AT_ONCE = 20
# All certificates are looked at in this part of the time until it is their turn again.
_SPREAD = EVERY / 2
# Of families of keys, by OpenSSL's own order of signature algorithms.
_PREFERENCE = ("ecdsa", "ed25519", "ed448", "rsa")


@dataclass(frozen=True, slots=True)
class _Probe:
    """A question to a worker: which host, and which certificate it should serve there."""

    pid: int
    host: str
    family: str  # of the keys that the visitor knows; "" is any
    serial: str
    again: bool  # the worker has been told once more already


class SelfCheck:
    def __init__(self, processes: Processes, registry: Registry, generations: Generations) -> None:
        self._processes = processes
        self._registry = registry
        self._generations = generations
        self._probes: dict[int, _Probe] = {}
        self._number = 0
        self._next = time.monotonic() + EVERY
        # Names of certificates to be looked at, in order: those that have changed, and all others.
        self._changed: dict[str, None] = {}
        self._others: dict[str, None] = {}
        self._share = 0  # of the others, in one beat

    def beat(self, now: float) -> None:
        """Begin the probes that are due. Call it every second."""
        self._changed |= dict.fromkeys(self._registry.take_changes(now - _SOON))
        if now >= self._next:
            self._next = now + EVERY
            self._others = dict.fromkeys(one.facts.name for one in self._registry.certificates())
            self._share = min(math.ceil(len(self._others) / _SPREAD), _AT_ONCE)
        wanted = _taken(self._changed, _AT_ONCE) | _taken(self._others, self._share)
        if wanted:
            self._look(wanted)

    def _look(self, wanted: set[str]) -> None:
        related = self._registry.related(wanted)
        for child in self._processes.workers():
            for (name, family), one in self._expected(child, related).items():
                host = _visited(name)
                if host is not None and one.facts.name in wanted:
                    self._ask(child, host, family, one, again=False)

    def _ask(self, child: Child, host: str, family: str, one: Announced, *, again: bool) -> None:
        self._number += 1
        self._probes[self._number] = _Probe(child.pid, host, family, one.facts.serial, again)
        self._processes.tell_worker(child, Probe(self._number, host, family))

    def _expected(
        self, child: Child, certificates: Iterable[Announced]
    ) -> dict[tuple[str, str], Announced]:
        generation = self._generations.find(child.generation)
        if child.state != "serving" or generation is None:
            return {}
        return expected_certificates(certificates, generation.config)

    def result(self, child: Child, result: ProbeResult) -> None:
        """Compare a worker's answer with what it should serve."""
        look = self._probes.pop(result.number, None)
        if look is None or look.pid != child.pid or child.state != "serving":
            return
        if result.serial == look.serial:
            return
        seen = self._expected(child, self._registry.certificates())
        present = seen.get((look.host, look.family))
        if present is None:
            present = seen.get((wildcard_of(look.host), look.family))
        if present is None or present.facts.serial != look.serial:
            return  # it has been renewed meanwhile, and that is looked at by itself
        shown = result.serial or "nothing"
        if look.again:
            log.error("%s still shows %s for %s; it is replaced", child.title, shown, look.host)
            self._processes.kill(child)
            return
        log.error(
            "%s shows %s for %s instead of %s; it is told again",
            child.title, shown, look.host, look.serial,
        )  # fmt: skip
        self._registry.repeat(child, present.facts.name)
        self._ask(child, look.host, look.family, present, again=True)

    def ended(self, child: Child) -> None:
        """Forget the questions to a child that has ended."""
        self._probes = {number: one for number, one in self._probes.items() if one.pid != child.pid}


def _taken(waiting: dict[str, None], most: int) -> set[str]:
    taken = set(itertools.islice(waiting, most))
    for name in taken:
        del waiting[name]
    return taken


def expected_certificates(
    certificates: Iterable[Announced], config: Config
) -> dict[tuple[str, str], Announced]:
    """The certificate that a worker with this configuration serves for each name: to clients that
    support any kind of key ("") and, where a site has two certificates, to those that support RSA
    only ("rsa")."""
    sites = {site.names[0]: site for site in config.sites}
    offered: dict[str, list[Announced]] = {}
    of_site: dict[str, list[Announced]] = {}
    for one in sorted(certificates, key=lambda one: one.facts.not_after):
        if _knows(sites, one.facts):
            of_site.setdefault(one.facts.site, []).append(one)
            for name in one.facts.names:
                offered.setdefault(name, []).append(one)
    owners = NameTable({name: site.names[0] for site in sites.values() for name in site.names})
    seen = {}
    for name, several in offered.items():
        # As `Certificates.find` chooses: that of the host's own site, else the one that lasts
        # longest.
        host = _visited(name) or name
        owner = owners.find(host)
        own = of_site.get(owner[1], ()) if owner is not None else ()
        several = [one for one in own if covers(one.facts.names, host)] or several
        site = several[-1].facts.site
        kinds = {one.facts.family: one for one in several if one.facts.site == site}
        seen[name, ""] = kinds[min(kinds, key=_PREFERENCE.index)]
        if "rsa" in kinds and len(kinds) > 1 and _speaks_1_2(sites[site], config):
            seen[name, "rsa"] = kinds["rsa"]
    return seen


def _knows(sites: dict[str, Site], facts: CertificateFacts) -> bool:
    """Whether a worker with these sites takes the certificate."""
    on_demand_for = facts.on_demand_for
    if on_demand_for:
        return on_demand_for in sites and sites[on_demand_for].on_demand is not None
    site = sites.get(facts.site)
    return site is not None and (site.paired or facts.name == facts.site)


def _speaks_1_2(site: Site, config: Config) -> bool:
    """Whether a client without a certificate gets through a TLS 1.2 handshake: `ssl` cannot imitate
    a client that supports RSA only in TLS 1.3."""
    return config.tls.min_version == "1.2" and site.client_auth is None


def _visited(name: str) -> str | None:
    """The host to probe for a name; None for an address, which is no SNI (RFC 6066 §3)."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.replace("*", "any", 1)
    return None
