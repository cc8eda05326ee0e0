"""What a machine knew of the others before it was started, from a document of its own disk.

Where the engine cannot be asked at a start, it decides when this machine may order: a machine that
orders alone has to know its place among the others. The document is a hint and no lock, so that a
lost one does no harm but a wait.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from ..certificates.peers import Member
from ..storage import documents, newer_documents
from ..storage.store import Store
from .members import Wishes, recalled, remembered
from .settings import ClusterSettings

log = logging.getLogger("treehouse.certifier")

FOLDER, FILE = "cluster", "cluster.json"
VERSION = 1
_NAMELESS = "another machine"


def recall(store: Store, settings: ClusterSettings, ours: Wishes) -> dict[str, Member]:
    """Return the machines that this node of this cluster has noted, itself among them; none where
    there is no note. ``ours``: what this machine wants now."""
    known = _read(store, settings)
    if known.get("node") != settings.node:
        return {}
    found = recalled(known.get("members", _members_before(known)), ours)
    return {**found, settings.node: Member(settings.order, ours)}


def thumbprint(store: Store, settings: ClusterSettings) -> str:
    """Return the thumbprint of the account's key that the others have told last; "" for none."""
    found = _read(store, settings).get("thumbprint")  # also where this machine has another name
    return found if isinstance(found, str) else ""


def _read(store: Store, settings: ClusterSettings) -> dict[str, object]:
    """Return this machine's document of this cluster; an empty one where there is none."""
    try:
        data = store.load(FOLDER).get(FILE, b"")
    except OSError:
        return {}
    known = documents.read(data, VERSION)
    return known if known.get("cluster") == settings.name else {}


def _members_before(known: Mapping[str, object]) -> dict[str, object]:
    """Return members for a document of the time when one machine ordered at a time: it has the
    name of that machine (``orderer``), and whether another one might take its place (``rivals``)
    but not which."""
    orderer, orders = known.get("orderer"), {"orders": True}
    found: dict[str, object] = {orderer: orders} if isinstance(orderer, str) else {}
    if known.get("rivals") is True and orderer in (None, known.get("node")):
        found[_NAMELESS] = orders
    return found


def remember(
    store: Store,
    settings: ClusterSettings,
    members: Mapping[str, Member],
    ours: Wishes,
    thumbprint: str = "",
) -> None:
    """Write the members down, and the thumbprint of their account's key; a disk that does not take
    them is told and changes nothing else."""
    document = {
        "cluster": settings.name,
        "node": settings.node,
        "members": remembered(members, ours),
        "thumbprint": thumbprint,
    }
    try:
        newer_documents.set_aside(store, FOLDER, FILE, VERSION)
        store.store(FOLDER, {FILE: documents.write(document, VERSION)})
    except OSError as error:
        log.warning("the other machines cannot be noted: %s", error.strerror or error)
