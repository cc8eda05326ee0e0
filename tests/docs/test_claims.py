"""What modules say of themselves is true."""

from __future__ import annotations

import ast
import builtins
import configparser
import re
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = [
    path
    for package in ("proxy", "acme_client")
    for path in sorted((REPOSITORY / package).rglob("*.py"))
    if path.name != "__init__.py"
]
_PURE = re.compile(r"(?:^|[\s(])Pure(?:[.:;,]|$)", re.MULTILINE)


def module(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)


def contract() -> list[str]:
    """The modules that the import contract keeps from I/O."""
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / ".importlinter")
    return parser["importlinter:contract:deciders-do-no-io"]["source_modules"].split()


@pytest.mark.parametrize("path", SOURCES, ids=module)
def test_a_module_that_calls_itself_pure_is_held_to_it(path: Path) -> None:
    said = ast.get_docstring(ast.parse(path.read_text())) or ""
    if _PURE.search(said):
        name = module(path)
        assert any(name == one or name.startswith(f"{one}.") for one in contract())


# Words in backticks that are other people's: hosts, programs, packages, keys of other programs.
_OF_OTHERS = frozenset(
    [
        "josepy",
        "localhost_14000",
        "co.uk",
        "entryPoints",
        "entry_points",
        "ns.example.org",
        "docs",
        "pgrep",
        "unrecognized_name",
        "ProxyPass",
        "A2592000",
    ]
)
_NAME = re.compile(r"[A-Za-z_][\w.]*(?:\(\))?")


def known_words() -> set[str]:
    """Every name that the source defines, uses or spells in a short text."""
    known = set(dir(builtins)) | set(sys.stdlib_module_names)
    for path in [*SOURCES, *REPOSITORY.glob("*/__init__.py"), *REPOSITORY.glob("*/*/__init__.py")]:
        known.update(path.relative_to(REPOSITORY).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Name(name) | ast.Attribute(attr=name) | ast.arg(name):
                    known.add(name)
                case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
                    known.add(name)
                case ast.keyword(str() as name):
                    known.add(name)
                case ast.alias(name):
                    known.update(name.split("."))
                case ast.Constant(str() | bytes() as value) if len(value) < 60:
                    text = value if isinstance(value, str) else value.decode("latin-1")
                    known.update(re.findall(r"[A-Za-z_]\w*", text))
    return known


def test_every_name_in_the_backticks_of_a_docstring_is_there() -> None:
    known, unknown = known_words(), []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(
                node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
            ):
                continue
            for quoted in re.findall(r"`{1,2}([^`\n]+)`{1,2}", ast.get_docstring(node) or ""):
                if _NAME.fullmatch(quoted) and quoted not in _OF_OTHERS:
                    parts = quoted.removesuffix("()").rstrip(".").split(".")
                    if not known.issuperset(parts):
                        unknown.append(f"{module(path)}: {quoted}")
    assert not unknown
