"""Checks that our clock and the CA's agree well enough to order anything.

A clock that is years ahead makes every certificate look expired, also a new one. A clock that is
far behind makes a new certificate look not valid yet. Either would spend the CA's limits on
certificates that are thrown away. So the CA's own clock is asked first: it stands in every answer
(Date, RFC 9110 §6.6.1).

Pure.
"""

from __future__ import annotations

from datetime import UTC, datetime

from ..errors import IssuanceError
from ..x509.verify import CLOCK_BEHIND
from .retry import retry_after

# Half of the shortest lifetime that public CAs give (six days): what comes is still of use then.
CLOCK_AHEAD = 3 * 86400.0


def demand_agreement(ours: float, date: str | None) -> None:
    """``date``: the field of the CA's answer; one that is missing or nonsense says nothing. Raises
    `IssuanceError` ("clock")."""
    theirs = None if date is None or date.strip().isdigit() else retry_after(date, ours)
    if theirs is None or -CLOCK_BEHIND <= ours - theirs <= CLOCK_AHEAD:
        return
    days = abs(ours - theirs) / 86400
    way = "ahead of" if ours > theirs else "behind"
    raise IssuanceError(
        "clock",
        f"this machine's clock is {days:.0f} days {way} the CA's, where it is "
        f"{datetime.fromtimestamp(theirs, UTC):%Y-%m-%d %H:%M} UTC; nothing is ordered",
    )
