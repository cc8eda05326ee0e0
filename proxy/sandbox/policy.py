"""What each process may still do: computed from the configuration.

Nothing here asks the kernel for anything, so ``treehouse-proxy sandbox`` can print it without a
server; `confinement.apply` is what forces it. Every grant names its reason; what is not granted is
refused.

- A *worker* speaks with strangers. It reads document roots and what its own interpreter and name
  resolution need, writes and executes nothing, connects to the backends' ports, binds none.
- The *certifier* speaks with CAs and holds the keys. It has the state directory, and connects to
  where CAs and name servers are. It reads no document root and binds no port.
- A *hook*, where the configuration has one (``acme.dns``), is the operator's program that sets
  records in the DNS. It is started by the certifier and keeps less than that one: what is installed
  in the system's folders for programs, and its own folder; nothing of the state directory but a
  folder for its own temporary files; connections to HTTPS and DNS.
- A *dns-provider*, where ``acme.dns`` names one, speaks with the interfaces of DNS providers. It is
  forked by the certifier before that one is confined: it reads what our interpreter needs, connects
  to HTTPS, DNS and the ports that its settings name, executes nothing, and has of the state
  directory no more than a hook.
- A *docker*, where ``providers`` names Docker or Podman, reads what containers there are. Of a
  unix socket it is handed the connections by a *docker-door*, which alone has the socket's group
  and does nothing else (`containers.door`).
- The *exporter*, where the configuration has ``tracing``, connects to the collector.
- A *messenger* delivers alerts and ends (`alerts.policy`).
- The *supervisor* speaks with nobody on the network, but a sandbox is inherited: whatever a worker
  of a later configuration may need (another document root, another backend's port), the supervisor
  must not have given up. So it keeps reading, connecting (abstract unix sockets included, of which
  a worker keeps them only where a backend is one) and binding as its user may, and gives up
  for itself and for all that come after it: writing anywhere but in the state directory and beside
  the access log, executing anything but what lies beside its interpreter (upgrade; the folder, not
  the file, because an update of the interpreter is another file) and, where there are any, the DNS
  hook, the alert command and what they call, device ioctls, mounting, and signalling or
  tracing any process outside its tree.

Resource limits: descriptors as the configuration needs them; core files are off for every process
(`privileges.confine_process`). Not RLIMIT_NPROC, which counts all threads of the user on the whole
machine, so that another service as nobody could stop ours from looking a name up; not RLIMIT_FSIZE,
which would silently cut a log that standard error is redirected to.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from acme_client.link import acme_sh

from ..config.checks.descriptors import certificates, for_certificates, wanted
from ..config.model import (
    Acme,
    Cluster,
    Config,
    Dns,
    FastCgiAction,
    FilesAction,
    ProxyAction,
    Tracing,
    proxied,
)
from .grants import NOTHING, Grant, Policy, Port, Role
from .paths import HERE, LOADERS, Surroundings

_LIBRARIES = "shared libraries that are loaded late (name services)"
_SYSTEM = (
    *(
        Grant(Path(path), "looking names up", optional=True)
        for path in (
            "/etc/resolv.conf",
            "/etc/hosts",
            "/etc/host.conf",
            "/etc/nsswitch.conf",
            "/etc/gai.conf",
        )
    ),
    # The cache is made anew whenever the system's packages are updated, and can be done without.
    Grant(Path("/etc/ld.so.cache"), _LIBRARIES, optional=True, once=True),
    *(
        Grant(Path(path), _LIBRARIES, optional=True)
        for path in ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
    ),
    *(
        Grant(Path(path), "local time in the log", optional=True)
        for path in ("/etc/localtime", "/usr/share/zoneinfo")
    ),
    Grant(Path("/proc/self"), "its own figures"),
)
_TRUST = ("/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/usr/share/ca-certificates")
DNS = Port(53, "name servers, for answers too long for UDP")


def policies(config: Config, here: Surroundings = HERE) -> Mapping[Role, Policy]:
    """Return what each process may do under this configuration; for messengers `alerts.policy`."""
    roles: dict[Role, Policy] = {
        "supervisor": _supervisor(config, here),
        "worker": _worker(config, here),
        "certifier": _certifier(config, here),
    }
    if _hooks(config):
        roles["hook"] = _hook(config, here)
    if any(dns.provider for dns in config.acme.dns):
        roles["dns-provider"] = _dns_provider(config, here)
    if config.providers.docker is not None:
        roles |= _docker(config.providers.docker.url, here)
    if config.tracing is not None:
        roles["exporter"] = _exporter(config.tracing, config, here)
    return roles


def _exporter(rules: Tracing, config: Config, here: Surroundings) -> Policy:
    parts = urlsplit(rules.endpoint)
    number = parts.port or (443 if parts.scheme == "https" else 80)
    port = Port(number, f"the collector at {parts.hostname}")
    return Policy(
        descriptors=256,
        read=base(here),
        connect=(port, *(() if number == DNS.number else (DNS,))),
        hidden=config.state,
    )


def _docker(url: str, here: Surroundings) -> Mapping[Role, Policy]:
    if url.startswith("unix:"):
        path = Path(url.removeprefix("unix:"))
        socket = Grant(path, "connections to it, handed on unread")
        return {
            "docker": Policy(descriptors=256, read=base(here)),
            "docker-door": replace(NOTHING, sockets=(socket,)),
        }
    port = Port(urlsplit(url).port or 2375, f"the Docker API at {urlsplit(url).hostname}")
    return {"docker": Policy(descriptors=256, read=base(here), connect=_each_once(port, DNS))}


def _supervisor(config: Config, here: Surroundings) -> Policy:
    append: tuple[Grant, ...] = ()
    write: tuple[Grant, ...] = ()
    if config.log.access.startswith("/"):
        folder = Path(config.log.access).parent
        if config.log.rotate is not None:
            write = (Grant(folder, "the access log, which is rotated here"),)
        else:
            append = (Grant(folder, "the access log, when it is reopened"),)
    program = [Grant(path, "this program again, when it is upgraded") for path in here.program]
    return Policy(
        # What children and listeners need, and room for a reload; hundreds of certificates lie in
        # one.
        descriptors=8192 + 16 * config.workers + for_certificates(certificates(config)),
        read=(Grant(Path("/"), "configurations to come, and the document roots they name"),),
        write=(Grant(config.state, "the control socket; the certifier's store"), *write),
        append=(*append, *nowhere(config)),
        execute=(*program, *_hook_programs(config), *alert_programs(config)),
        connect=None,
        bind=None,
        lenient_children=True,
        abstract_sockets=True,
    )


def _worker(config: Config, here: Surroundings) -> Policy:
    return Policy(
        descriptors=wanted(config),
        read=(*_roots(config), *_backend_trust(config), *base(here)),
        connect=tuple(_backend_ports(config)),
        hidden=config.state,
        abstract_sockets=any(
            backend.path.startswith("@")
            for action in _proxied(config)
            for backend in action.backends
        ),
    )


def _certifier(config: Config, here: Surroundings) -> Policy:
    asks_a_ca = any(
        (not site.internal and not site.certificates)
        or (site.on_demand and config.acme.directory != "internal")
        for site in config.sites
    )
    return Policy(
        descriptors=1024,
        read=(*base(here), *(_hook_reads(config, here) if _hooks(config) else ())),
        write=(Grant(config.state, "accounts, certificates and keys"),),
        append=tuple(nowhere(config)),
        execute=tuple(_hook_programs(config)),
        connect=_each_once(
            *(_ca_ports(config.acme) if asks_a_ca else ()),
            *_on_demand_ports(config),
            *_cluster_ports(config.cluster),
        ),
    )


# Programs that a script calls: curl, jq, dig, an interpreter.
# `acme_client.challenges.dns_hook` has the same as PATH.
_PROGRAMS = ("/usr/local/bin", "/usr/bin", "/bin")
_NULL = Path("/dev/null")


def scratch(config: Config) -> Path:
    """Return the folder in which a hook may keep files of its own."""
    return config.state / "dns-hook"


def _hooks(config: Config) -> list[Path]:
    return [
        program
        for dns in config.acme.dns
        for program in (dns.hook, dns.hook_cleanup)
        if program is not None
    ]


def _hook(config: Config, here: Surroundings) -> Policy:
    return Policy(
        descriptors=1024,
        read=tuple(_hook_reads(config, here)),
        write=(Grant(scratch(config), "its own files (TMPDIR and HOME)"),),
        append=tuple(nowhere(config)),
        execute=tuple(_hook_programs(config)),
        connect=(Port(DNS.number, DNS.why), Port(443, "a DNS provider's interface")),
    )


def _dns_provider(config: Config, here: Surroundings) -> Policy:
    named = (
        Port(number, f"what acme.dns says of {dns.provider}")
        for dns in config.acme.dns
        for number in _named_ports(dns)
    )
    return Policy(
        descriptors=1024,
        read=(*base(here), Grant(Path("/dev/urandom"), "random numbers", optional=True)),
        write=(Grant(scratch(config), "its own files (TMPDIR and HOME)"),),
        connect=_each_once(DNS, Port(443, "a DNS provider's interface"), *named),
    )


def _named_ports(dns: Dns) -> Iterator[int]:
    """Find the ports in the settings of a provider that runs somewhere of one's own."""
    for one in dns.credentials if dns.provider else ():
        text = one.value or ""
        try:
            if "://" in text:
                url = urlsplit(text)
                yield url.port or (80 if url.scheme == "http" else 443)
            elif one.name.endswith("port") and text.isdecimal():
                yield int(text)
            elif re.fullmatch(r"[A-Za-z0-9.-]+:\d{1,5}", text):
                yield int(text.rpartition(":")[2])
        except ValueError:
            continue


