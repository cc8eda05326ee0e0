"""Asks every member of the cluster's engine how it is, and looks at what the cluster has there.

Nothing is written. Every question has a bound of time.
"""

from __future__ import annotations

import errno
import stat
import time
from pathlib import Path

from acme_client.certificates.folder_names import FOLDER
from acme_client.cluster import identity
from acme_client.cluster import members as of_members
from acme_client.cluster.node import FORMAT, FORMAT_FILE
from acme_client.cluster.settings import VERSION, ClusterSettings
from acme_client.storage import documents
from acme_client.storage.etcd.api import EtcdApi, Refused, below, decoded, encoded, number
from acme_client.storage.etcd.sealing import SecretFault
from acme_client.storage.store import Unreadable

from ..rules.cluster import ClusterFacts, Machine, MemberFacts

_MOST_OTHERS = 5
_ALARMS = {"NOSPACE": "its quota is used up", "CORRUPT": "its data are damaged"}


def look(
    settings: ClusterSettings, secret_file: Path | None = None, state: Path | None = None
) -> ClusterFacts:
    """Return how the cluster is, as this machine sees it. ``secret_file`` has its secret, ``state``
    is its directory."""
    if settings.fault:
        return ClusterFacts(settings.name, settings.node, settings.order, (), fault=settings.fault)
    api = settings.api()
    try:
        members = [_member(api, url) for url in settings.endpoints]
        facts = ClusterFacts(settings.name, settings.node, settings.order, members)
        if all(one.error for one in members):
            return facts
        return _engine(settings, api, members, secret_file, state)
    finally:
        api.close()


def _member(api: EtcdApi, url: str) -> MemberFacts:
    try:
        said = api.of_member(url, "/v3/maintenance/status", {})
    except Refused as refusal:
        # Where users log in, only root may ask this of a member: it is there, all the same.
        if refusal.code:
            return MemberFacts(url)
        return MemberFacts(url, str(refusal.strerror))
    except OSError as error:
        return MemberFacts(url, str(error.strerror).removeprefix(f"{url}: "))
    return MemberFacts(url, "", str(said.get("version", "")), number(said.get("dbSize")))


def _open_to_all(secret_file: Path | None) -> str:
    """Return the path of the secret's file where everybody may read it, else nothing."""
    try:
        seen = secret_file is not None and secret_file.stat().st_mode & stat.S_IROTH
    except OSError:
        return ""
    return str(secret_file) if seen else ""


def _others(settings: ClusterSettings, api: EtcdApi) -> list[str]:
    """Return the names of clusters beside this one, of which etcd has documents."""
    found: list[str] = []
    prefix, at = "/treehouse/", "/treehouse/"
    while len(found) < _MOST_OTHERS:
        asked = {**below(prefix), "key": encoded(at), "limit": "1", "keys_only": True}
        try:
            keys = api.call("/v3/kv/range", asked).get("kvs") or ()
        except OSError:
            break  # this user of etcd sees its own cluster alone
        key = decoded(keys[0].get("key")).decode("utf-8", "replace") if keys else ""
        name = key.removeprefix(prefix).partition("/")[0]
        if not name:
            break
        if name != settings.name:
            found.append(name)
        at = f"{prefix}{name}0"  # "0" is behind "/": behind all that this cluster has
    return found


def _engine(
    settings: ClusterSettings,
    api: EtcdApi,
    members: list[MemberFacts],
    secret_file: Path | None,
    state: Path | None,
) -> ClusterFacts:
    error = secret = namesake = ""
    denied = True
    machines: list[Machine] = []
    certificates = 0
    later: int | None = None
    begun = time.monotonic()
    took = 0.0
    try:
        store = settings.store()
    except SecretFault as why:
        store, secret = None, f"cluster.secret_file: {why}"
    if store is not None:
        try:
            later = documents.newer(store.load(FORMAT).get(FORMAT_FILE, b""), VERSION)
            took = 1000 * (time.monotonic() - begun)
            present = of_members.present(store)
            machines = [Machine(name, said.orders) for name, said in sorted(present.items())]
            waiting = of_members.waiting(store, settings.node)
            namesake = identity.namesake(settings, state, present, waiting)
            certificates = len(store.list(FOLDER))
        except Unreadable as fault:
            secret = str(fault.strerror)
        except OSError as fault:
            error = fault.strerror or str(fault)
            denied = fault.errno == errno.EACCES
        finally:
            store.close()
    return ClusterFacts(
        settings.name,
        settings.node,
        settings.order,
        members,
        error,
        secret,
        machines,
        _alarms(api),
        _history(api),
        certificates,
        took,
        later,
        denied=denied,
        open_to_all=_open_to_all(secret_file),
        others=[] if machines or certificates else _others(settings, api),
        namesake=namesake,
    )


def _alarms(api: EtcdApi) -> list[str]:
    try:
        said = api.call("/v3/maintenance/alarm", {"action": "GET"})
    except OSError:
        return []  # this user of etcd may not ask for alarms
    kinds = {str(one.get("alarm", "")) for one in said.get("alarms") or ()}
    return [f"{one}, {_ALARMS.get(one, 'see etcdctl alarm list')}" for one in sorted(kinds)]


def _history(api: EtcdApi) -> int:
    """Return how many changes the engine keeps; 0 where its history has been compacted."""
    key = {"key": "AA==", "limit": "1"}
    try:
        latest = number(api.call("/v3/kv/range", key).get("header", {}).get("revision"))
        if latest > 1:
            api.call("/v3/kv/range", {**key, "revision": "1"})
    except OSError:
        return 0
    return latest
