"""Modules as they were at the start, where an upgrade has put other files in their place."""

from __future__ import annotations

import importlib
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from proxy.system import own_code

_NUMBERS = itertools.count()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package that has been imported, with modules that have not."""
    folder = tmp_path / f"kept{next(_NUMBERS)}"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "early.py").write_text("SAID = 'before'\n")
    (folder / "late.py").write_text("from .early import SAID\nfrom .inner import deep\n")
    (folder / "inner/__init__.py").write_text("WHERE = 'before'\n")
    (folder / "inner/deep.py").write_text("from . import WHERE\nSAID = 'before, ä'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    importlib.import_module(f"{folder.name}.early")
    yield folder
    for name in [one for one in sys.modules if one.partition(".")[0] == folder.name]:
        del sys.modules[name]


def replaced(folder: Path) -> None:
    """As an installer does: another file under the name."""
    for path in folder.rglob("*.py"):
        fresh = path.with_suffix(".new")
        fresh.write_text("raise ImportError('of another version')\n")
        fresh.replace(path)
    importlib.invalidate_caches()


def late(folder: Path) -> ModuleType:
    return importlib.import_module(f"{folder.name}.late")


def removed(folder: Path) -> None:
    for path in folder.rglob("*.py"):
        path.unlink()
    importlib.invalidate_caches()


@pytest.mark.parametrize("change", [replaced, removed])
def test_what_was_there_is_loaded(package: Path, change: Callable[[Path], None]) -> None:
    own_code.keep([package.name])
    change(package)
    found = late(package)
    assert (found.SAID, found.deep.SAID, found.deep.WHERE) == ("before", "before, ä", "before")
    assert found.__file__ == str(package / "late.py")
    inner = sys.modules[f"{package.name}.inner"]
    assert list(inner.__path__) == [str(package / "inner")]


def test_without_it_they_mix(package: Path) -> None:
    replaced(package)
    with pytest.raises(ImportError, match="of another version"):
        late(package)


def test_files_that_are_as_they_were_are_loaded_as_ever(package: Path) -> None:
    own_code.keep([package.name])
    loader = late(package).__loader__
    assert not isinstance(loader, own_code.KeptCode)


def test_a_file_that_cannot_be_read_is_left_out(package: Path) -> None:
    (package / "late.py").unlink()
    os.mkfifo(package / "odd.pyi")
    (package / "late.py").symlink_to("nowhere.py")
    own_code.keep([package.name])
    with pytest.raises(ImportError):
        late(package)


def test_a_second_time_it_replaces_the_first(package: Path) -> None:
    own_code.keep([package.name])
    own_code.keep([package.name])
    assert len([one for one in sys.meta_path if isinstance(one, own_code.KeptCode)]) == 1


def test_of_this_program_it_keeps_what_children_load_and_nothing_of_the_command_line() -> None:
    importlib.import_module("acme_client")
    names = {name for name, _ in own_code._modules(("proxy", "acme_client"))}
    assert {"acme_client.agent.agent", "proxy.config.load", "proxy.alerts.messenger"} <= names
    assert not [one for one in names if one.startswith(("proxy.cli", "acme_client.importers"))]
