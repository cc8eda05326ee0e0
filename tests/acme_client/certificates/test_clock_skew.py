"""Our clock and the CA's."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from acme_client.certificates.clock_skew import demand_agreement
from acme_client.errors import IssuanceError

DAY = 86400.0
NOW = 1_800_000_000.0


@pytest.mark.parametrize("days", [0.0, 2.9, -0.9])
def test_a_little_off_is_good_enough(days: float) -> None:
    demand_agreement(NOW + days * DAY, formatdate(NOW, usegmt=True))


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (400.0, "clock is 400 days ahead of the CA's, where it is 2027-01-15 08:00 UTC"),
        (3.2, "3 days ahead of"),
        (-1.4, "1 days behind"),
        (-20000.0, "20000 days behind"),
    ],
)
def test_what_would_be_of_no_use_is_not_ordered(days: float, said: str) -> None:
    with pytest.raises(IssuanceError, match=said) as caught:
        demand_agreement(NOW + days * DAY, formatdate(NOW, usegmt=True))
    assert caught.value.kind == "clock"


@pytest.mark.parametrize("date", [None, "", "yesterday", "5", "Thu, 99 Foo 1999"])
def test_a_ca_that_does_not_say_is_believed(date: str | None) -> None:
    demand_agreement(NOW, date)
