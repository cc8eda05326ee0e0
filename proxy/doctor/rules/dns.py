"""What the DNS says of a name, and what that means for this machine and for the CA. Pure.

CAA is RFC 8659: the closest ancestor that has any record decides, ``issue`` for names and
``issuewild`` for wildcards where there is one; its parameters ``accounturi`` and
``validationmethods`` are RFC 8657.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from ipaddress import IPv4Address, IPv6Address, ip_address

from acme_client.late_dataclass import dataclass

from ..findings import Finding

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class NameFacts:
    """``error``: why it could not be looked up; ``exists`` False: NXDOMAIN. ``elsewhere``: name
    servers that answer otherwise than the resolver, with their answer. ``alias``: where CNAMEs
    lead."""

    name: str
    addresses: tuple[str, ...] = ()
    exists: bool = True
    error: str | None = None
    alias: str | None = None
    elsewhere: tuple[tuple[str, tuple[str, ...]], ...] = ()
    servers: int = 0  # authoritative ones that answered


@dataclass(frozen=True, slots=True)
class Ours:
    """This machine's addresses."""

    addresses: tuple[str, ...]

    @property
    def public(self) -> list[str]:
        return [one for one in self.addresses if ip_address(one).is_global]

    @property
    def private(self) -> list[str]:
        """That others in the same network can have."""
        return [
            one
            for one in self.addresses
            if not (ip := ip_address(one)).is_global and not ip.is_loopback and not ip.is_link_local
        ]


def addresses(facts: NameFacts, ours: Ours, *, public: bool) -> Iterator[Finding]:
    """``public``: a CA on the internet certifies the name."""
    about = facts.name
    if facts.error is not None:
        yield Finding(
            "unknown", about, f"DNS: {facts.error}",
            "see /etc/resolv.conf; or ask another one: treehouse-proxy doctor --resolver 9.9.9.9",
        )  # fmt: skip
        return
    if not facts.exists:
        yield Finding(
            "wrong", about, "DNS: there is no such name",
            f"add an A record (and AAAA) for it{_with_ours(ours)} at whoever serves its zone",
        )  # fmt: skip
        return
    if facts.alias:
        yield Finding("ok", about, f"DNS: an alias (CNAME) of {facts.alias}")
    if not facts.addresses:
        yield Finding(
            "wrong", about, "DNS: the name exists, and has neither an A nor an AAAA record",
            f"add an A record (and AAAA) for it{_with_ours(ours)}",
        )  # fmt: skip
        return
    for text in facts.addresses:
        yield _address(about, text, ours, public)
    yield from _other_answers(facts)


def _with_ours(ours: Ours) -> str:
    return (
        f" with {', '.join(ours.public)}" if ours.public else " with this server's public address"
    )


def _address(about: str, text: str, ours: Ours, public: bool) -> Finding:
    ip = ip_address(text)
    kind = "AAAA" if ip.version == 6 else "A"
    lead = f"DNS: {kind} {text}"
    if public and not ip.is_global:
        return Finding(
            "wrong", about, f"{lead} is not an address of the internet: no public CA gets there",
            f"put this server's public address there, or take the {kind} record away",
        )  # fmt: skip
    if text in ours.addresses or ip.is_loopback:
        return Finding("ok", about, f"{lead} is this machine's")
    if not any(ip_address(one).version == ip.version for one in ours.public):
        behind = ", ".join(one for one in ours.private if ip_address(one).version == ip.version)
        if behind:
            return Finding(
                "attention", about,
                f"{lead}; this machine has {behind} only, so something in front of it has to pass "
                "ports 80 and 443 on to it (a router, a load balancer, a cloud's own translation)",
                "see below whether it is reached",
            )  # fmt: skip
        return Finding(
            "attention", about,
            f"{lead}, and this machine has no address of that kind (IPv{ip.version})",
            f"take the {kind} record away, or give this machine that address",
        )  # fmt: skip
    mine = ", ".join(one for one in ours.public if ip_address(one).version == ip.version)
    return Finding(
        "attention", about, f"{lead} is not one of this machine's ({mine})",
        "right behind a load balancer or CDN: see below whether it leads here; else correct it",
    )  # fmt: skip


def _other_answers(facts: NameFacts) -> Iterator[Finding]:
    """A CA asks the authoritative servers, not a resolver's memory."""
    for server, said in facts.elsewhere:
        yield Finding(
            "attention", facts.name,
            f"DNS: name server {server} says {', '.join(said) or 'that there is none'}, "
            f"the resolver {', '.join(facts.addresses) or 'none'}",
            "wait until a change has spread (the records' TTL), or mend that server",
        )  # fmt: skip
    if facts.servers and not facts.elsewhere:
        number = f"{facts.servers} name server{'s' * (facts.servers > 1)}"
        yield Finding("ok", facts.name, f"DNS: {number} of the zone say the same")


# CAA


@dataclass(frozen=True, slots=True)
class CaaRecord:
    flags: int
    tag: str
    value: str


