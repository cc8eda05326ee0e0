"""The JSON Schema for editors, from the same definitions that read the configuration.

    python -m proxy.config.schema.json_schema > config/schema.json

It knows keys, kinds, bounds of numbers and defaults; what keys mean together only ``check`` knows.
Defaults are spelt as people write them, and not as the program keeps them.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import TypeAdapter

from ..syntax.addresses import spell_address
from ..syntax.kinds import DURATION, SIZE, Section
from ..syntax.units import spell_duration, spell_size
from ..values import Address
from .alerts import Alerts
from .document import Document, OnDemand, Site
from .rules import Breaker
from .site import Route, Serving


def json_schema() -> str:
    schema = TypeAdapter(Document).json_schema()
    for section in (schema, *schema["$defs"].values()):
        for prop in section.get("properties", {}).values():
            _spell_default(prop)
    for owner in (Breaker, Serving, Alerts, OnDemand, Document, Site, Route):
        _add_old_names(owner, schema if owner is Document else schema["$defs"].get(owner.__name__))
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


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
