"""The key `use`: filters in Python, each by its module and class, with the values it is made of."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from ...filters.code import FilterName
from ..syntax.faults import Wrong, shown
from ..syntax.kinds import duration, from_folder
from ..syntax.plain_word import PlainWord
from ..syntax.sections import Before, Field, Reading, Section, alone, section

_DOTTED = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_NUMBER = re.compile(r"[-+]?(?:\d+|\d*\.\d+|\d+\.\d*)(?:[eE][-+]?\d+)?")
_WHOLE = re.compile(r"[-+]?\d+")
_DEEPEST = 16


def _parse_name(text: str, folder: Path) -> FilterName:
    found = re.fullmatch(rf"({_DOTTED}):([A-Za-z_]\w*)", text.strip(), re.ASCII)
    if found is None:
        slipped = re.fullmatch(rf"({_DOTTED})\.([A-Za-z_]\w*)", text.strip(), re.ASCII)
        meant = f"write {slipped[1]}:{slipped[2]}" if slipped else "write it like signed:SignedUrl"
        raise Wrong(f"{shown(text)} names no class in a module", meant)
    return FilterName(found[1], found[2], folder)


def typed(value: Any, depth: int = 0) -> Any:
    """A value of the YAML tree, as YAML 1.2 means it: a word without quotation marks may be a
    number, true or false."""
    if depth > _DEEPEST:
        raise Wrong("values are nested too deep", "give them in a flatter form")
    if isinstance(value, dict):
        return {key: typed(one, depth + 1) for key, one in value.items()}
    if isinstance(value, list):
        return [typed(one, depth + 1) for one in value]
    if not isinstance(value, PlainWord):
        return value
    if value in ("true", "True", "false", "False"):
        return value in ("true", "True")
    if _WHOLE.fullmatch(value) and len(value) <= 20:
        return int(value)
    return float(value) if _NUMBER.fullmatch(value) else str(value)


class _Arguments(Reading):
    """A mapping of anything, kept as JSON, which can be hashed."""

    schema: Mapping[str, Any] = {"type": "object"}

    def read(self, given: object, _base: Path) -> str:
        if not isinstance(given, dict):
            raise Wrong("a mapping of NAME: VALUE belongs here", "write with: {NAME: VALUE}")
        for name in given:
            if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
                raise Wrong(f"{shown(name)} is no name of an argument", "use letters and _")
        return json.dumps(typed(given))


@section
class FilterUse(Section):
    """A filter in Python."""

    other_words: ClassVar = dict.fromkeys(
        ("class", "module", "name", "filter"), "write use: module:Class"
    ) | dict.fromkeys(("args", "arguments", "options", "settings"), "write with: {NAME: VALUE}")

    use: Annotated[FilterName, from_folder(_parse_name)] = Field(
        description="MODULE:CLASS; the module lies beside the configuration, or is installed."
    )
    with_: Annotated[str, _Arguments()] = Field(
        default="{}", key="with", description="What the class is made of, by name."
    )
    timeout: Annotated[float, duration("10ms", "1h")] = Field(
        default=30.0, description="How long one call may wait for something; then 500."
    )

    def __repr__(self) -> str:
        return str(self.use)  # what it is made of may be secret


setattr(FilterUse, "with", property(lambda use: use.with_))


FilterEntry = Annotated[FilterUse, Before(alone("use"), written_as=str | FilterUse)]
