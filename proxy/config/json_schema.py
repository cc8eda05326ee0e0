"""The JSON Schema for editors, from the same definitions that read the configuration.

    python -m proxy.config.json_schema > config/schema.json

It knows keys, kinds, bounds of numbers and defaults; what keys mean together only ``check`` knows.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from .kinds import DURATION, SIZE
from .schema import Document
from .units import spell_duration, spell_size


def json_schema() -> str:
    """Durations and sizes are spelt as people write them."""
    schema = Document.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        for prop in section.get("properties", {}).values():
            _spell_default(prop)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _spell_default(prop: dict[str, Any]) -> None:
    default = prop.get("default")
    pattern = prop.get("pattern", "")
    if pattern == DURATION and isinstance(default, float):
        prop["default"] = spell_duration(default)
    elif pattern.startswith(SIZE) and "default" in prop:
        prop["default"] = "unlimited" if default is None else spell_size(default)


if __name__ == "__main__":
    sys.stdout.write(json_schema())
