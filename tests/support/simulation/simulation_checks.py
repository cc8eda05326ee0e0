"""What may not have happened in a simulated life (`acme_client.drill.life`), whatever went wrong in it."""

from __future__ import annotations

from acme_client.agent.pace import BATCH
from acme_client.certificates.renewal import SPREAD_FROM, SPREAD_MOST, SPREAD_PART
from acme_client.drill.life import Life
from acme_client.drill.simulated_ca import ASK_AGAIN, HOUR, START, WINDOW_PART

from .schedules import catching_up


def judge(life: Life, *reasons: float) -> None:
    """``reasons``: moments after which many orders at once are no surprise, beside the usual."""
    ca, visitors = life.ca, life.visitors
    assert visitors.lapses == []
    assert {name: until for name, until in visitors.served_until.items() if until < ca.now} == {}
    assert visitors.served_until.keys() == life.certificates.keys()
    assert ca.limits_hit == []
    assert ca.asked_when_expired == 0
    # Whatever happens, small batches; apart from the start, when there is nothing to serve yet.
    begun = int(START // 60) + 24 * 60
    crowd = [orders for minute, orders in ca.orders_by_minute.items() if minute > begun]
    assert max(crowd, default=0) <= 2 * BATCH
    assert max(quiet_hours(life, *reasons), default=0) <= busiest(life)
    busy = disturbed(life, *life.deaths)
    for moment, done in ca.done_with.items() if ca.information else ():
        if not any(hour in busy for hour in range(int(moment // HOUR), int(done // HOUR) + 1)):
            # A window is in the CA's time: one that is over begins later by a clock that is behind.
            behind = max([-by for start, end, by in life.skews if start <= done < end], default=0.0)
            within = ASK_AGAIN + HOUR + catching_up(len(life.wanted)) + max(behind, 0.0)
            assert done - moment <= within


def disturbed(life: Life, *more: float) -> set[int]:
    """Hours in which something happens that makes orders come together, and the day after."""
    reasons = {START, *more, *(one for span in life.ca.outages for one in span)}
    reasons |= {one for start, end, _by in life.skews for one in (start, end)}
    return {int(one // HOUR) + after for one in reasons for after in range(27)}


def quiet_hours(life: Life, *reasons: float) -> list[int]:
    """Orders in each hour that had no reason to be a busy one. Those of names that do not validate
    are left out: near a certificate's end they are tried four times an hour, within their limit."""
    busy = disturbed(life, *life.ca.incidents, *reasons)
    ca = life.ca
    return [
        orders - ca.failed_by_hour[hour]
        for hour, orders in ca.orders_by_hour.items()
        if hour not in busy
    ]


def busiest(life: Life) -> float:
    """Orders in a quiet hour that are no surprise. The worst there can be: all certificates were
    made in one hour (at the start, after an outage, after an incident), so that they are due within
    the spread, or the CA's window, of each other: so many an hour, and half as much again for
    chance. It is the mean of all hours, times the part of the time between two renewals that is
    spread over."""
    lifetime = life.ca.lifetime
    window = 2 * WINDOW_PART * lifetime
    alone = min(lifetime * SPREAD_PART, SPREAD_MOST) * (1 - SPREAD_FROM)
    spread = window if life.ca.information else alone
    return len(life.wanted) / max(spread / HOUR, 1.0) * 1.5 + 8
