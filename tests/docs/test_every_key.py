"""Every key of the configuration stands in the reference, in the schema for editors and in the cookbook.

That ``explain`` tells of each which line decided is `tests/proxy/explain/test_settings.py`, and that
``plan`` shows each change `tests/proxy/supervisor/reload/test_plan.py`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.config.schema.document import Document, Site
from proxy.config.schema.parse import subsection
from proxy.config.schema.site import Route
from proxy.config.syntax.sections import Section
from support import cookbook

REPOSITORY = Path(__file__).resolve().parents[2]
REFERENCE = (REPOSITORY / "config/reference.yaml").read_text()
SCHEMA = json.loads((REPOSITORY / "config/schema.json").read_text())


def keys_of(section: type[Section], prefix: str = "") -> Iterator[str]:
    for name, field in section.known_keys().items():
        yield prefix + name
        below = subsection(field.annotation)
        if below is not None and below not in (Site, Route):
            yield from keys_of(below, f"{prefix}{name}.")


KEYS = sorted({*keys_of(Document), *keys_of(Site), *keys_of(Route)})


def properties(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "properties" and isinstance(value, dict):
                yield from value
            yield from properties(value)
    elif isinstance(node, list):
        for one in node:
            yield from properties(one)


IN_SCHEMA = set(properties(SCHEMA))


def stands_in(text: str, name: str) -> bool:
    """As a key of YAML, or between backticks."""
    return bool(
        re.search(
            rf"(?:^|[\s{{\[,`.(-]){re.escape(name)}(?:_file)?:(?:[\s\[{{]|$)", text, re.MULTILINE
        )
        or re.search(rf"`[^`\n]*\b{re.escape(name)}\b[^`\n]*`", text)
    )


def test_the_keys_are_found() -> None:
    assert len(KEYS) > 250
    assert "acme.dns.provider" in KEYS
    assert not stands_in("a word like via here", "via")


@pytest.mark.parametrize("key", KEYS)
def test_every_key_has_its_places(key: str) -> None:
    name = key.rpartition(".")[2]
    assert name in IN_SCHEMA
    assert stands_in(REFERENCE, name), f"{key} is missing in config/reference.yaml"
    assert stands_in(cookbook.TEXT, name), f"{key} is missing in docs/cookbook/"
