"""The JSON Schema for editors, from the same definitions that read the configuration.

    python -m proxy.config.json_schema > config/schema.json

It knows keys, kinds, bounds of numbers and defaults; what keys mean together only ``check`` knows.
Defaults stand in it as people write them, and not as the program keeps them.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ..model import Address
from ..syntax.addresses import spell_address
from ..syntax.kinds import DURATION, SIZE
from ..syntax.units import spell_duration, spell_size
from .document import Document


def json_schema() -> str:
    schema = Document.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        for prop in section.get("properties", {}).values():
            _spell_default(prop)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _spell_default(prop: dict[str, Any]) -> None:
    default = prop.get("default")
    pattern = prop.get("pattern", "")
    match default:
        case _ if "$ref" in prop:
            prop.pop("default", None)  # a section's defaults are those of its keys
        case float() if pattern == DURATION:
            prop["default"] = spell_duration(default)
        case _ if "default" in prop and pattern.startswith(SIZE):
            prop["default"] = "unlimited" if default is None else spell_size(default)
        case [{"host": _, "port": _}, *_]:
            prop["default"] = [spell_address(Address(**each)) for each in default]
        case {"kind": kind, "name": _}:  # a `model.HashKey`
            prop["default"] = kind
        case {"share": share}:  # a `model.Runway`
            prop["default"] = f"{share:.0%}"
        case None:
            prop.pop("default", None)  # leaving the key out is not a value to suggest


if __name__ == "__main__":
    sys.stdout.write(json_schema())