def _hook_reads(config: Config, here: Surroundings) -> Iterator[Grant]:
    """Grant what a hook reads; to the certifier too, since a child gets no more than its parent
    has."""
    for hook in _hooks(config):
        yield Grant(hook.parent, "the DNS hook, and what lies beside it")
    for dns in config.acme.dns:
        if dns.hook is not None and dns.hook_style == "acme.sh":
            yield Grant(acme_sh(dns.hook).parent, "acme.sh, which its plug-ins call")
    yield from what_scripts_read(here)


def what_scripts_read(here: Surroundings) -> Iterator[Grant]:
    """Grant what the programs of a DNS hook or an alert command read."""
    for path in dict.fromkeys((*map(Path, _TRUST), *here.trust)):
        yield Grant(path, "trusted CAs", optional=True)
    yield from (grant for grant in _SYSTEM if not grant.path.is_relative_to("/proc"))
    for folder in ("/usr/share", "/usr/local/lib", "/usr/local/share"):
        yield Grant(Path(folder), "what programs of scripts read", optional=True)
    for device in (_NULL, Path("/dev/urandom")):
        yield Grant(device, "devices that scripts read", optional=True)


def _hook_programs(config: Config) -> Iterator[Grant]:
    """Grant folders and not files: an update of a program, or of the hook, is another file."""
    hooks = _hooks(config)
    for hook in hooks:
        yield Grant(hook.parent, "the DNS hook")
    for path in (*map(Path, _PROGRAMS), *LOADERS) if hooks else ():
        yield Grant(path, "programs that the DNS hook calls", optional=True)


