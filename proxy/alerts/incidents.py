"""When somebody is to be told: what is wrong now, since when, and who knows already. Pure.

An *incident* is one thing that is wrong with one certificate, or with the certifier. It is told
when it begins, again once a day while it lasts (``alerts.repeat``), and when it is over. Between
wrong and well there is *undecided*, which neither begins nor ends an incident: a certificate that
has been asked for by hand has no failures any more, and yet nothing is well before it is there.

The time is a parameter, in Unix seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, field, fields
from typing import Any, Literal

from acme_client.certificates.ranks import places
from acme_client.errors import ProblemDocument
from acme_client.explain import explained
from acme_client.late_dataclass import dataclass
from acme_client.status import CertificateStatus, ClusterStatus, validity
from acme_client.text import moment

from ..config.model import Alerts

Kind = Literal["renewal_failing", "runway_short", "certifier_silent", "contested"]
Event = Literal["alert", "reminder", "over"]
Key = tuple[str, str]  # kind, and the certificate's first name; "" is the certifier

# The first attempt has its time: CAs hold orders for minutes, and a thousand certificates of one
# moment wait for each other.
_RENEWED_WITHIN = 3600.0
_RENEWED_WITHIN_PART = 1 / 50
# While a change of the configuration is brought to all machines, their files differ.
_DIFFER_FOR = 3600.0
# Of a certificate's entry in the status: what somebody who is woken up wants to know.
_FACTS = (
    "names", "source", "directory", "serial", "not_after", "state", "attempts", "last_error",
    "next_attempt", "served",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """Something is wrong. ``step``: what to do about it."""

    text: str
    step: str
    facts: Mapping[str, Any] | None = None


@dataclass(slots=True)
class View:
    """What one look has found; what is in none of the three is no longer anybody's business."""

    wrong: dict[Key, Finding] = field(default_factory=dict)
    well: set[Key] = field(default_factory=set)
    undecided: set[Key] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Notice:
    """What is to be told of an incident. ``since``: when it began."""

    event: Event
    kind: str
    name: str | None
    since: float
    text: str
    step: str
    certificate: Mapping[str, Any] | None

    @property
    def key(self) -> Key:
        return self.kind, self.name or ""


# Looking


def everybody(_name: str) -> bool:
    """A machine alone tells of all its certificates."""
    return True


def nobody(_name: str) -> bool:
    """A machine that does not know the others yet leaves all to them."""
    return False


def teller(cluster: ClusterStatus | None) -> Callable[[str], bool]:
    """Return whether this machine of a cluster tells of a certificate that others have as well: the
    first in its order of those that order. A machine that is cut off, or does not take what the
    others have, tells of what is wrong here; one that has just begun (None, or without members)
    waits until it knows them."""
    if cluster is None:
        return nobody
    if not cluster["connected"] or (cluster["members"] and not cluster["ordering"]):
        return everybody
    if not cluster["members"]:
        return nobody
    ordering, node, refused = cluster["ordering"], cluster["node"], cluster["refused"]
    return lambda name: name in refused or places(name.partition("/")[0], ordering)[0] == node


def look(
    certificates: Iterable[CertificateStatus],
    wanted: Iterable[str],
    silent: float,
    rules: Alerts,
    now: float,
    tells: Callable[[str], bool] = everybody,
) -> View:
    """``certificates`` as in the status; ``wanted``: the first names of the sites, of which some
    may not have been heard of yet; ``silent``: seconds since the certifier was heard; ``tells``:
    whether it is this machine that tells of a certificate."""
    view = View()
    for one in certificates:
        if one["on_demand_for"] and (not one["not_after"] or one["given_up"]):
            continue  # a stranger's name that does not work, or one that nobody wants any more
        _failing(one, rules, view)
        _runway(one, rules, now, view)
        if one["contested"]:
            _contested(one, now, view)
        if one["source"] != "file" and not tells(one["name"]):
            _leave_to_others(one["name"], view)
    told = {name for _kind, name in (*view.wrong, *view.well, *view.undecided)}
    for name in wanted:
        if name not in told:
            view.undecided |= {("renewal_failing", name), ("runway_short", name)}
    key: Key = ("certifier_silent", "")
    if silent > rules.certifier_timeout:
        view.wrong[key] = Finding(
            f"the certifier has not been heard of for {spell(silent)}; no certificate is renewed",
            "see the log: one that hangs or ends is replaced by itself, so something keeps them all"
            " from running, such as a disk that does not answer",
        )
    else:
        view.well.add(key)
    return view


