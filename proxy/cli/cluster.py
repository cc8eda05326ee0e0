"""``cluster``: machines that share their certificates by etcd."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..config.load import ConfigurationFaults, Options, cluster_secret, load
from ..config.model import Cluster, Config
from ..exit_status import FAILED, OK, USAGE
from .asking import complain, status_of
from .options import PATH, Commands, server_options

if TYPE_CHECKING:
    from acme_client.cluster.members import Said
    from acme_client.cluster.settings import ClusterSettings
    from acme_client.storage.etcd.store import EtcdStore

_SECRET_FILE = Path("/etc/treehouse-proxy/cluster.key")
# A machine that was reloaded has told the others of itself by then, or its session has ended.
_RELOADS_WITHIN = 20.0
# An order has come to an end by then, or hangs.
_ORDERS_WITHIN = 300.0


@click.group(cls=Commands)
def cluster() -> None:
    """Machines that share their certificates by etcd.

    \b
    sudo treehouse-proxy cluster check
    """


@cluster.command()
@click.argument("file", type=PATH, required=False)
@click.option("--group", metavar="GROUP|GID", help="Who may read it; the server's group.")
@server_options
def init(file: Path | None, group: str | None, config: Path | None, state: Path | None) -> None:
    """Make the cluster's secret, in FILE or where the configuration has it. Once, on one machine.

    The group that the server has in the configuration may read it, without one nogroup.

    \b
    sudo treehouse-proxy cluster init
    """
    from acme_client.storage.etcd.sealing import new_secret

    from ..config.checks.accounts import NOBODY, find_group
    from ..config.syntax.faults import Wrong

    try:
        place = cluster_secret(config)
        target = file or place.file or _SECRET_FILE
        gid = find_group(group) if group else place.gid
    except ConfigurationFaults as faults:
        complain(str(faults), USAGE)
    except Wrong as wrong:
        complain(f"--group: {wrong.what}", USAGE)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(target, flags, 0o640)
    except FileExistsError:
        complain(
            f"{target} is there already: another one would open nothing of what the cluster has",
            FAILED,
        )
    except OSError as error:
        complain(f"{target} cannot be made: {error.strerror}", FAILED)
    with os.fdopen(fd, "w") as out:
        if os.geteuid() == 0:
            os.fchown(fd, 0, NOBODY if gid is None else gid)
        os.fchmod(fd, 0o640)
        out.write(new_secret() + "\n")
        out.flush()
        os.fsync(fd)
    click.echo(f"made {target}: copy it to every machine of the cluster, and show it to nobody")


@cluster.command()
@server_options
def check(config: Path | None, state: Path | None) -> None:
    """Say how the engine is, as this machine sees it; change nothing.

    \b
    sudo treehouse-proxy cluster check
    """
    from ..certifier.cluster import settings
    from ..doctor import findings
    from ..doctor.probes import cluster as probe
    from ..doctor.rules import cluster as rules

    here, shared = _configured(config, state)
    found = list(rules.findings(probe.look(settings(shared), shared.secret_file, here.state)))
    for line in findings.lines(found):
        click.echo(line)
    sys.exit(FAILED if any(one.sign == "wrong" for one in found) else OK)


@cluster.command()
@server_options
def join(config: Path | None, state: Path | None) -> None:
    """Say what this machine is in the cluster, and which machines are there.

    A machine joins by being started with cluster in its configuration. What it has is given to the
    others, and what they have is taken, where it was issued later.

    \b
    sudo treehouse-proxy cluster join
    """
    from acme_client.cluster import identity, members

    here, shared = _configured(config, state)
    with _store(shared) as (wanted, store):
        _require_opened(store)
        present = members.present(store)
        since = identity.namesake(wanted, here.state, present)
        if since:
            complain(
                f"{wanted.name}: another machine that is called {wanted.node} runs since {since}: "
                "give each machine a name of its own (cluster.node)",
                FAILED,
            )
        found = _orders(present)
        does = "orders certificates, as the others do" if wanted.order else "takes certificates"
        runs = "is there" if wanted.node in found else "comes with the next start or reload"
        click.echo(f"{wanted.name}: this machine is {wanted.node}, which {does}; it {runs}")
        for name in sorted(found.keys() - {wanted.node}):
            click.echo(f"{name} {'orders' if found[name] else 'takes'}")


@cluster.command()
@server_options
def leave(config: Path | None, state: Path | None) -> None:
    """Say what becomes of the others before cluster is taken out of the configuration here.

    Waits first until no order is under way on this machine.

    \b
    sudo treehouse-proxy cluster leave
    """
    from acme_client.cluster import members

    here, shared = _configured(config, state)
    _await_orders(config, state, shared.called)
    with _store(shared) as (wanted, store):
        others: dict[str, bool] = {}
        try:
            _require_opened(store)
            others = _orders(members.present(store))
            others.pop(wanted.node, None)
        except OSError as error:  # to leave takes no etcd
            click.echo(f"who else orders is not known: {error.strerror or error}", err=True)
        if others and not any(others.values()):
            click.echo(
                f"nobody orders certificates for {wanted.name} then: the others have order: false"
            )
        click.echo(
            f"take cluster out of the configuration, and reload. {here.state} has all certificates "
            "of this machine's sites; it orders for itself then, as another customer of the CA: "
            "names that other machines serve too are ordered twice"
        )


@cluster.command()
@server_options
def rekey(config: Path | None, state: Path | None) -> None:
    """Seal everything anew with the first secret of the file.

    First put a new line before the old one in the file on every machine, and reload there. Then
    this command; then take the old line out, and reload again. While a machine has not been
    reloaded with the new line, nothing is changed.

    \b
    sudo treehouse-proxy cluster rekey
    """
    from acme_client.cluster.members import MEMBERS

    _here, shared = _configured(config, state)
    with _store(shared) as (wanted, store):
        _require_opened(store)
        until = time.monotonic() + _RELOADS_WITHIN
        while late := sorted(store.sealed_otherwise(MEMBERS)):
            if time.monotonic() < until:
                time.sleep(0.5)  # one that has just been reloaded says so within seconds
                continue
            complain(
                f"{', '.join(late)} could open nothing then, and nothing has been changed: put the "
                "first line of cluster.secret_file before the old one there, too, and reload",
                FAILED,
            )
        done, closed = store.seal_anew()
    click.echo(f"{done} documents of {wanted.name} are sealed with the first secret")
    for key in closed:
        click.echo(f"{key}: cannot be opened, and stays as it is", err=True)
    sys.exit(FAILED if closed else OK)


@cluster.command("format")
@server_options
def format_(config: Path | None, state: Path | None) -> None:
    """Say which form the cluster's documents have, and raise it to this program's.

    A program that knows an older form only takes what it can read, and orders nothing. So raise it
    when all machines have the new program; while they have not, they keep the older form.

    \b
    sudo treehouse-proxy cluster format
    """
    from acme_client.cluster.node import FORMAT, FORMAT_FILE
    from acme_client.cluster.settings import VERSION
    from acme_client.storage import documents

    _here, shared = _configured(config, state)
    with _store(shared) as (wanted, store):
        _require_opened(store)
        data = store.load(FORMAT).get(FORMAT_FILE, b"")
        newer = documents.newer(data, VERSION)
        if newer is not None:
            complain(
                f"{wanted.name} has format {newer}, and this program knows {VERSION}: "
                "upgrade the program here",
                FAILED,
            )
        raised = documents.write({}, VERSION)
        if data != raised:
            store.store(FORMAT, {FORMAT_FILE: raised})
        click.echo(f"{wanted.name} has format {VERSION}, the newest that this program knows")


def _await_orders(config: Path | None, state: Path | None, node: str) -> None:
    """Return when the machine orders nothing: what it has begun would be given up by the reload,
    and be begun again both here and by the others."""
    until = time.monotonic() + _ORDERS_WITHIN
    told: set[str] = set()
    while True:
        certificates = status_of(config, state)["certificates"]
        under_way = {one["name"] for one in certificates if one.get("holder") == node}
        if not under_way:
            return
        names = ", ".join(sorted(under_way))
        if time.monotonic() >= until:
            complain(f"{names}: still being ordered; see treehouse-proxy why NAME", FAILED)
        if under_way - told:
            click.echo(f"{names}: waiting for the order to end", err=True)
            told |= under_way
        time.sleep(0.5)


def _require_opened(store: EtcdStore) -> None:
    """End the command where this machine has another secret than the others. Raises OSError."""
    from acme_client.cluster.node import FORMAT
    from acme_client.storage.store import Unreadable

    try:
        store.load(FORMAT)
    except Unreadable as why:
        complain(
            f"{why.strerror}: copy the file that cluster.secret_file names from another machine",
            FAILED,
        )


def _orders(present: Mapping[str, Said]) -> dict[str, bool]:
    """Return whether each of the machines orders that are there."""
    return {name: said.orders for name, said in present.items()}


@contextlib.contextmanager
def _store(shared: Cluster) -> Iterator[tuple[ClusterSettings, EtcdStore]]:
    """Open the store that the machines share; a fault of the store ends the command."""
    from ..certifier.cluster import settings

    wanted = settings(shared)
    if wanted.fault:
        complain(wanted.fault, FAILED)
    try:
        store = wanted.store()
    except ValueError as why:
        complain(f"cluster.secret_file: {why}", FAILED)
    try:
        yield wanted, store
    except OSError as error:
        complain(
            f"etcd: {error.strerror or error}; treehouse-proxy cluster check says what to do",
            FAILED,
        )
    finally:
        store.close()


def _configured(config: Path | None, state: Path | None) -> tuple[Config, Cluster]:
    """Return the configuration and its cluster; one without a cluster ends the command."""
    try:
        here = load(Options(config=config, state=state), now_uid=os.geteuid())
    except ConfigurationFaults as faults:
        complain(str(faults), USAGE)
    if here.cluster is None:
        complain(
            "the configuration has no cluster: a machine belongs to one by the key `cluster`, with "
            "the same name, etcd and secret_file on every machine",
            USAGE,
        )
    return here, here.cluster