def alert_programs(config: Config) -> Iterator[Grant]:
    """Grant what an alert command executes; mail is often sent by a program in /usr/sbin."""
    if config.alerts is None or not config.alerts.command:
        return
    program = Path(config.alerts.command[0])
    for path in (program.parent, program):
        yield Grant(path, "the alert command")
    for path in (*map(Path, _PROGRAMS), Path("/usr/sbin"), Path("/sbin"), *LOADERS):
        yield Grant(path, "programs that the alert command calls", optional=True)


def nowhere(config: Config) -> Iterator[Grant]:
    if _hooks(config) or (config.alerts and config.alerts.command):
        yield Grant(_NULL, "output that a script throws away")


def _each_once(*ports: Port) -> tuple[Port, ...]:
    """In the order of their numbers; of several with the same number the first stays."""
    whys: dict[int, str] = {}
    for port in ports:
        whys.setdefault(port.number, port.why)
    return tuple(Port(number, whys[number]) for number in sorted(whys))


def _cluster_ports(cluster: Cluster | None) -> Iterator[Port]:
    for url in cluster.etcd if cluster is not None else ():
        parts = urlsplit(url)
        if parts.port is not None:
            yield Port(parts.port, f"etcd at {parts.hostname}")
        if not _is_address(parts.hostname or ""):
            yield DNS


