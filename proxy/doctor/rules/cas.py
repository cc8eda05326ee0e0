"""What a CA's directory says of what is configured, and what became of the certificates. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from acme_client.explain import explained
from acme_client.late_dataclass import dataclass
from acme_client.status import CertificateStatus, validity
from acme_client.text import moment

from ...alerts.incidents import overdue, said, spell
from ...explain.certificate import CLOCKS_DIFFER
from ..findings import Finding, Sign

# Below that much of its life a certificate is late: renewal begins with a third or a half left.
RUNWAY_SHORT = 0.15


@dataclass(frozen=True, slots=True)
class Directory:
    """``error``: why it could not be had; ``untimely``: for what may be our clock. ``profiles``:
    with their descriptions."""

    url: str
    error: str | None = None
    identities: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    account_required: bool = False
    renewal_info: bool = False
    untimely: bool = False

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc or self.url


@dataclass(frozen=True, slots=True)
class Configured:
    profile: str | None
    account_given: bool  # acme.eab
    has_account: bool | None  # with this CA already; None: cannot be seen from here
    needs_addresses: bool  # a site has an IP address among its names


def directory(facts: Directory, configured: Configured) -> Iterator[Finding]:
    about = f"CA {facts.host}"
    if facts.error is not None:
        yield Finding(
            "wrong", about, facts.error,
            "set the clock right (timedatectl shows it)" if facts.untimely
            else "see acme.directory, the firewall, and for a private CA acme.ca_file",
        )  # fmt: skip
        return
    arranged = "; it says when to renew (ARI)" if facts.renewal_info else ""
    yield Finding("ok", about, f"its directory is reached, and its own TLS trusted{arranged}")
    wanted = configured.profile
    if wanted not in (None, "auto"):
        listed = ", ".join(facts.profiles) or "none"
        if wanted in facts.profiles:
            yield Finding("ok", about, f"profile {wanted} is one of its profiles ({listed})")
        else:
            yield Finding(
                "wrong", about, f"it has no profile {wanted}; it has: {listed}",
                "correct acme.profile, or leave it out",
            )  # fmt: skip
    elif facts.profiles:
        yield Finding("ok", about, f"it has the profiles {', '.join(facts.profiles)}")
    if configured.needs_addresses and facts.profiles and "shortlived" not in facts.profiles:
        yield Finding(
            "attention", about, "a site is called by its address, and the CA has no profile for it",
            "use another CA for it, or a name",
        )  # fmt: skip
    if facts.account_required and not configured.account_given and not configured.has_account:
        yield Finding(
            "wrong", about, "it serves only customers that it knows from elsewhere",
            "put the key identifier and the key that it hands out into acme.eab",
        )  # fmt: skip


def certificate(
    one: CertificateStatus, costs: tuple[str, ...], now: float, *, running: bool = True
) -> Iterator[Finding]:
    """``one`` as in the status; ``costs``: what another order would take of the CA's limits;
    ``running``: a server looks after it."""
    about = one["names"][0]
    if not running and not one["not_after"] and one["state"] == "missing":
        yield Finding("ok", about, "no certificate yet; it is had at the first start")
    else:
        yield _runway(one, now)
    if one["source"] != "file":
        yield from _trouble(one)
    contested = one.get("contested")  # a server of an earlier version says nothing of it
    if contested:
        yield Finding(
            "attention", about, contested,
            f"make the machines' configurations alike, or: treehouse-proxy certs renew {about}",
        )  # fmt: skip
    for text in costs:
        if "would wait" in text:
            yield Finding(
                "attention", about, f"the CA's limits: {text}",
                f"nothing; or, when it cannot wait: treehouse-proxy certs renew {about} --force",
            )  # fmt: skip


def _runway(one: CertificateStatus, now: float) -> Finding:
    about = one["names"][0]
    valid = validity(one)
    if valid is None:
        return Finding(
            "attention", about, "there is no certificate yet", f"treehouse-proxy why {about}"
        )
    begin, end = valid
    left = end - now
    step = (
        "put the renewed certificate and its key where the configuration says"
        if one["source"] == "file"
        else f"treehouse-proxy certs renew {about}"
    )
    if left <= 0:
        return Finding("wrong", about, f"the certificate has expired ({one['not_after']})", step)
    if begin > now + CLOCKS_DIFFER:
        return Finding(
            "wrong", about, f"by this machine's clock the certificate is not valid before "
            f"{one['not_before']}", "set the clock right (timedatectl shows it)",
        )  # fmt: skip
    text = f"the certificate is valid for another {spell(left)}"
    if one["renew_at"]:
        past = moment(one["renew_at"]) <= now
        text += f", and {'was to be ' if past else ''}renewed about {one['renew_at']}"
    if left < RUNWAY_SHORT * (end - begin) and overdue(one, now):
        return Finding("attention", about, text, step)
    return Finding("ok", about, text)


def _trouble(one: CertificateStatus) -> Iterator[Finding]:
    """The last failure, in the CA's words and in plain ones, part by part."""
    about = one["names"][0]
    last = next(iter(reversed(one["history"])), None)
    if last is None or last["outcome"] == "obtained" or not one["last_error"]:
        return
    problem = last.get("problem")
    when = f", next one {one['next_attempt']}" if one["next_attempt"] else ""
    number = one["attempts"]
    lead = f"{number} attempt{'s' * (number != 1)} failed in a row, the last {last['at']}{when}"
    sign: Sign = "attention" if last["outcome"] == "limits" else "wrong"
    yield Finding(sign, about, f"{lead}: {last['error'] or one['last_error']}")
    told = said(problem) if problem else None
    for each in explained(last["outcome"], told, about, last.get("challenge")):
        of = f"{each.about}: " if each.about and len(one["names"]) > 1 else ""
        step = each.step
        if step.startswith("see what `treehouse-proxy doctor"):
            step = "see below" + step.partition(" finds at the name's addresses")[2]
        elif "`treehouse-proxy doctor`" in step:
            step = "see above"
        yield Finding(sign, about, f"that means: {of}{each.means}", step)
