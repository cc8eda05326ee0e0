"""A site that says the same as before is the same object; one that has moved or changed is not."""

from __future__ import annotations

import os
from pathlib import Path

from proxy.config.load import Options, load
from proxy.config.model import Config
from proxy.config.unchanged import difference, whole

SITES = """state: {folder}/state
admin: {{listen: "127.0.0.1:2020", names: [admin.example]}}
{more}
sites:
  - names: [a.example]
    root: /usr/share
  - names: [b.example]
    routes:
      - {{path: /x, respond: {{status: 200, body: {body}}}}}
      - {{path: /*, root: /usr/share}}
{last}
"""


def configured(folder: Path, body: str = "x", more: str = "", last: str = "") -> Config:
    file = folder / "config.yaml"
    file.write_text(SITES.format(folder=folder, body=body, more=more, last=last))
    return load(Options(config=file), now_uid=os.getuid())


def shared(present: Config, wanted: Config) -> Config:
    return whole(present, difference(present, wanted))


def same(present: Config, wanted: Config) -> list[bool]:
    made = shared(present, wanted)
    assert made == wanted
    known = {id(one) for one in present.sites}
    for one, other in zip(made.sites, wanted.sites, strict=True):
        assert one.origins == other.origins
        assert [r.origins for r in one.routes] == [r.origins for r in other.routes]
    return [id(one) in known for one in made.sites]


def test_what_says_the_same_is_the_same_object(tmp_path: Path) -> None:
    present = configured(tmp_path)
    assert same(present, configured(tmp_path)) == [True, True, True]
    assert shared(present, configured(tmp_path)).admin_site is present.admin_site


def test_what_has_changed_is_another(tmp_path: Path) -> None:
    present = configured(tmp_path)
    assert same(present, configured(tmp_path, body="y")) == [True, False, True]
    added = "  - {names: [c.example], root: /usr/share}"
    assert same(present, configured(tmp_path, last=added)) == [True, True, False, True]


def test_a_rule_for_all_sites_changes_all_but_the_admin_page(tmp_path: Path) -> None:
    wanted = configured(tmp_path, more="deny: [192.0.2.1]")
    assert same(configured(tmp_path, more="# nothing"), wanted) == [False, False, True]


def test_what_stands_in_another_line_is_another_for_messages_name_it(tmp_path: Path) -> None:
    wanted = configured(tmp_path, more="# a comment\n# of two lines")
    assert same(configured(tmp_path, more="# nothing"), wanted) == [False, False, True]
