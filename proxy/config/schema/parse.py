"""Turns a tree of words into typed sections, and keeps whatever is sound.

A section with a fault is left out and the rest is still read, so that one slip does not hide the
others; `Parsed.broken` says what is missing, because a later check must not complain about it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path as FilePath
from typing import Any, get_args

from acme_client.late_dataclass import dataclass

from ..syntax.faults import Fault, Origins, Path, Wrong, nearest, slip_of
from ..syntax.names import parse_name
from ..syntax.sections import Section, Slip
from . import synonyms
from .document import Document, Site
from .inherit import NOTHING_GIVEN, Inherited, innermost, says_rules
from .rules import Rules
from .site import Route, Serving


@dataclass(frozen=True, slots=True)
class Parsed:
    """``document.sites`` is empty: ``sites`` holds the sound ones with their place in the list.

    ``broken`` are the names of top-level keys with a fault in them, "sites" among them. ``notices``
    are no faults: keys that have another name by now.
    """

    document: Document
    sites: tuple[tuple[int, Site], ...]
    broken: frozenset[str]
    origins: Origins
    notices: tuple[Fault, ...] = ()
    _holding: dict[tuple[Path, ...], Inherited] = dataclasses.field(
        default_factory=dict, compare=False, repr=False
    )

    def holding(self, *levels: tuple[Path, Rules]) -> Inherited:
        """Return what holds at the last of these levels, which are given from the outermost below
        the top of the document on. Where the same of them say anything, it is the same object: of
        thousands of sites few have rules of their own, and each is asked about several times."""
        saying = [one for one in (((), self.document), *levels) if says_rules(one[1])]
        if not saying:
            return NOTHING_GIVEN
        where = tuple(path for path, _level in saying)
        found = self._holding.get(where)
        if found is None:
            found = self._holding[where] = innermost(*saying)
        return found

    def levels(self) -> Iterator[tuple[Path, Rules]]:
        """Yield every place where a rule may stand, from the top of the document on."""
        yield (), self.document
        yield from self.servings()

    def servings(self) -> Iterator[tuple[Path, Serving]]:
        """Yield every sound site, each followed by its routes."""
        for index, site in self.sites:
            yield from servings(site, ("sites", index))


def servings(site: Site, at: Path) -> Iterator[tuple[Path, Serving]]:
    """Yield a site, which stands at a place, and its routes."""
    yield at, site
    for number, route in enumerate(site.routes):
        yield (*at, "routes", number), route


def validate(
    tree: dict[str, Any],
    origins: Origins,
    broken_before: Iterable[str] = (),
    base: FilePath | None = None,
) -> tuple[Parsed, list[Fault]]:
    """Return what is sound, and all faults. ``broken_before`` are keys with a fault that has been
    told already; ``base`` is the folder that relative paths start from."""
    faults: list[Fault] = []
    notices: list[Fault] = []
    broken = set(broken_before)
    folder = base or FilePath()
    rest = present_names(tree, Document, (), origins, notices, faults)
    broken |= {str(fault.key).partition(".")[0].partition("[")[0] for fault in faults}
    raw_sites = rest.pop("sites", None)
    sites = []
    before = len(faults)
    if raw_sites is not None and not isinstance(raw_sites, list):
        faults.append(origins.fault(("sites",), "a list belongs here", _LIST_OF_SITES))
    elif raw_sites:
        for index, raw in enumerate(raw_sites):
            slips: list[Slip] = []
            site = Site.read(raw, folder, ("sites", index), slips)
            if slips:
                faults += _faults(slips, Site, 2, origins)
            else:
                sites.append((index, site))
    if len(faults) > before:
        broken.add("sites")
    slips = []
    document = Document.read(rest, folder, (), slips)
    if slips:
        faults += _faults(slips, Document, 0, origins)
        broken |= {str(one.path[0]) for one in slips}
        sound = {key: value for key, value in rest.items() if key not in broken}
        document = Document.read(sound, folder, (), [])
    return Parsed(document, tuple(sites), frozenset(broken), origins, tuple(notices)), faults


def present_names(
    tree: dict[str, Any],
    section: type[Section],
    path: Path,
    origins: Origins,
    notices: list[Fault],
    faults: list[Fault],
) -> dict[str, Any]:
    """Return the tree with the present name of each key that has an old one; add a notice for
    each."""
    made: dict[str, Any] = {}
    known = section.known_keys()
    for key, value in tree.items():
        new = section.renamed.get(key, key)
        if new != key:
            if tree.get(new) is not None:
                what = f"this is the old name of {new}, which stands here too"
                faults.append(origins.fault_of_key((*path, key), what, f"keep {new}"))
                continue
            told = origins.fault_of_key((*path, key), f"this key is called {new} now", "rename it")
            notices.append(told)
            origins.rename((*path, key), new)
        inner = subsection(known[new].annotation) if new in known else None
        at = (*path, new)
        if inner is not None and isinstance(value, dict):
            value = present_names(value, inner, at, origins, notices, faults)
        elif inner is not None and isinstance(value, list):
            value = [
                present_names(one, inner, (*at, number), origins, notices, faults)
                if isinstance(one, dict)
                else one
                for number, one in enumerate(value)
            ]
        made[new] = value
    return made


_LIST_OF_SITES = "begin each with a dash, like - names: [example.org]"


def _faults(
    slips: Sequence[Slip], section: type[Section], start: int, origins: Origins
) -> Iterator[Fault]:
    """Tell what is wrong in a section; ``start`` is the length of the path to it."""
    unknown = [one.path[start:] for one in slips if one.wrong == "unknown"]
    for path, wrong in slips:
        within = path[start:]
        match wrong:
            case "unknown":
                yield origins.fault_of_key(
                    path,
                    "this key is not known",
                    _remedy(str(path[-1]), _section_at(section, within)),
                )
            case "missing":
                if any(_stands_for(other, within, section) for other in unknown):
                    continue  # the remedy there is the same
                described = _section_at(section, within).known_keys()[str(path[-1])].description
                yield origins.fault_of_key(path, "this key is missing", f"add it: {described}")
            case _:
                yield origins.fault(path, wrong.what, wrong.remedy)


def _stands_for(unknown: Path, missing: Path, section: type[Section]) -> bool:
    """Whether an unknown key beside a missing one is another word for it."""
    if unknown[:-1] != missing[:-1]:
        return False
    remedy = _remedy(str(unknown[-1]), _section_at(section, unknown))
    return f"{missing[-1]}:" in remedy or f"mean {missing[-1]}?" in remedy


def _section_at(section: type[Section], loc: Path) -> type[Section]:
    """Return the section that holds the key at the end of ``loc``."""
    for step in loc[:-1]:
        if isinstance(step, str):
            section = subsection(section.known_keys()[step].annotation) or section
    return section


def subsection(annotation: Any) -> type[Section] | None:
    """Return the section inside ``Section | None``, ``Many[Section]`` and the like."""
    return _subsection(annotation)


@cache
def _subsection(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    found = (_subsection(inner) for inner in get_args(annotation))
    return next((inner for inner in found if inner), None)


def _remedy(word: str, section: type[Section]) -> str:
    """Say what to write instead of a key that is not known: the key that another program calls so,
    the key that was misspelt, the section that has this very key, or what is known here."""
    if (other := section.other_word(word)) is not None:
        return other
    if word.startswith("/"):
        return f"begin with a dash and path: - {{path: {word}, backend: http://127.0.0.1:3000}}"
    if section is Document and _is_name(word):
        return f"a site stands under sites: - names: [{word}]"
    known = sorted(section.known_keys(), key=lambda key: key in Rules.known_keys())  # its own first
    if section is not Document and word in Document.known_keys():
        return f"{word} stands at the top of the file, beside sites"
    said = synonyms.meaning(word, section is Document, _is_key)
    slip = slip_of(word, known)
    meant = said or (slip and f"did you mean {slip}?")
    elsewhere = _of_a_section(word, section)
    if section in (Site, Route):
        return meant or elsewhere or _of_sites(word) or nearest(word, known)
    if section is not Document:
        return elsewhere or meant or nearest(word, known)
    return elsewhere or meant or _of_sites(word) or nearest(word, known)


def _is_name(word: str) -> bool:
    try:
        return "." in parse_name(word)
    except Wrong:
        return False


def _is_key(path: str) -> bool:
    """Whether a path of keys like ``acme.email`` leads to one, from the top, a site or a route."""
    return any(_leads(start, path.split(".")) for start in (Document, Site, Route))


def _leads(section: type[Section] | None, steps: list[str]) -> bool:
    for number, step in enumerate(steps):
        if section is None or step not in section.known_keys():
            return False
        if number < len(steps) - 1:
            section = subsection(section.known_keys()[step].annotation)
    return True


def _of_a_section(word: str, here: type[Section]) -> str | None:
    """Say which section at the top has this very key; not of http and https, which mean more."""
    tops = {subsection(one.annotation) for one in Document.known_keys().values()} - {Site}
    beside = "" if here in tops | {Document} else " at the top of the file, beside sites"
    for owner, field in Document.known_keys().items():
        inner = subsection(field.annotation)
        elsewhere = inner is not None and inner is not here and word in inner.known_keys()
        if elsewhere and owner not in ("sites", "listen"):
            return f"it belongs under {owner}{beside}"
    return None


def _of_sites(word: str) -> str | None:
    """Say where else this very key stands."""
    if word in Site.known_keys():
        return f"{word} belongs to a site: indent it below an entry of sites"
    for name, field in Site.known_keys().items():
        inner = subsection(field.annotation)
        if inner is not None and name != "routes" and word in inner.known_keys():
            return f"it belongs under {name}, at a site"
    return None
