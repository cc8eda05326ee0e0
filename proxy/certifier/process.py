"""The certifier process: `acme_client` at work, confined, behind our end of its `Link`.

The account key and everything that speaks to a CA stay in this process.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from acme_client.link import DnsApi, LinkBroken, Settings

from .. import log as logs
from .. import sandbox
from ..config.model import Cluster, Config
from ..ipc.channel import Channel
from ..system.privileges import confine_process, die_with_parent
from ..system.process_title import set_title
from .link import ChannelLink

if TYPE_CHECKING:
    from acme_client.challenges.api_process import ApiProcess
    from acme_client.cluster.node import Node
    from acme_client.cluster.settings import ClusterSettings
    from acme_client.storage.store import Store

log = logging.getLogger("treehouse.certifier")


def run(config: Config, channel: Channel) -> int:
    """The life of the process; returns its exit status."""
    logs.set_up("certifier", config.log.format, config.log.level)
    confine_process()
    # Nobody else needs it, and workers do not wait for it where no certificate is to be read.
    from acme_client.agent import agent
    from acme_client.challenges.dns_provider import Outside
    from acme_client.storage.directory import open_store

    from .settings import settings

    wanted = settings(config)
    policies = sandbox.policies(config)
    apis = _api_process(config, wanted, channel, policies.get("dns-provider"))
    confine_hook = _hook_confinement(config, policies.get("hook"))
    shared = None if config.cluster is None else _cluster_settings(config.cluster)
    sandbox.apply(policies["certifier"], config.sandbox)
    outside = Outside(confine_hook, apis)
    try:
        link = ChannelLink(channel)
        logs.tell_warnings("certifier", link.warned)
        store: Store = open_store(config.state)
        node = None
        if shared is not None:
            store, node = _among_others(shared, store, link, wanted)
        agent.run(wanted, link, store, outside, node)
    except LinkBroken:
        return 1
    except agent.Hangs as why:
        log.error("%s; it hangs, and this process ends for another to start", why)
        return 1
    return 0


def _cluster_settings(cluster: Cluster) -> ClusterSettings:
    """Read the cluster's settings. The modules for it are loaded only where there is a cluster."""
    from .cluster import settings as of_cluster

    return of_cluster(cluster)


def _among_others(
    shared: ClusterSettings, disk: Store, link: ChannelLink, wanted: Settings
) -> tuple[Store, Node]:
    """Return this machine's store and itself as one of several."""
    from acme_client.cluster.node import Node
    from acme_client.cluster.spare import SpareStore

    store = SpareStore(disk)
    node = Node(
        shared, store, link, wanted.wanted, link.report_cluster, tell_engine=link.report_engine,
        unwritten=store.unwritten_certificates,
    )  # fmt: skip
    return store, node


def _api_process(
    config: Config, wanted: Settings, channel: Channel, policy: sandbox.Policy | None
) -> ApiProcess | None:
    """Fork the process that speaks with DNS providers, where one is named: before this process is
    confined, because that one may do other things."""
    apis = [zone.via for zone in wanted.dns.zones if isinstance(zone.via, DnsApi)]
    if policy is None or not apis:
        return None
    from acme_client.challenges.api_process import ApiProcess, Surroundings

    scratch = sandbox.scratch(config)
    scratch.mkdir(mode=0o700, exist_ok=True)

    def become() -> None:
        channel.close()
        logs.set_up("dns-provider", config.log.format, config.log.level)
        set_title("th-dns-provider", "treehouse-proxy: dns-provider")

    def confine() -> None:
        sandbox.apply(policy, config.sandbox)

    return ApiProcess.started(apis, Surroundings(confine, die_with_parent, become, scratch))


def _hook_confinement(config: Config, policy: sandbox.Policy | None) -> Callable[[], None] | None:
    """Return what confines a DNS hook: it may do less than the certifier, and ends with it."""
    if policy is None:
        return None
    sandbox.scratch(config).mkdir(mode=0o700, exist_ok=True)
    restrict = sandbox.prepared(policy, config.sandbox)
    parent = os.getpid()

    def confine() -> None:
        die_with_parent(parent)
        restrict()

    return confine
