"""How one certificate stands among the machines of a cluster: which machine is at work on it, which
made it, and when it is this machine's turn to order it. Pure.

Which place a machine has follows from the names of the machines that order (`ranks.places`), so it
is computed here, from the status, and is right also just after a machine has come or gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

from acme_client.certificates import ranks
from acme_client.status import CertificateStatus, ClusterStatus, validity
from acme_client.text import moment, spell, timestamp


class InCluster(TypedDict):
    """``order``: the machines that may order the certificate, the first one first; ``rank``: this
    machine's place among them, from 1, None where it orders nothing; ``turn``: the moment from
    which this machine orders, None where that is not known or never; ``holder``: the machine that
    is at work on the certificate; ``made_by``: the one that has obtained it."""

    rank: int | None
    order: list[str]
    turn: str | None
    holder: str | None
    made_by: str | None


def standing(one: CertificateStatus, cluster: ClusterStatus) -> InCluster:
    """Return how a certificate stands. Both as in ``status --json``."""
    node = cluster["node"]
    ordering = set(cluster["ordering"]) | ({node} if cluster["orders"] else set())
    order = ranks.places(one["name"].partition("/")[0], ordering, one["attempts"])
    place = order.index(node) if cluster["orders"] else None
    holder = one.get("holder")  # a server of an earlier version says nothing of it
    lives = {member["node"] for member in cluster["members"]} | {node}
    return {
        "rank": None if place is None else place + 1,
        "order": order,
        "turn": None if place is None else timestamp(_turn(one, cluster, place, len(order))),
        "holder": holder if holder in lives else None,
        "made_by": one.get("made_by"),
    }


def document(one: CertificateStatus, cluster: ClusterStatus | None) -> dict[str, object]:
    """Return the entry of the status, with how the certificate stands where there is a cluster."""
    return {**one, "cluster": standing(one, cluster)} if cluster is not None else {**one}


def rows(one: CertificateStatus, cluster: ClusterStatus) -> Iterator[tuple[str, str]]:
    """Yield the rows of a page. A certificate that is contested, or in files, has no turns."""
    if one["source"] == "file":
        return
    found = standing(one, cluster)
    if len(found["order"]) > 1 and not one.get("contested"):
        yield "rank", _rank(found, one, away=not cluster["connected"])
    if found["holder"]:
        here = ", this machine," if found["holder"] == cluster["node"] else ""
        yield "holder", f"{found['holder']}{here} is at work on it"
    if found["made_by"]:
        yield "made by", found["made_by"]


def _rank(found: InCluster, one: CertificateStatus, *, away: bool) -> str:
    order, rank, turn = found["order"], found["rank"], found["turn"]
    if rank is None:
        return f"none here; first {order[0]}, then {', '.join(order[1:])}"
    told = f"{rank} of {len(order)}"
    before = order[: rank - 1]
    if before:
        told += f", after {', '.join(before)}"
    if away:
        return f"{told}; while etcd is away it orders {f'from {turn} on' if turn else 'nothing'}"
    if turn:
        return f"{told}; its turn is {turn}"
    if not before:
        return f"{told}; it begins as soon as the certificate is due"
    return f"{told}; its turn is {spell(len(before) * _step(one))} after that of {order[0]}"


def _turn(
    one: CertificateStatus, cluster: ClusterStatus, place: int, machines: int
) -> float | None:
    valid = validity(one)
    if valid is None:
        return None
    if not cluster["connected"] and machines > 1:
        return ranks.alone_from(place, *valid, cluster.get("order_below", ranks.ALONE_BELOW))
    if one["renew_at"] is None or one["state"] != "fresh":
        return None  # since when an attempt is called for is not in the status
    return moment(one["renew_at"]) + place * _step(one)


def _step(one: CertificateStatus) -> float:
    valid = validity(one)
    return ranks.step(None if valid is None else valid[1] - valid[0])