def _failing(one: CertificateStatus, rules: Alerts, view: View) -> None:
    name = one["name"]
    key: Key = ("renewal_failing", name)
    if one["source"] == "file":
        view.well.add(key)  # nobody tries anything; what is wrong with it is told by its runway
    elif one["attempts"] >= rules.after_failures:
        number = one["attempts"]
        failed = (
            "an attempt for a certificate has failed"
            if number == 1
            else f"{number} attempts for a certificate have failed in a row"
        )
        text = f"{name}: {failed}"
        view.wrong[key] = Finding(f"{text}: {one['last_error']}", advice(one), _facts(one))
    elif one["state"] == "fresh":
        view.well.add(key)
    else:
        view.undecided.add(key)


def _leave_to_others(name: str, view: View) -> None:
    """Let another machine tell what is wrong; what this one has told before, it ends. What this
    machine alone wants (`_contested`) no other would tell."""
    keys: tuple[Key, ...] = (("renewal_failing", name), ("runway_short", name))
    for key in keys:
        if view.wrong.pop(key, None) is not None:
            view.undecided.add(key)


def _contested(one: CertificateStatus, now: float, view: View) -> None:
    """Machines want one certificate to be different things, or too many were made."""
    key: Key = ("contested", one["name"])
    since = one["contested_since"]
    if since is None or moment(since) + _DIFFER_FOR > now:
        view.undecided.add(key)
        return
    step = "make the configurations of the machines alike; treehouse-proxy status --cluster"
    view.wrong[key] = Finding(str(one["contested"]), step, _facts(one))


def _runway(one: CertificateStatus, rules: Alerts, now: float, view: View) -> None:
    name = one["name"]
    key: Key = ("runway_short", name)
    valid = validity(one)
    if valid is None:
        view.undecided.add(key)  # one that never was is told of when getting it fails
        return
    begin, end = valid
    left = end - now
    if left > 0 and (left >= rules.runway.of(end - begin) or not overdue(one, now)):
        view.well.add(key)
        return
    text = "the certificate has expired" if left <= 0 else f"the certificate ends in {spell(left)}"
    view.wrong[key] = Finding(f"{name}: {text} ({one['not_after']})", advice(one), _facts(one))


def overdue(one: CertificateStatus, now: float) -> bool:
    """Whether what should have followed a certificate has not: little is left of each for a while
    before its renewal, where a CA says to renew late, or where they live for days only."""
    valid = validity(one)
    if valid is None or one["source"] == "file" or one["attempts"] or not one["renew_at"]:
        return True
    begin, end = valid
    return now > moment(one["renew_at"]) + min(
        (end - begin) * _RENEWED_WITHIN_PART, _RENEWED_WITHIN
    )


def advice(one: CertificateStatus) -> str:
    """Return the next step for a certificate that cannot be had, or ends."""
    name = one["name"]
    if one["source"] == "file":
        return "put the renewed certificate and its key where the configuration says; it is noticed"
    last = next((past for past in reversed(one["history"]) if past["error"]), None)
    if last is None:
        return f"treehouse-proxy why {name}; treehouse-proxy doctor {name}"
    problem = last["problem"]
    told = said(problem) if problem else None
    *_, known = explained(last["outcome"], told, name, last["challenge"])
    return known.step


