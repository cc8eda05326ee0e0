"""The JSON Schema for editors, from the same definitions that read the configuration.

    python -m proxy.config.schema.json_schema > config/schema.json

It knows keys, kinds, bounds of numbers and defaults; what keys mean together only ``check`` knows.
Defaults are spelt as people write them, and not as the program keeps them.
"""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from ..syntax.addresses import spell_address
from ..syntax.kinds import DURATION, SIZE
from ..syntax.sections import ONE_OR_MANY, Before, KnownKey, Reading, Section, apart
from ..syntax.units import spell_duration, spell_size
from ..values import Address
from .alerts import Alerts
from .document import Document, OnDemand, Site
from .rules import Breaker
from .site import Route, Serving


def json_schema() -> str:
    described: dict[str, Any] = {}
    whole = _section(Document, described)
    del described[Document.__name__]
    schema: dict[str, Any] = {"$defs": dict(sorted(described.items())), **whole}
    for section in (schema, *schema["$defs"].values()):
        for prop in section.get("properties", {}).values():
            _spell_default(prop)
    for owner in (Breaker, Serving, Alerts, OnDemand, Document, Site, Route):
        _add_old_names(owner, schema if owner is Document else schema["$defs"].get(owner.__name__))
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _section(section: type[Section], described: dict[str, Any]) -> dict[str, Any]:
    """Describe a section, and add each that it holds to those that are described."""
    made: dict[str, Any] = {"additionalProperties": False}
    described[section.__name__] = made
    if section.__doc__ and section.__doc__ != section.__name__:
        made["description"] = inspect.cleandoc(section.__doc__)
    known = section.known_keys()
    made["properties"] = {
        name: dict(sorted(_key(name, one, described).items())) for name, one in known.items()
    }
    required = [name for name, one in known.items() if one.required]
    return (
        made
        | ({"required": required} if required else {})
        | {"title": section.__name__, "type": "object"}
    )


def _key(name: str, key: KnownKey, described: dict[str, Any]) -> dict[str, Any]:
    made = {**_written(key.whole, described), "description": key.description}
    if not key.required:
        made["default"] = _plain(key.default)
    if not _is_section(key.whole):
        made["title"] = name.replace("_", " ").title()
    return made


def _written(annotation: Any, described: dict[str, Any]) -> dict[str, Any]:
    """Describe what may be written for an annotation."""
    inner, metadata = apart(annotation)
    for number, mark in reversed(list(enumerate(metadata))):
        if isinstance(mark, Reading):
            return dict(sorted(mark.schema.items()))
        if isinstance(mark, Before) and mark.written_as is not None:
            return _written(mark.written_as, described)
        if mark is ONE_OR_MANY:
            before = metadata[:number]
            many = _written(Annotated[inner, *before] if before else inner, described)
            return {"anyOf": [many["items"], many]}
    if get_origin(inner) in (Union, UnionType):
        kinds = [_written(one, described) for one in get_args(inner)]
        flat = [one["anyOf"] if one.keys() == {"anyOf"} else [one] for one in kinds]
        return {"anyOf": [each for one in flat for each in one]}
    if get_origin(inner) is Literal:
        (word,) = get_args(inner)
        return {"const": word, "type": "string"}
    if get_origin(inner) in (tuple, list):
        return {"items": _written(get_args(inner)[0], described), "type": "array"}
    if isinstance(inner, type) and issubclass(inner, Section):
        if inner.__name__ not in described:
            described[inner.__name__] = {}
            described[inner.__name__] = _section(inner, described)
        return {"$ref": f"#/$defs/{inner.__name__}"}
    return {"type": _TYPES[inner]}


_TYPES = {str: "string", bool: "boolean", int: "integer", NoneType: "null"}


def _is_section(annotation: Any) -> bool:
    """Whether a value is a section, or None instead of one."""
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return _is_section(get_args(annotation)[0])
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _plain(value: Any) -> Any:
    """The default of a key, in the values that JSON has."""
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _add_old_names(section: type[Section], described: dict[str, Any] | None) -> None:
    """Describe old names of keys, which are still taken, as deprecated and not as unknown."""
    if described is None:
        return
    properties = described["properties"]
    for old, new in section.renamed.items():
        told = {"description": f"The old name of {new}.", "deprecated": True}
        properties[old] = {**properties[new], **told}
        if new in described.get("required", ()):
            described["required"].remove(new)


def _spell_default(prop: dict[str, Any]) -> None:
    default = prop.get("default")
    pattern = prop.get("pattern", "")
    match default:
        case _ if "$ref" in prop:
            prop.pop("default", None)  # a section's defaults are those of its keys
        case [] | "{}" if prop.get("type") == "object":
            prop["default"] = {}  # pairs, kept as a tuple; arguments, kept as JSON
        case float() if pattern == DURATION:
            prop["default"] = spell_duration(default)
        case _ if "default" in prop and pattern.startswith(SIZE):
            prop["default"] = "unlimited" if default is None else spell_size(default)
        case float() if prop.get("type") == "string":  # a share of all
            prop["default"] = f"{default:.0%}"
        case [{"host": _, "port": _}, *_]:
            prop["default"] = [spell_address(Address(**each)) for each in default]
        case {"kind": kind, "name": _}:  # a `HashKey`
            prop["default"] = kind
        case {"share": share}:  # a `Runway`
            prop["default"] = f"{share:.0%}"
        case None:
            prop.pop("default", None)  # leaving the key out is not a value to suggest


if __name__ == "__main__":
    sys.stdout.write(json_schema())
