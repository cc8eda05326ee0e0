"""What a machine knew of the others before it was started, from a document of its own disk.

Where the engine cannot be asked at a start, it decides whether this machine may order: not while
another one might. The document is a hint and no lock, so that a lost one does no harm but a wait.
"""

from __future__ import annotations

import logging

from ..late_dataclass import dataclass
from ..storage import documents
from ..storage.store import Store
from .settings import ClusterSettings

log = logging.getLogger("treehouse.certifier")

FOLDER, FILE = "cluster", "cluster.json"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Recollection:
    """``orderer``: the node that ordered when the engine was asked last; ``rivals``: whether
    another machine than this one could have ordered."""

    orderer: str | None = None
    rivals: bool = False


def recall(store: Store, settings: ClusterSettings) -> Recollection:
    """Return what this node of this cluster has written down; nothing where there is nothing."""
    try:
        data = store.load(FOLDER).get(FILE, b"")
    except OSError:
        return Recollection()
    known = documents.read(data, VERSION)
    if known.get("cluster") != settings.name or known.get("node") != settings.node:
        return Recollection()
    orderer = known.get("orderer")
    return Recollection(orderer if isinstance(orderer, str) else None, known.get("rivals") is True)


def remember(store: Store, settings: ClusterSettings, known: Recollection) -> None:
    """Write it down; a disk that does not take it is told and changes nothing else."""
    document = {
        "cluster": settings.name,
        "node": settings.node,
        "orderer": known.orderer,
        "rivals": known.rivals,
    }
    try:
        there = store.load(FOLDER).get(FILE, b"")
        aside = documents.set_aside(FILE, there, VERSION)
        if aside is not None:
            store.store(FOLDER, {aside: there})
        store.store(FOLDER, {FILE: documents.write(document, VERSION)})
    except OSError as error:
        log.warning("who orders cannot be written down: %s", error.strerror or error)
