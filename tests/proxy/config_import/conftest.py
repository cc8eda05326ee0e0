"""From a configuration of another program to the tree of words of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.config_import.draft import Draft
from proxy.config_import.proofreading import proofread, refused
from proxy.config_import.readers import read


@dataclass
class Made:
    """``text`` is what was written, ``tree`` what YAML reads in it, ``left`` what was left out."""

    text: str
    tree: dict[str, Any]
    left: list[str]
    draft: Draft

    def site(self, name: str) -> dict[str, Any]:
        return next(one for one in self.tree["sites"] if name in one["names"])

    def routes(self, name: str = "a.test") -> dict[str, dict[str, Any]]:
        """Return the routes of a site by their paths; a site without routes is one for all."""
        site = self.site(name)
        if "routes" not in site:
            return {"/*": {key: value for key, value in site.items() if key != "names"}}
        return {one.pop("path"): one for one in site["routes"]}

    def route(self, path: str, name: str = "a.test") -> dict[str, Any]:
        return next(one for one in self.site(name)["routes"] if one["path"] == path)


Import = Callable[..., Made]


@pytest.fixture
def imported(tmp_path: Path) -> Import:
    """Import a text that stands in a file of this name; ``more`` are files beside it."""

    def run(program: str, text: str, name: str = "main.conf", **more: str) -> Made:
        for other, content in more.items():
            path = tmp_path / other.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        (tmp_path / name).write_text(text)
        draft = read(program, str(tmp_path / name))
        written = str(proofread(draft))
        assert not draft.sites or not refused(written)
        left = [str(one).removeprefix(f"{tmp_path}/") for one in draft.all_left()]
        return Made(written, yaml.safe_load(written), left, draft)

    return run
