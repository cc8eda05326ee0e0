"""Schedules that have broken the promise (`schedules`), or are the hardest that it has to bear."""

from __future__ import annotations

from dataclasses import replace

from acme_client.drill.simulated_ca import DAY, HOUR

from .schedules import FEW, Drawn

# A restart while the clock was thirty days behind: the certificate before was served, which had ended
# for everybody else, and went on being served when the clock was right.
RESTARTED_BEHIND = Drawn(
    days=45,
    information=True,
    wanted=FEW[0],
    troubles=[(1.4217, 1.0, "clock", -30 * DAY, 0.5)],
    broken=[],
    incidents=[],
    restarts=[0.5185],
    fates=[],
    rng=[],
)
# Killed twice between the CA's word that a validation has failed and the note of it: five in an hour
# were six.
KILLED_AT_FAILURES = Drawn(
    days=9,
    information=False,
    wanted=FEW[2],
    troubles=[],
    broken=[(0, 0.0, 1.0)],
    incidents=[],
    restarts=[],
    fates=[0, 0, 5, 5],
    rng=[],
)

# Years ahead for as long as can be borne: the pause of a day, which was nothing to a certificate that
# had ended years ago, was more than it had left.
YEARS_AHEAD = Drawn(
    days=90,
    information=False,
    wanted=FEW[0],
    troubles=[(0.653, 1.0, "clock", 4000 * DAY, 0.5)],
    broken=[],
    incidents=[],
    restarts=[],
    fates=[],
    rng=[0.0],
)
# A CA that is away for the whole third of the lifetime, from a minute before it becomes due, and from
# a minute before that third.
AWAY_WHEN_DUE = replace(YEARS_AHEAD, troubles=[(0.653423, 1.0, "away", 0.0, 0.5)])
AWAY_FOR_THE_THIRD = replace(YEARS_AHEAD, troubles=[(0.654822, 1.0, "away", 0.0, 0.5)])
# And one for half of six days, for which a pause of a day is too long.
AWAY_FOR_THE_HALF = replace(YEARS_AHEAD, days=6, troubles=[(0.31184, 1.0, "away", 0.0, 0.5)])

# An incident while the clock is twenty hours behind: the CA's window, which is over, has not begun
# by our clock, and the renewal comes as much later.
BEHIND_AT_AN_INCIDENT = Drawn(
    days=90,
    information=True,
    wanted=FEW[0],
    troubles=[
        (0.0, 1.0, "away", -HOUR, 0.5),
        (0.25, 1.0, "away", -HOUR, 0.5),
        (0.5, 0.5, "clock", -20 * HOUR, 0.5),
    ],
    broken=[],
    incidents=[0.5],
    restarts=[],
    fates=[],
    rng=[],
)

# Kills when the ledger had counted and nothing was ordered yet: each cost one of five a week, of which
# two certificates of six days for the same names need nearly all.
KILLED_WITHOUT_ROOM = Drawn(
    days=6,
    information=False,
    wanted=FEW[2],
    troubles=[
        (0.0, 0.0, "away", -HOUR, 0.5),
        (0.0, 0.0, "clock", 2 * DAY, 0.5),
        (0.0, 0.0, "away", -HOUR, 0.5),
        (0.0, 0.0, "away", -HOUR, 0.5),
    ],
    broken=[],
    incidents=[],
    restarts=[],
    fates=[0, 5, 5, 0, 5],
    rng=[],
)
# Four of them cost what was left of the week's five, and the CA is away from before there is another
# one until the certificate has ended.
KILLED_FOUR_TIMES_AND_AWAY = Drawn(
    days=9,
    information=True,
    wanted=FEW[1],
    troubles=[(0.5, 1.0, "away", -HOUR, 0.5), *[(0.0, 0.0, "away", -HOUR, 0.5)] * 3],
    broken=[],
    incidents=[],
    restarts=[],
    fates=[0, 10, 0, 5, 5, 5, 5],
    rng=[],
)
