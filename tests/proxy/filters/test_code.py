"""Sources of filters are gathered from the folder, and nothing else is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from proxy.filters.code import CannotLoad, FilterCode, FilterName

FILES = {
    "top.py": "import json\nimport beside\nfrom pack import inner\nfrom pack.deep import thing\n",
    "beside.py": "import requests.sessions\n",
    "pack/__init__.py": "from . import sibling\n",
    "pack/inner.py": "from .deep import other\nfrom .. import nothing\n",
    "pack/sibling.py": "",
    "pack/deep/__init__.py": "",
    "pack/deep/thing.py": "def f():\n    import late\n",
    "pack/deep/other.py": "",
    "late.py": "",
    "unused.py": "",
    "json.py": "raise ValueError('not the library')\n",
    "space/mod.py": "class A: pass\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def gathered(folder: Path, module: str) -> FilterCode:
    code = FilterCode()
    code.gather(FilterName(module, "A", folder))
    return code


def test_what_a_module_imports_of_its_neighbours_comes_along(folder: Path) -> None:
    code = gathered(folder, "top")
    assert set(code.sources) == {
        "top", "beside", "pack", "pack.inner", "pack.sibling", "pack.deep", "pack.deep.thing",
        "pack.deep.other", "late",
    }  # fmt: skip
    assert {"json", "requests.sessions"} <= code.imports
    assert {path.name for path in code.files} >= {"top.py", "late.py"}


def test_a_folder_without_an_init_is_a_namespace(folder: Path) -> None:
    assert set(gathered(folder, "space.mod").sources) == {"space", "space.mod"}


def test_what_is_not_there_is_left_to_python(folder: Path) -> None:
    code = gathered(folder, "elsewhere.module")
    assert (code.sources, code.imports) == ({}, {"elsewhere.module"})


@pytest.mark.parametrize(
    ("text", "why"),
    [("x = (", "top.py:1"), ("\0", "."), ("x" * 2_000_000, "more than"), ("(" * 500, ".")],
)
def test_what_is_no_python_is_refused(folder: Path, text: str, why: str) -> None:
    (folder / "top.py").write_text(text)
    with pytest.raises(CannotLoad, match=why):
        gathered(folder, "top")


def test_modules_of_a_folder_are_run_as_they_were_read(folder: Path) -> None:
    """In a process of its own: what is imported stays."""
    (folder / "top.py").write_text("from pack.deep.thing import f\nclass A:\n request = f\n")
    script = f"""
import pathlib, shutil, sys
from proxy.filters.code import FilterCode, FilterName
name = FilterName("top", "A", pathlib.Path({str(folder)!r}))
code = FilterCode()
code.gather(name)
shutil.rmtree({str(folder)!r})
code.install()
found = code.load(name, "{{}}")
print(type(found).__module__, sys.modules["pack.deep.thing"].__file__)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["top", f"{folder}/pack/deep/thing.py"], done.stderr