@dataclass(frozen=True, slots=True)
class CaaFacts:
    """``at``: the ancestor whose records decide, None where there are none up to the top;
    ``unasked``: there was no resolver to ask."""

    name: str
    at: str | None = None
    records: tuple[CaaRecord, ...] = ()
    error: str | None = None
    unasked: bool = False


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who is to certify. ``identities``: its caaIdentities; ``methods``: challenges we would use;
    ``account``: our account's URL, if known."""

    title: str
    identities: tuple[str, ...]
    methods: tuple[str, ...]
    account: str | None = None


@dataclass(frozen=True, slots=True)
class _Property:
    domain: str
    parameters: dict[str, str] = field(default_factory=dict)


def caa(facts: CaaFacts, issuer: Issuer) -> Iterator[Finding]:
    about = facts.name
    if facts.unasked:
        yield Finding("unknown", about, "CAA: there is no resolver to ask", "see /etc/resolv.conf")
        return
    if facts.error is not None:
        # RFC 8659 §3: a CA that gets no answer must not issue.
        yield Finding(
            "wrong", about, f"CAA: {facts.error}; a CA that gets no answer may not certify it",
            "mend the zone's name servers: CAA must be answered, if only with nothing",
        )  # fmt: skip
        return
    if facts.at is None:
        yield Finding("ok", about, "CAA: no record, any CA may certify the name")
        return
    where = "" if facts.at == about.removeprefix("*.") else f" (at {facts.at})"
    critical = [
        one.tag for one in facts.records if one.flags & 0x80 and one.tag.lower() not in _KNOWN
    ]
    if critical:
        yield Finding(
            "wrong", about,
            f"CAA{where}: a record {critical[0]} is critical, and CAs that do not know it refuse",
            "take the record or its critical flag (128) away",
        )  # fmt: skip
        return
    allowed = _relevant(about, facts.records)
    if allowed is None:
        yield Finding("ok", about, f"CAA{where}: no restriction on certificates of this kind")
        return
    if not issuer.identities:
        said = ", ".join(one.domain or "nobody" for one in allowed)
        yield Finding(
            "unknown", about,
            f"CAA{where} allows {said}; {issuer.title} does not say by which name it goes",
            "compare them with what the CA's documentation says",
        )  # fmt: skip
        return
    yield from _verdict(about, where, allowed, issuer)


_KNOWN = ("issue", "issuewild", "iodef", "issuemail", "issuevmc", "contactemail", "contactphone")


def _relevant(name: str, records: tuple[CaaRecord, ...]) -> list[_Property] | None:
    """The properties that decide; None where none does (RFC 8659 §4.2, §4.3)."""
    tags = {
        tag: [one for one in records if one.tag.lower() == tag] for tag in ("issue", "issuewild")
    }
    chosen = tags["issuewild"] if name.startswith("*.") and tags["issuewild"] else tags["issue"]
    return [_property(one.value) for one in chosen] if chosen else None


def _property(value: str) -> _Property:
    domain, *rest = (part.strip() for part in value.split(";"))
    pairs = (part.partition("=") for part in rest if "=" in part)
    return _Property(
        domain.lower().rstrip("."), {tag.strip().lower(): v.strip() for tag, _, v in pairs}
    )


def _verdict(about: str, where: str, allowed: list[_Property], issuer: Issuer) -> Iterator[Finding]:
    identity = issuer.identities[0]
    ours = [one for one in allowed if one.domain in issuer.identities]
    if not ours:
        said = ", ".join(sorted({one.domain or "nobody" for one in allowed}))
        yield Finding(
            "wrong", about, f"CAA{where} allows {said}, and not {issuer.title} ({identity})",
            f'add the record: 0 issue "{identity}"',
        )  # fmt: skip
        return
    refusals = [_refusal(one, issuer) for one in ours]
    if all(refusals):
        yield Finding(
            "wrong", about, f"CAA{where} allows {identity}, but {refusals[0]}",
            "correct the record's parameters, or take them away",
        )  # fmt: skip
        return
    unknown = any("accounturi" in one.parameters for one in ours) and issuer.account is None
    if unknown:
        uris = ", ".join(
            one.parameters["accounturi"] for one in ours if "accounturi" in one.parameters
        )
        yield Finding(
            "attention", about,
            f"CAA{where} allows {identity} for the account {uris} only; ours is not known here",
            "compare it with account.json in the state directory",
        )  # fmt: skip
        return
    yield Finding("ok", about, f"CAA{where} allows {identity}")


def _refusal(one: _Property, issuer: Issuer) -> str | None:
    account = one.parameters.get("accounturi")
    if account is not None and issuer.account is not None and account != issuer.account:
        return f"for the account {account} only, and ours is {issuer.account}"
    methods = one.parameters.get("validationmethods")
    if methods is not None:
        listed = [method.strip() for method in methods.split(",")]
        if not set(listed) & set(issuer.methods):
            return f"by {methods} only, and configured is {', '.join(issuer.methods)}"
    return None
