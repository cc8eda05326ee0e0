"""One page on one certificate: how it stands, every attempt, what the last failure means. Pure.

It is the status's entry put into words, so whatever a program wants to know of it is in ``--json``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

from acme_client.explain import explained
from acme_client.names import wildcard_of
from acme_client.status import AttemptStatus, CertificateStatus, ClusterStatus, validity
from acme_client.text import moment

from ..alerts.incidents import said, spell
from . import in_cluster

# Seconds that a CA's clock may be ahead of ours without anybody minding.
CLOCKS_DIFFER = 60.0
# What each state means for whoever asks, and what happens next without anybody doing anything.
_STATES = {
    "missing": "there is none yet; it is about to be ordered",
    "fresh": "valid, and not due for renewal",
    "due": "due for renewal; the attempt is about to begin",
    "issuing": "an attempt is under way",
    "waiting": "the CA has asked to wait",
    "failed": "the last attempt failed; another will be made by itself",
}
_FROM = {"file": "files of your own", "internal": "the built-in CA"}


def find(certificates: Iterable[CertificateStatus], name: str) -> list[CertificateStatus]:
    """Return the certificates for this name: by the name itself, else by the wildcard that covers
    it. A site may have two; "example.org/rsa" is one of them."""
    listed = list(certificates)
    plain, mark, family = name.partition("/")
    for candidate in (plain, wildcard_of(plain)):
        found = [
            one
            for one in listed
            if candidate in one["names"] and (not mark or one["key_type"].startswith(family + "-"))
        ]
        if found:
            return found
    return []


def page(
    one: CertificateStatus,
    now: float,
    *,
    running: bool = True,
    cluster: ClusterStatus | None = None,
) -> Iterator[str]:
    """Yield the lines of the page. ``one`` as in ``status --json``. ``running``: whether a server
    runs. ``cluster``: how it stands among others, where it does."""
    window = one["ari_window"]
    takes = cluster is not None and not cluster["orders"] and one["source"] != "file"
    rows = [
        ("names", ", ".join(one["names"])),
        ("state", f"{one['state']}: {_taken(one) if takes else _state(one)}"),
        ("cluster", None if cluster is None else _in_cluster(one, cluster)),
        *(() if cluster is None else in_cluster.rows(one, cluster)),
        ("served", _served(one, now) if running else "no: no server runs"),
        ("from", _FROM.get(one["source"]) or one["directory"]),
        ("profile", _profile(one)),
        ("on demand", f"for {one['on_demand_for']}" if one["on_demand_for"] else None),
        ("key", one["key_type"]),
        ("serial", one["serial"]),
        ("valid", f"{one['not_before']} to {one['not_after']}" if one["not_after"] else None),
        ("runway", _runway(one, now)),
        ("renews", _renews(one, now)),
        ("CA's window", f"{window['start']} to {window['end']}" if window else None),
        ("CA says", window["explanation_url"] if window else None),
        ("attempts", f"{one['attempts']} failed since a success" if one["attempts"] else None),
        ("last error", one["last_error"]),
        ("next attempt", _next(one, now)),
    ]
    for name, value in rows:
        if value:
            yield f"{name:>13}  {value}"
    history = one["history"]
    if history:
        yield ""
        yield "attempts, the last one first"
        for past in reversed(history):
            yield f"  {_attempt(past)}"
    if one["last_error"]:
        yield from _meaning(one)


def _state(one: CertificateStatus) -> str:
    if one["source"] == "file" and one["state"] == "failed":
        return "the certificate in the files has expired"
    if one["given_up"]:
        return "it is not renewed: nobody comes for it, or it is not allowed any more"
    if one["on_demand_for"] and not one["not_after"] and one["state"] != "issuing":
        return "it is tried again when somebody comes for it"
    return _STATES.get(one["state"], "")


def _taken(one: CertificateStatus) -> str:
    """Tell what a state means where another machine orders."""
    if one["state"] == "fresh":
        return _STATES["fresh"]
    return "there is none yet" if not one["not_after"] else "due for renewal by those who order"


def _in_cluster(one: CertificateStatus, cluster: ClusterStatus) -> str | None:
    if one["source"] == "file":
        return None
    if one["name"] in cluster["refused"]:
        return f"what {cluster['name']} has is not taken: {cluster['refused'][one['name']]}"
    contested = one.get("contested")  # a server of an earlier version says nothing of it
    if contested:
        return contested
    ordering = ", ".join(cluster["ordering"])
    if cluster["orders"]:
        does = f"ordered by one of {ordering}" if len(cluster["ordering"]) > 1 else "ordered here"
        told = f"{does}, for all of {cluster['name']}"
    else:
        told = f"{ordering or 'nobody'} may order it, {cluster['node']} takes it"
    return f"{told}; {cluster['fault']}" if cluster["fault"] else told


def _served(one: CertificateStatus, now: float) -> str:
    """Tell what visitors meet."""
    if not one["not_after"]:
        return "no: there is none, and visitors cannot connect"
    if not one["served"]:
        return "no: not all workers have taken it yet; they are told again every minute"
    if moment(one["not_after"]) <= now:
        return "yes, for want of a better one, and browsers warn of it"
    return "yes"


def _next(one: CertificateStatus, now: float) -> str | None:
    at = one["next_attempt"]
    if not at:
        return None
    left = moment(at) - now
    return f"{at}, in {spell(left)}" if left > 0 else f"{at}, now"


def _profile(one: CertificateStatus) -> str | None:
    if one["source"] != "acme":
        return None
    return one["profile"] or "the CA's default"


def _runway(one: CertificateStatus, now: float) -> str | None:
    valid = validity(one)
    if valid is None:
        return None
    begin, end = valid
    left = end - now
    if left < 0:
        return "none: it has expired"
    if begin > now + CLOCKS_DIFFER:
        return f"by this machine's clock it is not valid yet; set the clock right ({_clock(now)})"
    days, hours = divmod(int(left // 3600), 24)
    share = f", {left / (end - begin):.0%} of its life" if end > begin else ""
    minutes = f" {int(left % 3600 // 60)} minutes" if not days else ""
    return f"{days} days {hours} hours{minutes}{share}"


def _clock(now: float) -> str:
    return f"it shows {datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC"


def _renews(one: CertificateStatus, now: float) -> str | None:
    if one["source"] == "file":
        return "by whoever looks after the files; a change is noticed"
    if one["renew_at"] is None:
        return None
    how = "a moment drawn from the CA's window" if one["ari_window"] else "by its lifetime"
    past = "; that is past" if moment(one["renew_at"]) <= now else ""
    return f"{one['renew_at']}, {how}{past}"


def _attempt(past: AttemptStatus) -> str:
    way = f" by {past['challenge']}" if past["challenge"] else ""
    host = urlsplit(past["directory"]).netloc or past["directory"]
    took = f" in {past['seconds']:.1f} s" if past["seconds"] is not None else ""
    why = f": {past['error']}" if past["error"] else ""
    return f"{past['at']}  {past['outcome']} at {host}{way}{took}{why}"


def _only(one: CertificateStatus) -> tuple[str, ...]:
    """Return the name that everything is about, where there is one alone."""
    return tuple(one["names"]) if len(one["names"]) == 1 else ()


def _force(last: AttemptStatus | None) -> str:
    """Of a command that would be answered by the ledger, which has heard the CA."""
    if last is None or last["outcome"] not in ("limits", "rate_limited", "unavailable"):
        return ""
    return " --force, which asks the CA before its time is over"


def _meaning(one: CertificateStatus) -> Iterator[str]:
    name = one["name"]
    last = next((past for past in reversed(one["history"]) if past["error"]), None)
    if last is not None:
        problem = last["problem"]
        for each in explained(
            last["outcome"], said(problem) if problem else None, name, last["challenge"]
        ):
            of = f"{each.about}: " if each.about not in (None, *_only(one)) else ""
            yield ""
            if each.quoted:
                yield f"the CA says    {of}{each.quoted}"
            yield f"that means     {of}{each.means}"
            yield f"next step      {each.step}"
    if one["source"] != "file":
        yield ""
        yield f"To try at once: treehouse-proxy certs renew {name}{_force(last)}"
