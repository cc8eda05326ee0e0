"""Decides what to take of what a CA offers: the profile, and a challenge for each name.

Pure.
"""

from __future__ import annotations

from dataclasses import replace

from ..certificates import ca_choice
from ..challenges import dns_persist
from ..errors import IssuanceError, ProblemDocument
from ..names import is_address
from .interface import Order
from .messages import Authorization, Directory, OfferedChallenge

# The profile that certifies addresses where there are profiles (Let's Encrypt).
ADDRESS_PROFILE = "shortlived"


def refuse_impossible(order: Order, records: bool) -> None:
    """Refuse what no CA could do, before an order is spent on it. ``records``: whether somebody is
    configured to set records in the DNS."""
    wildcards = [name for name in order.names if name.startswith("*.")]
    kinds = [kind for kind in order.challenges if kind in ca_choice.BY_DNS]
    if wildcards and not kinds:
        raise IssuanceError(
            "settings",
            f"{', '.join(wildcards)} needs DNS-01, which is not configured (acme.dns); "
            "HTTP-01 and TLS-ALPN-01 cannot prove a wildcard",
        )
    if not records and order.challenges == ("dns-01",):
        raise IssuanceError("settings", "nobody is configured to set records for DNS-01 (acme.dns)")


def profile(wanted: str | None, names: tuple[str, ...], directory: Directory) -> str | None:
    """Return the profile to order; None for the CA's own default."""
    listed = directory.profiles
    if wanted in (None, "auto"):
        addresses = any(is_address(name) for name in names)
        return ADDRESS_PROFILE if addresses and ADDRESS_PROFILE in listed else None
    if wanted not in listed:
        raise IssuanceError(
            "settings",
            f"the CA has no profile {wanted}; it has: {', '.join(sorted(listed)) or 'none'}",
        )
    return wanted


def first(preferred: tuple[str, ...], *, wildcard: bool) -> str | None:
    suited = (one for one in preferred if ca_choice.suits(one, wildcard=wildcard, address=False))
    return next(suited, None)


def choose(
    authorization: Authorization, preferred: tuple[str, ...], terms: dns_persist.Terms
) -> OfferedChallenge:
    offered = {
        one.kind: one
        for one in authorization.challenges
        if one.status != "invalid"
        and (
            dns_persist.of_challenge(one.whole, terms)
            if one.kind == dns_persist.KIND
            else one.token
        )
    }
    address = is_address(authorization.name)
    for kind in preferred:
        suited = ca_choice.suits(kind, wildcard=authorization.wildcard, address=address)
        if suited and kind in offered:
            return offered[kind]
    raise IssuanceError(
        "settings",
        f"for {authorization.name} the CA offers {', '.join(offered) or 'no challenge'}, "
        f"and configured is {', '.join(preferred)}",
    )


def not_validated(
    authorization: Authorization,
    kind: str | None,
    earlier: tuple[str, ProblemDocument | None] | None = None,
) -> IssuanceError:
    """Say why a name was not validated, in the CA's words; ``earlier``: what it said of this
    authorization before, for a CA that does not repeat it."""
    reasons = [f"{one.kind}: {one.error}" for one in authorization.challenges if one.error]
    document = next((one.said for one in authorization.challenges if one.said), None)
    if not reasons and earlier is not None:
        reasons, document = [earlier[0]], earlier[1]
    reason = "; ".join(reasons) or f"the authorization is {authorization.status}"
    name = authorization.name
    if not name:  # the CA has left it out
        return IssuanceError("validation", reason, challenge=kind, said=document)
    if document is not None and document.name is None:
        document = replace(document, name=name)
    return IssuanceError(
        "validation", f"{name}: {reason}", challenge=kind, names=(name,), said=document
    )
