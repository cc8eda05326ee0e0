"""Asks every member of the cluster's engine how it is, and looks at what the cluster has there.

Nothing is written. Every question has a bound of time.
"""

from __future__ import annotations

import time

from acme_client.certificates.folder_names import FOLDER
from acme_client.cluster import members as of_members
from acme_client.cluster.node import FORMAT, FORMAT_FILE
from acme_client.cluster.settings import VERSION, ClusterSettings
from acme_client.storage import documents
from acme_client.storage.etcd.api import EtcdApi, Refused, number
from acme_client.storage.etcd.sealing import SecretFault
from acme_client.storage.store import Unreadable

from ..rules.cluster import ClusterFacts, Machine, MemberFacts

_ALARMS = {"NOSPACE": "its quota is used up", "CORRUPT": "its data are damaged"}


def look(settings: ClusterSettings) -> ClusterFacts:
    """Return how the cluster is, as this machine sees it."""
    if settings.fault:
        members = [MemberFacts(url, settings.fault) for url in settings.endpoints]
        return ClusterFacts(settings.name, settings.node, settings.order, members)
    api = settings.api()
    try:
        members = [_member(api, url) for url in settings.endpoints]
        facts = ClusterFacts(settings.name, settings.node, settings.order, members)
        if all(one.error for one in members):
            return facts
        return _engine(settings, api, members)
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


def _engine(settings: ClusterSettings, api: EtcdApi, members: list[MemberFacts]) -> ClusterFacts:
    error = secret = ""
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
            machines = [
                Machine(name, said.orders)
                for name, said in sorted(of_members.present(store).items())
            ]
            certificates = len(store.list(FOLDER))
        except Unreadable as fault:
            secret = str(fault.strerror)
        except OSError as fault:
            error = fault.strerror or str(fault)
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
