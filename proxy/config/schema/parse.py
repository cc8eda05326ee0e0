"""From a tree of words to typed sections, keeping whatever is sound.

A section with a fault is left out and the rest is still read, so that one slip does not hide the
others; `Parsed.broken` says what is missing, because a later check must not complain about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ..syntax.faults import Fault, Origins, Path, Wrong, nearest, shown, slip_of
from ..syntax.kinds import Section
from . import synonyms
from .document import Document, Site
from .site import Route


@dataclass(frozen=True, slots=True)
class Parsed:
    """``document.sites`` is empty: ``sites`` holds the sound ones with their place in the list.

    ``broken`` are the names of top-level keys with a fault in them, "sites" among them.
    """

    document: Document
    sites: tuple[tuple[int, Site], ...]
    broken: frozenset[str]
    origins: Origins


def validate(
    tree: dict[str, Any], origins: Origins, broken_before: Iterable[str] = ()
) -> tuple[Parsed, list[Fault]]:
    """``broken_before`` are keys with a fault that has been told already."""
    faults: list[Fault] = []
    broken = set(broken_before)
    rest = dict(tree)
    raw_sites = rest.pop("sites", None)
    sites = []
    if raw_sites is not None and not isinstance(raw_sites, list):
        faults.append(origins.fault(("sites",), "a list belongs here", _LIST_OF_SITES))
    elif raw_sites:
        for index, raw in enumerate(raw_sites):
            try:
                sites.append((index, Site.model_validate({} if raw is None else raw)))
            except ValidationError as error:
                faults += _faults(error, Site, ("sites", index), origins)
    if faults:
        broken.add("sites")
    try:
        document = Document.model_validate(rest)
    except ValidationError as error:
        faults += _faults(error, Document, (), origins)
        broken |= {str(each["loc"][0]) for each in error.errors(include_url=False)}
        document = Document.model_validate({k: v for k, v in rest.items() if k not in broken})
    return Parsed(document, tuple(sites), frozenset(broken), origins), faults


_NO_LIST = ("a list belongs here", "begin each entry with a dash")
_LIST_OF_SITES = "begin each with a dash, like - names: [example.org]"


def _faults(
    error: ValidationError, section: type[Section], prefix: Path, origins: Origins
) -> Iterator[Fault]:
    for each in error.errors(include_url=False):
        loc = each["loc"]
        path = prefix + loc
        match each["type"]:
            case "extra_forbidden":
                yield origins.fault_of_key(
                    path, "this key is not known", _remedy(str(loc[-1]), _section_at(section, loc))
                )
            case "missing":
                described = _section_at(section, loc).model_fields[str(loc[-1])].description
                yield origins.fault_of_key(path, "this key is missing", f"add it: {described}")
            case "tuple_type":
                yield origins.fault(path, *_NO_LIST)
            case _:
                yield origins.fault(path, *_said(each))


def _said(each: ErrorDetails) -> tuple[str, str]:
    error = each.get("ctx", {}).get("error")
    if isinstance(error, Wrong):
        return error.what, error.remedy
    return f"{shown(each['input'])} does not fit here: {each['msg']}", "see config/reference.yaml"


def _section_at(section: type[Section], loc: Path) -> type[Section]:
    """The section that holds the key at the end of ``loc``."""
    for step in loc[:-1]:
        if isinstance(step, str):
            section = subsection(section.model_fields[step].annotation) or section
    return section


def subsection(annotation: Any) -> type[Section] | None:
    """The section inside ``Section | None``, ``Many[Section]`` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    found = (subsection(inner) for inner in get_args(annotation))
    return next((inner for inner in found if inner), None)


def _remedy(word: str, section: type[Section]) -> str:
    """What to write instead of a key that is not known: the key that was misspelt, the key that
    another program calls so, the section that has this very key, or what is known here."""
    known = list(section.model_fields)
    if (found := slip_of(word, known)) is not None:
        return f"did you mean {found}?"
    said = synonyms.meaning(word, section is Document, _is_key)
    if section is not Document and word in Document.model_fields:
        return f"{word} stands at the top of the file, beside sites"
    if section in (Site, Route):
        return said or _of_a_section(word, section) or _of_sites(word) or nearest(word, known)
    return _of_a_section(word, section) or said or _of_sites(word) or nearest(word, known)


def _is_key(path: str) -> bool:
    """Whether a path of keys like ``acme.email`` leads to one, from the top, a site or a route."""
    return any(_leads(start, path.split(".")) for start in (Document, Site, Route))


def _leads(section: type[Section] | None, steps: list[str]) -> bool:
    for number, step in enumerate(steps):
        if section is None or step not in section.model_fields:
            return False
        if number < len(steps) - 1:
            section = subsection(section.model_fields[step].annotation)
    return True


def _of_a_section(word: str, here: type[Section]) -> str | None:
    """The section at the top that has this very key. HTTP and HTTPS are more than keys."""
    for owner, field in Document.model_fields.items():
        inner = subsection(field.annotation)
        elsewhere = inner is not None and inner is not here and word in inner.model_fields
        if elsewhere and owner not in ("sites", "listen"):
            return f"it belongs under {owner}"
    return None


def _of_sites(word: str) -> str | None:
    """Where else this very key stands."""
    if word in Site.model_fields:
        return f"{word} belongs to a site: indent it below an entry of sites"
    for name, field in Site.model_fields.items():
        inner = subsection(field.annotation)
        if inner is not None and name != "routes" and word in inner.model_fields:
            return f"it belongs under {name}, at a site"
    return None
