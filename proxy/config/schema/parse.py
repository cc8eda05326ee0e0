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

from ..syntax.faults import Fault, Origins, Path, Wrong, nearest, shown
from ..syntax.kinds import Section
from .document import Document, Site


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
        faults.append(origins.fault(("sites",), *_NO_LIST))
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
    """The nearest known key; or the section that has this very key; or what is known here."""
    remedy = nearest(word, list(section.model_fields))
    if remedy.startswith("did you mean"):
        return remedy
    for owner, field in Document.model_fields.items():
        inner = subsection(field.annotation)
        if inner is not None and inner is not section and word in inner.model_fields:
            return f"it belongs under {owner}"
    return remedy