def _on_demand_ports(config: Config) -> Iterator[Port]:
    """Grant the ports of ``ask`` and of the name servers that say where names lead."""
    for site in config.sites:
        if site.on_demand is None:
            continue
        if site.on_demand.ask is not None:
            parts = urlsplit(site.on_demand.ask)
            number = parts.port or (443 if parts.scheme == "https" else 80)
            yield Port(number, f"{parts.hostname}, who says which names {site.names[0]} has")
            if not _is_address(parts.hostname or ""):
                yield DNS
        if site.on_demand.dns:
            yield DNS
            for resolver in config.acme.resolvers:
                yield Port(resolver.port, f"the resolver {resolver.host}")


def base(here: Surroundings) -> tuple[Grant, ...]:
    return (
        *(Grant(path, "this program") for path in here.code),
        *(Grant(path, "the interpreter and its libraries") for path in here.interpreter),
        *(
            Grant(path, "trusted CAs", optional=True, once=True)
            for path in dict.fromkeys((*map(Path, _TRUST), *here.trust))
        ),
        *_SYSTEM,
    )


def _roots(config: Config) -> Iterator[Grant]:
    served: dict[Path, str] = {}
    for site in config.sites:
        for route in site.routes:
            if isinstance(route.action, FilesAction | FastCgiAction):
                served.setdefault(route.action.root, site.names[0])
    for root, name in served.items():
        yield Grant(root, f"document root of {name}")


def _proxied(config: Config) -> Iterator[ProxyAction]:
    return (action for _site, action in proxied(config.sites))


def _backend_trust(config: Config) -> Iterator[Grant]:
    files = {action.tls.ca_file for action in _proxied(config)}
    for file in sorted(file for file in files if file is not None):
        yield Grant(file, "CAs trusted for backends")


def _backend_ports(config: Config) -> Iterator[Port]:
    ports: dict[int, str] = {}
    by_name = False
    for action in _proxied(config):
        for backend in action.backends:
            if backend.scheme != "unix":
                ports.setdefault(backend.port, backend.url)
                by_name = by_name or not _is_address(backend.host)
    for port in sorted(ports):
        yield Port(port, f"backend {ports[port]}")
    if by_name and DNS.number not in ports:
        yield DNS


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True


def _ca_ports(acme: Acme) -> Iterator[Port]:
    for authority in (acme, *acme.fallback):
        parts = urlsplit(authority.directory)
        if parts.scheme in ("http", "https"):
            yield Port(parts.port or 443, f"the CA at {parts.hostname}")
    # A directory's other URLs may be anywhere; chains name their issuers with plain HTTP.
    yield Port(443, "what a CA's directory refers to")
    yield Port(80, "issuers and figures that CAs give out over plain HTTP")
    for dns in acme.dns:
        if dns.server:
            yield Port(dns.server.port, f"DNS updates at {dns.server.host}")
    for resolver in acme.resolvers:
        yield Port(resolver.port, f"the resolver {resolver.host}")
    yield DNS
