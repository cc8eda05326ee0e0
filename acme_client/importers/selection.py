"""Decides which certificate is imported for which site, and which account is taken.

Where the sites are known, each site gets the certificate that covers most of its names and lasts
longest. Programs differ in which names they put into one certificate, so a certificate may serve
several sites, or a part of a site's names until the site's own certificate has been ordered. Where
the sites are not known, each certificate is kept under its own name.

A certificate is imported only if it is proven: the key fits, the chain has no gap, it is valid now.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ..errors import IssuanceError
from ..late_dataclass import dataclass
from ..names import canonical, covers, wildcard_of
from ..x509.verify import CertificateAndKey, CertificateInfo, verify_pair
from .findings import Account, Certificate, Skipped


@dataclass(frozen=True, slots=True)
class Site:
    """A site's certificate: ``names`` as in `link.CertificateSpec`. ``refusal``: why the site takes
    no imported certificate."""

    names: tuple[str, ...]
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A certificate, and where it goes: certificates/``names[0]``."""

    names: tuple[str, ...]
    pair: CertificateAndKey
    facts: CertificateInfo
    where: str
    directory: str | None

    @property
    def covered(self) -> int:
        """How many of the names the certificate covers."""
        return sum(covers(self.facts.names, name) for name in self.names)


def _nobody(_name: str) -> bool:
    return False


def places(
    certificates: Iterable[Certificate],
    sites: tuple[Site, ...] | None,
    now: float,
    on_demand: Callable[[str], bool] = _nobody,
) -> tuple[list[Place], list[Skipped]]:
    """Return where each certificate goes, and what is skipped. ``on_demand``: whether a name may
    have a certificate on demand; its certificate is kept until a client asks for the name."""
    proven: list[tuple[Certificate, CertificateInfo]] = []
    left: list[Skipped] = []
    for one in certificates:
        try:
            proven.append((one, verify_pair(one.pair, (), now)))
        except IssuanceError as problem:
            left.append(Skipped(one.where, problem.text))
    if sites is None:
        wanted = _by_themselves(proven)
    else:
        wanted = [one.names for one in sites if not one.refusal]
        wanted += _for_on_demand(proven, sites, on_demand)
    index = _Index(wanted)
    found: dict[str, Place] = {}
    for one, facts in proven:
        for names in index.touched(facts.names):
            place = Place(names, one.pair, facts, one.where, one.directory)
            present = found.get(names[0])
            if place.covered and (present is None or better(place, present)):
                found[names[0]] = place
    used = {place.where for place in found.values()}
    refused = _Index([one.names for one in sites or ()])
    refusals = {one.names: one.refusal for one in sites or ()}
    for one, facts in proven:
        if one.where not in used:
            left.append(Skipped(one.where, _why_not(facts, index, refused, refusals)))
    return list(found.values()), left


class _Index:
    """Finds the lists of names that a certificate may cover; there may be thousands of both."""

    def __init__(self, wanted: Iterable[tuple[str, ...]]) -> None:
        self._by_name: dict[str, list[tuple[str, ...]]] = {}
        for names in dict.fromkeys(wanted):
            for name in names:
                for way in {canonical(name), wildcard_of(canonical(name))}:
                    self._by_name.setdefault(way, []).append(names)

    def touched(self, certified: tuple[str, ...]) -> list[tuple[str, ...]]:
        return list(
            dict.fromkeys(names for one in certified for names in self._by_name.get(one, ()))
        )


def better(one: Place, other: Place) -> bool:
    return (one.covered, one.facts.not_after) > (other.covered, other.facts.not_after)


def _by_themselves(proven: list[tuple[Certificate, CertificateInfo]]) -> list[tuple[str, ...]]:
    """Return each certificate's own names, its title first, if that is one of them."""
    wanted: dict[str, tuple[str, ...]] = {}
    for one, facts in proven:
        if facts.names:
            first = one.title if one.title in facts.names else facts.names[0]
            wanted.setdefault(first, (first, *(name for name in facts.names if name != first)))
    return list(wanted.values())


def _for_on_demand(
    proven: list[tuple[Certificate, CertificateInfo]],
    sites: tuple[Site, ...],
    on_demand: Callable[[str], bool],
) -> list[tuple[str, ...]]:
    """Return the names that may have a certificate on demand, each by itself."""
    taken = {name for site in sites for name in site.names}
    names = dict.fromkeys(name for _one, facts in proven for name in facts.names)
    return [(one,) for one in names if one not in taken and one[0] != "*" and on_demand(one)]


def _why_not(
    facts: CertificateInfo,
    index: _Index,
    refused: _Index,
    refusals: Mapping[tuple[str, ...], str | None],
) -> str:
    for names in index.touched(facts.names):
        return f"another certificate covers more of {names[0]}, or lasts longer"
    for names in refused.touched(facts.names):
        return f"{names[0]}: {refusals[names]}"
    return f"no site is called {' or '.join(facts.names) or 'so'}"


def accounts(
    found: Iterable[Account], directories: frozenset[str] | None
) -> tuple[list[Account], list[Skipped]]:
    """Take one account for each CA that is used (``directories``; None: all CAs): the account that
    most certificates name."""
    taken: dict[str, Account] = {}
    left: list[Skipped] = []
    for one in sorted(found, key=lambda account: (-account.used, account.where)):
        if directories is not None and one.directory not in directories:
            left.append(Skipped(one.where, f"no site's CA is {one.directory}"))
        elif one.directory in taken:
            left.append(Skipped(one.where, f"the CA has an account: {taken[one.directory].where}"))
        else:
            taken[one.directory] = one
    return list(taken.values()), left