def said(value: Mapping[str, Any]) -> ProblemDocument:
    """A CA's problem document, from a status."""
    parts = tuple(map(said, value.get("parts") or ()))
    return ProblemDocument(value["typ"], value["detail"], value.get("name"), parts)


def _facts(one: CertificateStatus) -> Mapping[str, Any]:
    return {key: one.get(key) for key in _FACTS}


def spell(seconds: float) -> str:
    """For people: the largest unit that leaves more than one."""
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{int(seconds // unit)} {name}"
    return f"{int(seconds)} seconds"


# Remembering


@dataclass(frozen=True, slots=True)
class Incident:
    since: float
    told: float
    text: str


class Incidents:
    """Those that last, by key."""

    def __init__(self, lasting: Mapping[Key, Incident] | None = None) -> None:
        self._lasting = dict(lasting or {})

    def follow(self, view: View, repeat: float, now: float) -> list[Notice]:
        """What is to be told after this look."""
        notices = [
            notice
            for key, finding in view.wrong.items()
            if (notice := self._wrong(key, finding, repeat, now)) is not None
        ]
        for key in list(self._lasting):
            if key not in view.wrong and key not in view.undecided:
                incident = self._lasting.pop(key)
                # A certificate that is not contested is not noted as such: nearly all are not.
                well = key in view.well or key[0] == "contested"
                notices.append(_over(key, incident, well, now))
        return notices

    def _wrong(self, key: Key, finding: Finding, repeat: float, now: float) -> Notice | None:
        incident = self._lasting.get(key)
        event: Event = "alert"
        if incident is not None:
            # A moment to come was written by a clock that ran ahead.
            if incident.told <= now < incident.told + repeat:
                return None
            event = "reminder"
        since = min(incident.since, now) if incident else now
        self._lasting[key] = Incident(since, now, finding.text)
        return Notice(
            event, key[0], key[1] or None, since, finding.text, finding.step, finding.facts
        )

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {"kind": kind, "name": name, **asdict(incident)}
            for (kind, name), incident in self._lasting.items()
        ]

    @classmethod
    def from_json(cls, value: Any) -> Incidents:
        """What can be read of it: one that is forgotten is told once more."""
        lasting: dict[Key, Incident] = {}
        for one in value if isinstance(value, list) else ():
            try:
                incident = Incident(float(one["since"]), float(one["told"]), str(one["text"]))
                lasting[str(one["kind"]), str(one["name"])] = incident
            except (KeyError, TypeError, ValueError):
                continue
        return cls(lasting)


def _over(key: Key, incident: Incident, well: bool, now: float) -> Notice:
    kind, name = key
    about = f"{name}: " if name else ""
    if well:
        text = f"{about}well again, after {spell(max(now - incident.since, 0.0))}"
    else:
        text = f"{about}no longer in the configuration"
    return Notice("over", kind, name or None, incident.since, text, "nothing", None)


# What has not been delivered yet


def merged(waiting: Iterable[Notice], more: Iterable[Notice]) -> list[Notice]:
    """One notice an incident: the latest word, and none of one whose beginning nobody heard of."""
    kept = {notice.key: notice for notice in waiting}
    for notice in more:
        before = kept.pop(notice.key, None)
        if notice.event == "over" and before is not None and before.event == "alert":
            continue
        kept[notice.key] = notice
    return list(kept.values())


def waiting_to_json(notices: Iterable[Notice]) -> list[dict[str, Any]]:
    return [{one.name: getattr(notice, one.name) for one in fields(Notice)} for notice in notices]


def waiting_from_json(value: Any) -> list[Notice]:
    """What can be read of it."""
    found = []
    for one in value if isinstance(value, list) else ():
        try:
            notice = Notice(**one)
            float(notice.since)
        except (TypeError, ValueError):
            continue
        found.append(notice)
    return found
