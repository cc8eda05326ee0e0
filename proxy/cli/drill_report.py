"""What a drill has shown (`drill`), told to people and to programs, with what to change."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence

from acme_client.drill.simulated_ca import DAY
from acme_client.text import spell, timestamp

from ..config.syntax.units import spell_duration
from .drill import Outcome, Route


def lines(outcome: Outcome) -> Iterator[str]:
    """Tell the outcome to people."""
    yield f"played: {_told(outcome)}, from {_day(outcome, 0)} UTC on"
    missing = f", {outcome.missing} of them ordered before" if outcome.missing else ""
    yield f"certificates: {len(outcome.certificates)}{missing}"
    if outcome.due is not None and (after := _after(outcome.due - outcome.began)):
        until = spell(outcome.due - outcome.began)
        yield f"the next one becomes due {until} later: --after {after} plays that moment"
    yield ""
    lapsed = outcome.lapsed
    for one in lapsed:
        if one.late:
            yield f"{one.name}: revoked before another one was there"
        if one.lapsed is not None:
            back = (
                f", back after {spell(one.back - one.lapsed)}"
                if one.back is not None
                else ", and none had come by the end"
            )
            yield f"{one.name}: lapses {_day(outcome, one.lapsed - outcome.began)}{back}"
    if not lapsed:
        yield "no certificate lapses"
        least = min(outcome.certificates.values(), key=lambda one: one.least)
        if least.least < float("inf"):
            yield f"the least that was left: {spell(least.least)} ({least.name})"
    yield ""
    yield from _alerts(outcome)
    yield ""
    yield from _to_change(_advice(outcome))


def _told(outcome: Outcome) -> str:
    length = spell(outcome.ended - outcome.began)
    match outcome.kind:
        case "outage":
            return f"the CA does not answer for {length}"
        case "clock":
            way = "ahead" if outcome.skew > 0 else "behind"
            return f"this machine's clock is {spell(abs(outcome.skew))} {way} for {length}"
        case "disk":
            return f"the disk takes no writes for {length}"
    busy = f", and hardly answers for {length}" if outcome.ended > outcome.began else ""
    return f"the CA has to revoke all certificates within a day{busy}"


def _after(seconds: float) -> str:
    """Spell days as ``--after`` takes them, never too many; "" where that is now."""
    days = seconds / DAY
    tenths = math.floor(days * 10) / 10
    return f"{math.floor(days)}" if days >= 2 else f"{tenths:g}" if tenths else ""


def _day(outcome: Outcome, after: float) -> str:
    moment = time.strftime("%Y-%m-%d %H:%M", time.gmtime(outcome.began + after))
    return moment if not after else f"{moment} UTC ({spell(after)} after it began)"


def _alerts(outcome: Outcome) -> Iterator[str]:
    alerts = [(at, one) for at, one in outcome.notices if one.event == "alert"]
    if not alerts:
        yield "alerts: none would have gone out"
        return
    sent = f"by {' and '.join(outcome.ways)}" if outcome.ways else "to nobody: none are configured"
    yield f"alerts: {len(alerts)} would have gone out, {sent}"
    for at, one in alerts[:10]:
        yield f"  {_day(outcome, max(at - outcome.began, 1.0))}: {one.text}"
    if len(alerts) > 10:
        yield f"  and {len(alerts) - 10} more"
    if outcome.lapsed and outcome.lapsed[0].lapsed is not None:
        ahead = outcome.lapsed[0].lapsed - alerts[0][0]
        if ahead > 0:
            yield f"the first of them comes {spell(ahead)} before the first lapse"


def _advice(outcome: Outcome) -> Iterator[str]:
    lapsed = outcome.lapsed
    if not outcome.ways:
        yield "alerts: {webhook: …} or {email: …}, so that somebody is told"
    if outcome.kind == "disk":
        yield "the disk: watch its free space; a restart on a full one goes back to what lies there"
    elif not lapsed:
        yield "nothing else: what there is bears this"
        return
    if outcome.kind in ("outage", "revocation") and not outcome.fallback:
        yield "acme.fallback: [{directory: …}], another CA that is asked when this one fails"
    elif outcome.kind in ("outage", "revocation"):
        yield "acme.fallback: a further CA, or one whose limits have more room"
    if outcome.kind == "outage" and any(one < 20 * DAY for one in outcome.lifetimes):
        yield "acme.profile: certificates that are valid for longer bear longer outages"
    if outcome.kind == "clock":
        yield "the clock: timedatectl set-ntp true, or chrony; treehouse-proxy doctor looks at it"


def document(outcome: Outcome) -> dict[str, object]:
    """Tell the outcome to programs."""
    return {
        "kind": outcome.kind,
        "began": timestamp(outcome.began),
        "ended": timestamp(outcome.ended),
        "clock_ahead_seconds": outcome.skew,
        "certificates": [
            {
                "name": one.name,
                "lapsed": timestamp(one.lapsed),
                "back": timestamp(one.back),
                "revoked": one.late,
                "least_runway_seconds": None if one.least == float("inf") else round(one.least),
                "renewed": one.renewed,
            }
            for one in outcome.certificates.values()
        ],
        "alerts": [
            {"at": timestamp(at), "event": one.event, "kind": one.kind, "name": one.name,
             "text": one.text}
            for at, one in outcome.notices
        ],
        "alerts_by": list(outcome.ways),
        "advice": list(_advice(outcome)),
    }  # fmt: skip


def backend_lines(url: str, routes: Sequence[Route]) -> Iterator[str]:
    """Tell people what becomes of the routes without a backend."""
    yield f"played: {url} takes no connections"
    yield ""
    for one in routes:
        yield f"{one.site}{one.path}: {_without(one)}"
    yield ""
    yield "alerts: none, they are about certificates; watch treehouse_upstream_healthy"
    yield from _to_change(_backend_advice(routes))


def backend_document(url: str, routes: Sequence[Route]) -> dict[str, object]:
    """Tell programs what becomes of the routes without a backend."""
    return {
        "kind": "backend",
        "url": url,
        "routes": [
            {"site": one.site, "path": one.path, "others": one.others, "answers": _without(one)}
            for one in routes
        ],
        "advice": _backend_advice(routes),
    }


def _without(route: Route) -> str:
    if route.others:
        others = f"{route.others} other{'s' if route.others > 1 else ''}"
        found = "which a check finds out" if route.checked else "after requests have failed"
        return f"goes on with {others}, {found}"
    if route.waits:
        return f"holds requests for {spell_duration(route.waits)}, then answers 502"
    return "answers 502"


def _backend_advice(routes: Sequence[Route]) -> list[str]:
    advice = []
    if any(not one.others for one in routes):
        advice.append("backend: [URL, URL], a second one for those that have one only")
        if any(not one.others and not one.waits for one in routes):
            advice.append("wait_for_backend: 10s, for an app that restarts")
    if any(one.others and not one.checked for one in routes):
        advice.append("health: {path: /healthz}, so that no request has to find out")
    return advice or ["nothing: what there is bears this"]


def _to_change(advice: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(advice):
        yield f"{'to change' if not number else '         '}  {line}"
