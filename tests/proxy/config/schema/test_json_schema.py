"""The schema for editors: current, and of one mind with the program about what may be written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.config.schema.json_schema import json_schema

CONFIG = Path(__file__).resolve().parents[4] / "config"
SCHEMA = json.loads(json_schema())
FILES = [
    CONFIG / "reference.yaml",
    CONFIG / "demo/demo.yaml",
    *(CONFIG / "examples").glob("*.yaml"),
]
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """As much of JSON Schema (draft 2020-12) as ours uses; another keyword fails the test."""
    for keyword, said in schema.items():
        match keyword:
            case "$ref":
                good = fits(value, SCHEMA["$defs"][said.rpartition("/")[2]])
            case "anyOf":
                good = any(fits(value, one) for one in said)
            case "type":
                kinds = said if isinstance(said, list) else [said]
                good = any(isinstance(value, TYPES[kind]) for kind in kinds) and (
                    not isinstance(value, bool) or "boolean" in kinds
                )
            case "enum":
                good = value in said
            case "const":
                good = value == said
            case "pattern":
                good = not isinstance(value, str) or re.search(said, value) is not None
            case "minimum":
                good = not isinstance(value, int) or value >= said
            case "maximum":
                good = not isinstance(value, int) or value <= said
            case "items":
                good = not isinstance(value, list) or all(fits(one, said) for one in value)
            case "required" | "properties" | "additionalProperties" if not isinstance(value, dict):
                continue
            case "required":
                good = set(said) <= set(value)
            case "properties":
                good = all(fits(value[key], each) for key, each in said.items() if key in value)
            case "additionalProperties":
                good = said is not False or set(value) <= set(schema["properties"])
            case "title" | "description" | "default" | "examples" | "format" | "$defs" | "$schema":
                continue
            case "deprecated":  # of an old name, which is still taken
                continue
            case _:
                raise AssertionError(f"{keyword} is not looked at")
        if not good:
            return False
    return True


def test_the_file_in_the_repository_is_current():
    assert (CONFIG / "schema.json").read_text() == json_schema(), (
        "run: python -m proxy.config.schema.json_schema > config/schema.json"
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_editors_take_what_the_program_takes(path):
    assert fits(yaml.safe_load(path.read_text()), SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        "wokers: 1",
        "acme: {directry: x}",
        "acme: {key_type: dsa}",
        "acme: {challenges: [dns-02]}",
        "acme: {dns: {sever: 192.0.2.1}}",
        "acme: {dns: {server: 192.0.2.1, tsig: {name: k}}}",
        "limits: {header_timeout: soon}",
        "limits: {header_size: 1TB}",
        "limits: {header_count: 1}",
        "fast_lane: maybe",
        "sites: {names: a.test}",
        "sites: [{root: x}]",
        "sites: [{names: a.test, status: 200}]",
        "sites: [{names: a.test, routes: [{root: x}]}]",
        "sites: [{names: a.test, backend: {weight: 1}}]",
    ],
)
def test_editors_mark_what_the_program_refuses(text, told):
    assert not fits(yaml.safe_load(text), SCHEMA)
    assert told(text)


def properties(section: dict[str, Any]):
    yield from section.get("properties", {}).items()


def test_every_key_says_what_it_is_for():
    for section in (SCHEMA, *SCHEMA["$defs"].values()):
        for key, prop in properties(section):
            assert prop.get("description", "").endswith("."), key


def test_every_default_is_spelt_as_it_could_be_written():
    for section in (SCHEMA, *SCHEMA["$defs"].values()):
        for key, prop in properties(section):
            if "default" in prop:
                assert fits(prop["default"], prop), key
