"""Which certificate goes where, and which account is taken. Pure.

Where the sites are known, each gets the certificate that covers most of its names and lasts
longest; programs differ in which names they put into one certificate, so one may serve several
sites, or a site for a part of its names until its own has been ordered. Where they are not known,
each certificate goes by its own name.

Only what proves comes in: the key fits, the chain has no gap, it is valid now.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import Problem
from ..proof import Facts, Pair, covers, prove
from .findings import Account, Certificate, Left


@dataclass(frozen=True, slots=True)
class Site:
    """A certificate that is wanted: ``names`` as in `link.Wanted`. ``refusal``: why it takes none
    that is brought along."""

    names: tuple[str, ...]
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A certificate on its way to certificates/``names[0]``."""

    names: tuple[str, ...]
    pair: Pair
    facts: Facts
    where: str
    directory: str | None

    @property
    def covered(self) -> int:
        return sum(covers(self.facts.names, name) for name in self.names)


def places(
    certificates: Iterable[Certificate], sites: tuple[Site, ...] | None, now: float
) -> tuple[list[Place], list[Left]]:
    """Where each certificate goes; and those that go nowhere."""
    proven: list[tuple[Certificate, Facts]] = []
    left: list[Left] = []
    for one in certificates:
        try:
            proven.append((one, prove(one.pair, (), now)))
        except Problem as problem:
            left.append(Left(one.where, problem.text))
    wanted = (
        _by_themselves(proven) if sites is None else [one.names for one in sites if not one.refusal]
    )
    found: dict[str, Place] = {}
    for one, facts in proven:
        for names in wanted:
            place = Place(names, one.pair, facts, one.where, one.directory)
            present = found.get(names[0])
            if place.covered and (present is None or better(place, present)):
                found[names[0]] = place
    used = {place.where for place in found.values()}
    left += [
        Left(one.where, _why_not(facts, wanted, sites or ()))
        for one, facts in proven
        if one.where not in used
    ]
    return list(found.values()), left


def better(one: Place, other: Place) -> bool:
    return (one.covered, one.facts.not_after) > (other.covered, other.facts.not_after)


def _by_themselves(proven: list[tuple[Certificate, Facts]]) -> list[tuple[str, ...]]:
    """Each certificate's own names; its title first, if it is one of them."""
    wanted: dict[str, tuple[str, ...]] = {}
    for one, facts in proven:
        if facts.names:
            first = one.title if one.title in facts.names else facts.names[0]
            wanted.setdefault(first, (first, *(name for name in facts.names if name != first)))
    return list(wanted.values())


def _why_not(facts: Facts, wanted: list[tuple[str, ...]], sites: tuple[Site, ...]) -> str:
    for names in wanted:
        if any(covers(facts.names, name) for name in names):
            return f"another certificate covers more of {names[0]}, or lasts longer"
    for site in sites:
        if any(covers(facts.names, name) for name in site.names):
            return f"{site.names[0]}: {site.refusal}"
    return f"no site is called {' or '.join(facts.names) or 'so'}"


def accounts(
    found: Iterable[Account], directories: frozenset[str] | None
) -> tuple[list[Account], list[Left]]:
    """One account per CA that is used (``directories``; None: all): the one that most certificates
    name."""
    taken: dict[str, Account] = {}
    left: list[Left] = []
    for one in sorted(found, key=lambda account: (-account.used, account.where)):
        if directories is not None and one.directory not in directories:
            left.append(Left(one.where, f"no site's CA is {one.directory}"))
        elif one.directory in taken:
            left.append(Left(one.where, f"the CA has an account: {taken[one.directory].where}"))
        else:
            taken[one.directory] = one
    return list(taken.values()), left
