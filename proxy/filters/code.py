"""The source of filters: gathered while it can be read, run in the worker alone.

A filter is named by its module and class. The module lies in the folder of the configuration, or is
installed where Python finds it. Of the folder, sources are gathered when the configuration is read:
the module that is named, and what it imports of its neighbours. Root does no more than that: it
reads text and parses it. Code of filters never runs as root, and never in the supervisor.

Whoever loads a filter (a worker before it is confined; a child of ``check``) takes the modules of
the folder out of what was gathered. So all workers of a generation have the same code, also one
that is started later, and a changed file is in force after a reload: its workers have imported
nothing before.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import json
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from pathlib import Path
from types import CodeType, ModuleType

from acme_client.late_dataclass import dataclass

# Not to be replaced by what lies in a folder.
_NOT_FROM_FOLDERS = frozenset({*sys.stdlib_module_names, "proxy", "acme_client"})
_LARGEST_SOURCE = 1024 * 1024
_MOST_MODULES = 500


class CannotLoad(Exception):
    """A filter cannot be had; the text says why, in one line."""


@dataclass(frozen=True, slots=True)
class FilterName:
    """``module`` and ``name`` of a filter, and the folder in which its module is looked for
    first."""

    module: str
    name: str
    folder: Path

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


@dataclass(frozen=True, slots=True)
class Source:
    """A module of a folder. ``package``: it may have modules below it."""

    module: str
    path: str
    text: bytes
    package: bool


@dataclass(slots=True)
class FilterCode:
    """``sources`` by the names of their modules. ``imports`` are the modules that these import from
    elsewhere."""

    sources: dict[str, Source] = field(default_factory=dict)
    imports: set[str] = field(default_factory=set)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that have been read."""
        return tuple(Path(one.path) for one in self.sources.values() if one.path.endswith(".py"))

    def gather(self, name: FilterName) -> None:
        """Add the sources of a filter. Raises `CannotLoad` for a file that cannot be read, or is no
        Python."""
        waiting = [name.module]
        while waiting:
            module = waiting.pop()
            if module in self.sources or module.partition(".")[0] in _NOT_FROM_FOLDERS:
                self._note(module)
                continue
            found = _found(name.folder, module)
            if not found:
                self._note(module)
                continue
            for source in found:
                present = self.sources.get(source.module)
                if present is not None and present.path != source.path:
                    raise CannotLoad(
                        f"{present.path} and {source.path} are both called {source.module}"
                    )
                if present is None:
                    self.sources[source.module] = source
                    waiting += _imported(source)
            if len(self.sources) > _MOST_MODULES:
                raise CannotLoad(f"{name.module} imports more than {_MOST_MODULES} modules")

    def _note(self, module: str) -> None:
        if module not in self.sources:
            self.imports.add(module)

    def import_installed(self) -> None:
        """Import what filters import of the interpreter's library and of installed packages, which
        are root's own as this program is: root may do so, where nobody else could read them. What
        is not found, or lies somewhere else, is left to the filter."""
        for name in sorted(self.imports):
            # It may be the name of something in a module.
            with contextlib.suppress(Exception):
                spec = importlib.util.find_spec(name.partition(".")[0])
                if spec is not None and _is_installed(spec.origin or ""):
                    importlib.import_module(name)

    def install(self) -> None:
        """Let this process import the sources."""
        if self.sources:
            sys.meta_path.insert(0, _Finder(self.sources))

    def load(self, name: FilterName, arguments: str) -> object:
        """A new filter. ``arguments`` are by name, in JSON. Raises `CannotLoad`; everything that
        the filter's code raises has become one."""
        try:
            module = importlib.import_module(name.module)
        except BaseException as error:  # code of users may raise SystemExit, too
            raise CannotLoad(told(error)) from None
        made = getattr(module, name.name, None)
        if made is None:
            raise CannotLoad(f"the module {name.module} has no {name.name}")
        if not inspect.isclass(made):
            raise CannotLoad(f"{name} is no class")
        try:
            found: object = made(**json.loads(arguments))
        except BaseException as error:  # code of users may raise SystemExit, too
            raise CannotLoad(told(error)) from None
        hooks = [getattr(found, hook, None) for hook in ("request", "response")]
        if not any(hooks):
            raise CannotLoad(f"{name} has neither a method request nor a method response")
        if not all(hook is None or callable(hook) for hook in hooks):
            raise CannotLoad(f"request and response of {name} must be methods")
        return found


