"""Whose turn it is: which attempts begin now, of all that are called for.

The most urgent first, as far as there is room at its CA; and renewals that have time in small
batches (`pace`). No I/O: who asks has the threads and the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ..certificates import ca_choice
from ..certificates.lifecycle import READY, State
from ..certificates.managed import Holding
from ..link import INTERNAL
from .pace import Pace, in_hurry


class Turns:
    def __init__(self) -> None:
        self._paces: dict[str, Pace] = {}

    def attempts(
        self, holdings: Iterable[Holding], now: float, has_room: Callable[[str], bool]
    ) -> Iterator[tuple[str, Holding]]:
        """CAs (their directories) with whom is to begin there; each one has begun when the next is
        asked for. ``has_room(directory)``: whether another one may.

        Of a site's two certificates one after the other: the CA may ask for the same names'
        challenges, and there is one answer to TLS-ALPN-01 for a name."""
        holdings = list(holdings)
        busy = {one.wanted.names[0] for one in holdings if one.busy}
        ready = [
            one for one in holdings if not one.busy and not one.asleep and one.record.state in READY
        ]
        for holding in sorted(ready, key=urgency):
            directory = ca_choice.authority(holding.wanted, holding.record, now).directory
            site = holding.wanted.names[0]
            if site in busy or not has_room(directory):
                continue
            if _has_time(holding, now):
                pace = self._paces.setdefault(directory, Pace())
                if not pace.allows(now):
                    continue
                pace.begin(now)
            busy.add(site)
            yield directory, holding


def urgency(holding: Holding) -> tuple[bool, bool, bool, float]:
    """What takes no time first, then what somebody waits for, then what has nothing to serve, then
    what ends soonest."""
    return (
        holding.wanted.authority.directory != INTERNAL,
        not holding.tickets,
        holding.facts is not None,
        holding.facts.not_after if holding.facts else 0.0,
    )


def _has_time(holding: Holding, now: float) -> bool:
    """Whether its renewal may wait for others; none by the built-in CA has to."""
    facts = holding.facts
    return (
        facts is not None
        and holding.record.state is State.DUE
        and not holding.tickets
        and holding.wanted.authority.directory != INTERNAL
        and not in_hurry(facts.not_before, facts.not_after, now)
    )
