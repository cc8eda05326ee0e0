"""How a certificate stands, for people and programs: an entry of ``certificates`` in the status.

One type for every kind of certificate (from a CA, from the built-in CA, from the operator's own
files), and one function that makes it. Moments are RFC 3339 texts here and Unix seconds everywhere
else; the translation happens in this file and where a record is told (`certificates.managed`).
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from .text import moment, timestamp

Source = Literal["acme", "internal", "file"]
StateName = Literal["missing", "fresh", "due", "issuing", "waiting", "failed"]


class AriWindow(TypedDict):
    """The CA's suggested window for the renewal (RFC 9773 §4.2)."""

    start: str | None
    end: str | None
    explanation_url: str | None


class AttemptStatus(TypedDict):
    """One attempt to get a certificate. ``problem``: the CA's problem document (RFC 8555 §6.7)."""

    at: str | None
    outcome: str
    directory: str
    challenge: str | None
    error: str | None
    seconds: float | None
    problem: dict[str, Any] | None


class CertificateStatus(TypedDict):
    """``name`` identifies the certificate, ``names`` are those that it is wanted for; ``directory``
    is the CA's; ``given_up``: it came on demand and is not renewed any more; ``contested``: why
    this machine does not order what it wants, where several have the same certificate, and since
    when (``contested_since``); ``made_by``: which of several machines has obtained it, ``holder``:
    which one is at work on it."""

    name: str
    names: list[str]
    source: Source
    directory: str | None
    key_type: str
    serial: str | None
    not_before: str | None
    not_after: str | None
    renew_at: str | None
    ari_window: AriWindow | None
    state: StateName
    attempts: int
    last_error: str | None
    next_attempt: str | None
    served: bool
    profile: str | None
    on_demand_for: str | None
    given_up: bool
    contested: str | None
    contested_since: str | None
    made_by: str | None
    holder: str | None
    history: list[AttemptStatus]


class MemberStatus(TypedDict):
    """A machine of the cluster that is there. ``orders``: whether it orders certificates; ``seen``:
    the engine's revision up to which it has answered challenges; ``behind``: certificates of which
    its disk has not what the engine has; ``clock``: seconds by which its clock is ahead of this
    machine's; ``differs``: certificates that it wants to be something else than this machine
    does, and the names of the first of them (``otherwise``)."""

    node: str
    version: str
    since: str | None
    orders: bool
    seen: int
    behind: int
    clock: int
    differs: int
    otherwise: list[str]


class ClusterStatus(TypedDict):
    """How this machine stands in its cluster. ``ordering``: the machines that order certificates,
    as far as this one knows; ``connected``: whether the engine can be asked; ``fault``: why not, or
    what is wrong with this machine; ``alone``: it orders without the others what has less than the
    part ``order_below`` of its life left; ``refused``: why what the engine has is not taken, by
    certificate; ``behind``: certificates of which the engine has another one than this machine's
    disk, not taken yet or refused; ``revision_behind``: revisions of the engine that this machine
    should have heard of."""

    name: str
    node: str
    orders: bool
    ordering: list[str]
    connected: bool
    fault: str | None
    alone: bool
    order_below: float
    refused: dict[str, str]
    behind: int
    revision_behind: int
    members: list[MemberStatus]


def cluster_fault(status: ClusterStatus) -> str:
    """Say what is wrong with a machine in its cluster; empty where nothing is."""
    fault = status["fault"] or ""
    return fault if status["connected"] or not fault else f"what is on the disk is served: {fault}"


def certificate_status(
    *,
    name: str,
    names: tuple[str, ...],
    source: Source,
    key_type: str,
    state: StateName,
    directory: str | None = None,
    serial: str | None = None,
    not_before: float | None = None,
    not_after: float | None = None,
    renew_at: float | None = None,
    window: AriWindow | None = None,
    attempts: int = 0,
    last_error: str | None = None,
    next_attempt: float | None = None,
    served: bool = False,
    profile: str | None = None,
    on_demand_for: str | None = None,
    given_up: bool = False,
    contested: str | None = None,
    contested_since: float | None = None,
    made_by: str | None = None,
    holder: str | None = None,
    history: list[AttemptStatus] | None = None,
) -> CertificateStatus:
    """Make an entry; moments are Unix seconds."""
    return {
        "name": name,
        "names": list(names),
        "source": source,
        "directory": directory,
        "key_type": key_type,
        "serial": serial,
        "not_before": timestamp(not_before),
        "not_after": timestamp(not_after),
        "renew_at": timestamp(renew_at),
        "ari_window": window,
        "state": state,
        "attempts": attempts,
        "last_error": last_error,
        "next_attempt": timestamp(next_attempt),
        "served": served,
        "profile": profile,
        "on_demand_for": on_demand_for,
        "given_up": given_up,
        "contested": contested,
        "contested_since": timestamp(contested_since),
        "made_by": made_by,
        "holder": holder,
        "history": history or [],
    }


def validity(status: CertificateStatus) -> tuple[float, float] | None:
    """From when and until when the certificate is valid, in Unix seconds; None where there is no
    certificate yet."""
    begin, end = status["not_before"], status["not_after"]
    return (moment(begin), moment(end)) if begin and end else None