def told(error: BaseException) -> str:
    """What was raised, in one line, with the place where it was."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {error.msg}"
    text = str(error).strip().split("\n")[0][:300]
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    frames = [
        one
        for one in traceback.extract_tb(error.__traceback__)
        if not one.filename.startswith(("<frozen", _HERE))
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}: {said}" if frames else said


def _is_installed(origin: str) -> bool:
    prefixes = {os.path.realpath(one) + os.sep for one in (sys.prefix, sys.base_prefix)}
    return origin in ("built-in", "frozen") or os.path.realpath(origin).startswith(tuple(prefixes))


_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def _found(folder: Path, module: str) -> list[Source]:
    """The sources of a module and of the packages above it; none where it is not in the folder.
    Raises `CannotLoad`."""
    parts = module.split(".")
    found = []
    at = folder
    for count, part in enumerate(parts, 1):
        name = ".".join(parts[:count])
        package, plain = at / part / "__init__.py", at / f"{part}.py"
        if package.is_file():
            found.append(Source(name, str(package), _read(package), True))
        elif plain.is_file():
            found.append(Source(name, str(plain), _read(plain), False))
            if count < len(parts):
                return []
        elif (at / part).is_dir():  # a namespace (PEP 420)
            found.append(Source(name, str(at / part), b"", True))
        else:
            return []
        at = at / part
    # Any folder of that name would be a namespace; alone it says nothing.
    return found if found[-1].path.endswith(".py") or len(found) > 1 else []


def _read(path: Path) -> bytes:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise CannotLoad(f"{path} cannot be read: {error.strerror}") from None
    if len(text) > _LARGEST_SOURCE:
        raise CannotLoad(f"{path} has more than {_LARGEST_SOURCE} bytes")
    return text


def _imported(source: Source) -> Iterator[str]:
    """The modules that a source imports, wherever in it. Raises `CannotLoad`."""
    try:
        tree = ast.parse(source.text, source.path)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CannotLoad(told(error) if isinstance(error, SyntaxError) else str(error)) from None
    package = source.module if source.package else source.module.rpartition(".")[0]
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                yield from (one.name for one in names)
            case ast.ImportFrom(module, names, level):
                above = package.split(".")[: len(package.split(".")) - (level or 1) + 1]
                base = ".".join([*(above if level else []), *([module] if module else [])])
                if base:
                    yield base
                    yield from (f"{base}.{one.name}" for one in names if one.name != "*")


# Finder and loader as the import system asks for them. Those of `importlib.abc`, from which they
# could be derived, bring along all that reads packages' data.


class _Finder:
    def __init__(self, sources: dict[str, Source]) -> None:
        self._sources = sources

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        source = self._sources.get(fullname)
        if source is None:
            return None
        spec = importlib.machinery.ModuleSpec(
            fullname,
            _Loader(source),  # type: ignore[arg-type] # it has what a loader is asked for since PEP 451
            origin=source.path,
            is_package=source.package,
        )
        spec.has_location = True
        return spec


class _Loader:
    def __init__(self, source: Source) -> None:
        self._source = source

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Have the import system make the module as usual."""

    def get_source(self, fullname: str) -> str:
        return self._source.text.decode("utf-8", "replace")

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source.text, self._source.path, "exec", dont_inherit=True)

    def is_package(self, fullname: str) -> bool:
        return self._source.package

    def exec_module(self, module: ModuleType) -> None:
        exec(self.get_code(module.__name__), module.__dict__)  # noqa: S102 - that is what it is for


def gathered(names: Iterable[FilterName]) -> FilterCode:
    """The code of all these filters. Raises `CannotLoad`."""
    code = FilterCode()
    for name in names:
        code.gather(name)
    return code
