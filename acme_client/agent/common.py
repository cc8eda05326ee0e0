"""Chooses the stores that the lifecycle works on: this machine's own, or those of several machines.

A machine alone, and one that only takes certificates, keeps and counts for itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..certificates.peers import Peers
from ..certificates.repository import CertificateRepository
from ..late_dataclass import dataclass
from ..rate_limits.ledger import Ledger
from ..storage.store import Store
from .slots import Slots
from .together import Together

if TYPE_CHECKING:
    from ..cluster.node import Node
    from ..cluster.shared_names import SharedNames
    from .keeper import CertificateKeeper


@dataclass(frozen=True, slots=True)
class Common:
    """``files``: where accounts and the built-in CA's root are; ``peers``: machines that order the
    same certificates, None without any; ``names``: what they have found out of names on demand;
    ``together`` makes what attempts go through there."""

    repository: CertificateRepository
    ledger: Ledger
    files: Store
    peers: Peers | None
    names: SharedNames | None
    together: Callable[[CertificateKeeper], Together | None]


def alone(store: Store, now: Callable[[], float]) -> Common:
    """Return what a machine has that shares nothing."""
    return Common(
        CertificateRepository(store), Ledger(store, now), store, None, None, lambda _: None
    )


def among_others(node: Node, store: Store, now: Callable[[], float]) -> Common:
    """Return what a machine of a cluster has."""
    if node.shared is None:
        return alone(store, now)
    shared, peers = node.shared, node.peers
    slots = Slots(shared.store)
    return Common(
        shared.repository,
        shared.ledger,
        shared.files,
        peers,
        shared.names,
        lambda keeper: Together(keeper, shared.repository, slots, peers, now),
    )
