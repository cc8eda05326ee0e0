"""What is written is what ``check`` takes, whatever the other program's file holds."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.cli.config_import import PROGRAMS
from proxy.config.syntax.yaml_reader import parse
from proxy.config_import.draft import CannotRead, Draft, Place, Route, Site
from proxy.config_import.proofreading import proofread, refused
from proxy.config_import.readers import read
from proxy.config_import.writer import scalar, write

HERE = Place("main.conf", 1)


def draft(**keys: Any) -> tuple[Draft, Site]:
    site = Site(HERE, names=["a.test"])
    for key, value in keys.items():
        site.put(key, value, Place("main.conf", 7))
    return Draft(HERE, source="nginx", sites=[site]), site


@given(st.text())
def test_any_word_is_read_as_it_was(text: str) -> None:
    document = parse(f"key: {scalar(text)}\n", "c.yaml", {})
    read = document.value.get("key")
    # Nothing at all means "not given", and what is not a character is none.
    assert not document.faults
    assert read == text or (read is None and not text)


@given(st.text(), st.text(), st.text())
def test_no_text_of_the_other_program_becomes_a_key(word: str, why: str, file: str) -> None:
    made, site = draft(respond={"status": "404", "body": word})
    site.leave(Place(file, 1), word, why)
    site.note(Place(file, 2), why)
    read = yaml.safe_load("\n".join(write(made).lines).encode("utf-8", "replace"))
    assert set(read) == {"sites"}
    assert [set(one) for one in read["sites"]] == [{"names", "respond"}]


def test_a_key_that_check_refuses_is_left_out_and_told() -> None:
    made, site = draft(backend="http://127.0.0.1:1", balance="clever")
    text = str(proofread(made))
    assert "balance:" not in text.replace("# left out: main.conf:7: balance:", "")
    assert str(site.left[0]).startswith("main.conf:7: balance: clever: ")
    assert not refused(text)


def test_a_field_that_check_refuses_goes_alone() -> None:
    made, site = draft(backend="http://127.0.0.1:1")
    site.put_in(("headers", "set", "Content-Length"), "5", Place("main.conf", 8))
    site.put_in(("headers", "set", "X-Good"), "5", Place("main.conf", 9))
    read = yaml.safe_load(str(proofread(made)))
    assert read["sites"][0]["headers"] == {"set": {"X-Good": 5}}
    assert site.left[0].place == Place("main.conf", 8)


@pytest.mark.parametrize(
    ("key", "value"),
    [("basic_auth", {"users": {"alice": "md5"}}), ("allow", ["office"]),
     ("forward_auth", {"url": "ftp://x"}), ("tls", {"client_auth": {"mode": "require"}})],
)  # fmt: skip
def test_a_guard_that_check_refuses_closes_what_it_guarded(key: str, value: object) -> None:
    made, _site = draft(backend="http://127.0.0.1:1", **{key: value})
    read = yaml.safe_load(str(proofread(made)))
    assert read["sites"][0]["deny"] == ["0.0.0.0/0", "::/0"]
    assert made.all_left()[0].guard


def test_a_condition_that_check_refuses_takes_its_route_along() -> None:
    """Without the condition the route would take more than it should."""
    made, site = draft()
    for path, match in (("/*", None), ("/x/*", {"header": {"A": "re:a(?!b)"}})):
        route = Route(HERE, path=path)
        route.put("backend", "http://127.0.0.1:1", HERE)
        if match is not None:
            route.put("match", match, HERE)
        site.add(route)
    read = yaml.safe_load(str(proofread(made)))
    assert "routes" not in read["sites"][0]
    assert "/x/*" in str(made.all_left()[0])


def test_a_guarded_route_that_goes_leaves_its_path_closed() -> None:
    made, site = draft()
    for path in ("/*", "/x/*"):
        route = Route(HERE, path=path)
        route.put("backend", "http://127.0.0.1:1" if path == "/*" else "gopher://x", HERE)
        if path == "/x/*":
            route.put("allow", ["10.0.0.0/8"], HERE)
        site.add(route)
    read = yaml.safe_load(str(proofread(made)))
    shut = next(one for one in read["sites"][0]["routes"] if one["path"] == "/x/*")
    assert shut["respond"] == {"status": 403}


def test_a_folder_that_is_not_there_is_no_reason_not_to_start(tmp_path: Path) -> None:
    """Routes below a folder's name need the folder; the folder around it does as well."""
    (tmp_path / "there").mkdir()
    made, site = draft()
    for name in ("there", "gone"):
        route = Route(HERE, path=f"/{name}/*")
        route.put("root", f"{tmp_path}/{name}", HERE)
        site.add(route)
    read = yaml.safe_load(str(proofread(made)))
    there, gone = read["sites"][0]["routes"]
    assert there["root"] == f"{tmp_path}/there"
    assert (gone["root"], gone["rewrite"]) == (str(tmp_path), "/gone/{rest}")


CASES = [path for name in PROGRAMS for path in sorted((Path(__file__).parent / name).iterdir())]


@settings(max_examples=60, deadline=None)
@given(case=st.sampled_from(CASES), random=st.randoms(use_true_random=False))
def test_a_slip_in_a_file_is_told_or_left_out(case: Path, random: Random) -> None:
    """Lines that are missing, that come twice, or that somebody has mistyped."""
    lines = case.read_text().splitlines()
    for _slip in range(random.randint(1, 4)):
        number = random.randrange(len(lines))
        match random.randrange(3):
            case 0:
                lines[number] = ""
            case 1:
                lines.insert(number, random.choice(lines))
            case 2:
                words = lines[number].split(" ")
                words[random.randrange(len(words))] = random.choice(_SLIPS)
                lines[number] = " ".join(words)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / case.name
        path.write_text("\n".join(lines))
        with contextlib.suppress(CannotRead):
            made = read(case.parent.name, str(path))
            text = str(proofread(made))
            assert not made.sites or not refused(text)


_SLIPS = ("", "{", "}", ";", "$x", "{x}", "~", "^(", "//", "/../", "%2f", "é", "'", '"', "-1", "*.")
