"""What was met at a name's addresses, on port 80 and on port 443, and what that means. Pure.

On port 80 a nonce is asked for that only the running server knows, under the very path that a CA
asks for. So "somebody else answers there" can be told from "nobody does", and from "it is us,
behind something". On port 443 it is the certificate that says whose server it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Literal

from acme_client.late_dataclass import dataclass

from ..findings import Finding

Met = Literal["answer", "refused", "silent", "unreachable", "broken"]


@dataclass(frozen=True, slots=True)
class HttpVisit:
    """``ours``: the nonce came back. ``server``: the Server field; ``location`` of a redirect that
    was not followed to the nonce; ``hops``: redirects that were followed; ``error``: in words."""

    address: str
    met: Met
    ours: bool = False
    status: int = 0
    server: str | None = None
    location: str | None = None
    hops: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class TlsVisit:
    """``serial`` and ``names`` of the certificate that was shown; ``expired`` when it has."""

    address: str
    met: Met
    serial: str | None = None
    names: tuple[str, ...] = ()
    issuer: str | None = None
    expired: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """``running``: there is a server that knows the nonce; ``serial``: of the certificate that it
    serves for the name; ``needs_http``: the challenge in use is HTTP-01; ``told`` False: whatever
    answers, there was no asking the server whether it is that one."""

    running: bool
    serial: str | None
    needs_http: bool
    told: bool = True


def http(name: str, visits: tuple[HttpVisit, ...], expected: Expected) -> Iterator[Finding]:
    for one in visits:
        if one.met == "answer" and not expected.told:
            yield _unasked(name, 80, one.address)
        else:
            yield _http(name, one, expected)
    reached = [(one.address, one.ours if expected.told else one.met == "answer") for one in visits]
    yield from _halves(name, 80, reached if expected.running else [])


def _http(name: str, one: HttpVisit, expected: Expected) -> Finding:
    lead = f"port 80 at {one.address}"
    bad: Literal["wrong", "attention"] = "wrong" if expected.needs_http else "attention"
    if one.met != "answer":
        if not expected.running:
            return _nobody_yet(name, lead, one.met, one.error)
        return _nobody(name, lead, bad, one.met, one.error, 80)
    who = f" ({one.server})" if one.server else ""
    if one.ours:
        way = f" after {one.hops} redirect{'s' * (one.hops > 1)}" if one.hops else ""
        return Finding("ok", name, f"{lead}: this server answers{way}")
    if not expected.running:
        return Finding(
            "attention", name, f"{lead}: somebody answers already{who}, with status {one.status}",
            "see who listens there before this server is to (ss -ltnp 'sport = :80')",
        )  # fmt: skip
    if one.location:
        return Finding(
            bad, name,
            f"{lead}: somebody else answers{who}: go to {one.location}, where our answer is not",
            "have /.well-known/acme-challenge/ passed on to this server without a redirect",
        )  # fmt: skip
    hint = _CDNS.get((one.server or "").partition("/")[0].lower())
    if hint:
        return Finding(
            bad, name, f"{lead}: {hint} answers, with status {one.status}, and does not pass it on",
            f"have {hint} pass /.well-known/acme-challenge/ on, uncached; or let DNS lead here",
        )  # fmt: skip
    return Finding(
        bad, name, f"{lead}: somebody else answers{who}, with status {one.status}",
        "let the name's DNS lead to this server, or the server there pass "
        "/.well-known/acme-challenge/ on to it",
    )  # fmt: skip


# By what they put into the Server field.
_CDNS = {
    "cloudflare": "Cloudflare",
    "cloudfront": "Amazon CloudFront",
    "akamaighost": "Akamai",
    "varnish": "Varnish or Fastly",
    "bunnycdn": "Bunny CDN",
    "google frontend": "Google's front end",
    "awselb": "Amazon's load balancer",
}


def tls(name: str, visits: tuple[TlsVisit, ...], expected: Expected) -> Iterator[Finding]:
    for one in visits:
        if one.met == "answer" and not expected.told and expected.serial is None:
            yield _unasked(name, 443, one.address)
        else:
            yield _tls(name, one, expected)
    reached = [(one.address, one.met == "answer") for one in visits if expected.running]
    yield from _halves(name, 443, reached)


def _tls(name: str, one: TlsVisit, expected: Expected) -> Finding:
    lead = f"port 443 at {one.address}"
    if one.met == "broken":
        if expected.running and expected.serial is None:
            return Finding(
                "attention", name, f"{lead}: TLS is refused ({one.error}): no certificate yet",
                f"treehouse-proxy why {name}",
            )  # fmt: skip
        return Finding(
            "wrong" if expected.running else "attention", name, f"{lead}: TLS fails: {one.error}",
            "see whether it is this server that listens there, on that name",
        )  # fmt: skip
    if one.met != "answer":
        if not expected.running:
            return _nobody_yet(name, lead, one.met, one.error)
        return _nobody(name, lead, "wrong", one.met, one.error, 443)
    shown = f"a certificate of {one.issuer or 'somebody'} for {', '.join(one.names) or 'no name'}"
    if expected.serial is not None and one.serial == expected.serial:
        if one.expired:
            return Finding(
                "wrong", name, f"{lead}: this server's certificate is shown, and has expired",
                f"treehouse-proxy why {name}",
            )  # fmt: skip
        return Finding("ok", name, f"{lead}: this server's certificate is shown")
    if not expected.running:
        return Finding(
            "attention", name, f"{lead}: somebody shows {shown} already",
            "see who listens there before this server is to (ss -ltnp 'sport = :443')",
        )  # fmt: skip
    return Finding(
        "wrong", name, f"{lead}: another certificate is shown: {shown}",
        "something in front of this server ends TLS itself, or the address is another server's",
    )  # fmt: skip


def _unasked(name: str, port: int, address: str) -> Finding:
    return Finding(
        "unknown", name,
        f"port {port} at {address}: somebody answers; whether it is us could not be found out",
        "ask as root, or as the server's user, while the server runs",
    )  # fmt: skip


def _nobody(
    name: str,
    lead: str,
    bad: Literal["wrong", "attention"],
    met: Met,
    error: str | None,
    port: int,
) -> Finding:
    match met:
        case "refused":
            return Finding(
                bad, name, f"{lead}: nobody listens there, though this server runs",
                f"see whether the address is this machine's, and listen has it on port {port}",
            )  # fmt: skip
        case "silent":
            return Finding(
                bad, name,
                f"{lead}: no answer; a firewall drops what comes, or a router does not pass it on",
                f"open TCP port {port} in the machine's and the provider's firewall. Some routers "
                "cannot be visited from the inside at their outer address: then try from outside",
            )  # fmt: skip
        case _:
            return Finding(
                "attention" if met == "unreachable" and ":" in lead.partition(" at ")[2] else bad,
                name, f"{lead}: no way there from here ({error})",
                "see the machine's routes (ip route, ip -6 route); try from another machine",
            )  # fmt: skip


def _nobody_yet(name: str, lead: str, met: Met, error: str | None) -> Finding:
    if met == "refused":
        return Finding(
            "ok", name, f"{lead}: reached, and nobody listens there yet, as before a first start"
        )
    if met == "silent":
        return Finding(
            "attention", name, f"{lead}: no answer; a firewall may drop what comes",
            "open TCP ports 80 and 443 before the first start, and ask again when it runs",
        )  # fmt: skip
    return Finding("unknown", name, f"{lead}: no way there from here ({error})", "ip route")


def _halves(name: str, port: int, reached: list[tuple[str, bool]]) -> Iterator[Finding]:
    """CAs try IPv6 first, and some visitors have only one of the two."""
    six = [ok for address, ok in reached if ip_address(address).version == 6]
    four = [ok for address, ok in reached if ip_address(address).version == 4]
    if six and four and all(four) and not all(six):
        yield Finding(
            "attention", name,
            f"port {port}: IPv4 leads here and IPv6 does not, and CAs and visitors try IPv6 first",
            "mend the way over IPv6, or take the AAAA record away",
        )  # fmt: skip
