"""Each kind of error has its page, and the page shows the very lines that the program writes.

The lines of the access log are taken apart and made anew by the program's own formatter. Those of
the operational log must be texts of the program: a detail that some part of it gives a fault of this
kind, or a message that it logs.
"""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from proxy.errors import FAULTS, Blame, Fault
from proxy.log import _Text
from proxy.protocol.exchange import Exchange, PartialHead
from proxy.protocol.message import Connection, Request, Response
from proxy.worker.access_lines import text_line
from proxy.worker.limits import _BY_FAULT

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "docs/errors"
PARTS = ["What it means", "What the log says", "Why", "What to do"]
WHOSE = {
    Blame.CLIENT: "the client's",
    Blame.BACKEND: "the backend's",
    Blame.OURS: "this server's",
}
ACCESS = re.compile(
    r'(?P<moment>\S+) access (?P<peer>\S+) (?P<host>\S+) "(?P<asked>[^"]*)" (?P<status>\d+) (?P<sent>\d+)'
    r" (?P<took>[\d.]+)ms (?P<handler>\S+) (?P<backend>\S+) (?P<id>\S+) (?P<tls>\S+) (?P<error>\w+)"
)
PROGRAM = re.compile(
    r"(?P<moment>\S+) (?P<process>.+?)\[(?P<pid>\d+)\] (?:(?P<level>warning|error): )?(?P<text>.*)"
)
# What is filled in where the text is written for a request that is refused quietly.
REFUSED = re.compile(r"203\.0\.113\.7: refused \((\w+)\): (.*)")
# Such a line is written about a backend by `handlers.upstream.handler`.
OF_BACKEND = re.compile(r"(?P<url>\S+): (?P<detail>.*) \(GET app\.example\.org/orders\)")


def pages() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.md") if path.name != "README.md")


def lines_of(kind: str) -> list[str]:
    found = re.findall(r"```text\n(.*?)```", (FOLDER / f"{kind}.md").read_text(), re.DOTALL)
    assert len(found) == 1
    return str(found[0]).splitlines()


@cache
def texts() -> tuple[dict[str, list[str]], list[str]]:
    """The details of faults by kind, and the messages of log lines, as regular expressions."""
    details: dict[str, list[str]] = {}
    messages: list[str] = []
    for path in (REPOSITORY / "proxy").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            given = [pattern for one in node.args if (pattern := _pattern(one)) is not None]
            if name in ("warning", "error", "info", "debug"):
                messages += given
            elif node.args and isinstance(node.args[0], ast.Constant):
                kind = node.args[0].value
                if kind in FAULTS:
                    details.setdefault(kind, []).extend(given[1:])
    return details, messages


def _pattern(node: ast.expr) -> str | None:
    match node:
        case ast.Constant(str() as text):
            return re.sub(r"%[sdr]", ".+", re.escape(text).replace(r"\ ", " "))
        case ast.JoinedStr(values):
            parts = [
                re.escape(one.value) if isinstance(one, ast.Constant) else ".+" for one in values
            ]
            return "".join(map(str, parts))
        case ast.Name() | ast.Attribute() | ast.Call():
            return ".+"  # found out elsewhere: what the operating system says, what was read
    return None


def test_every_kind_has_its_page_and_every_page_its_kind() -> None:
    assert pages() == sorted(FAULTS)


@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_a_page_says_whose_fault_it_is_what_it_means_and_what_to_do(kind: str) -> None:
    text, what = (FOLDER / f"{kind}.md").read_text(), FAULTS[kind]
    title, about = text.split("\n\n")[:2]
    assert title == f"# {kind}"
    assert about == (
        f"Status {what.status}; {WHOSE[what.blame]} fault. The client reads: *{what.text}*"
    )
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == PARTS
    for part in re.split(r"^## .*$", text, flags=re.MULTILINE)[1:]:
        assert len(part.strip()) > 20
    steps = text.rpartition("## What to do")[2]
    assert all(line.startswith("- ") for line in steps.strip().splitlines())


@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_the_access_line_of_a_page_is_the_one_that_is_written(kind: str) -> None:
    (line,) = [one for one in lines_of(kind) if " access " in one]
    found = ACCESS.fullmatch(line)
    assert found is not None, line
    tls = None if found["tls"] == "-" else found["tls"]
    connection = Connection(found["peer"], 4711, "192.0.2.1", 443, tls_version=tls)
    method, _, target = found["asked"].partition(" ")
    exchange = Exchange(connection)
    if found["id"] == "-":  # it was refused before it was a request
        host = None if found["host"] == "-" else found["host"].encode()
        known = (method.encode(), target.encode()) if target else (None, None)
        exchange.partial = PartialHead(*known, host)
    else:
        host = found["host"].encode()
        exchange.request = Request(
            method.encode(), target.encode(), b"1.1", host, host, [], connection
        )
    made = Response(int(found["status"]), [], handler=found["handler"], error=kind)
    made.backend = None if found["backend"] == "-" else found["backend"]
    exchange.response, exchange.sent = made, int(found["sent"])
    exchange.duration = float(found["took"]) / 1000
    assert found["error"] == kind
    assert text_line(found["moment"], exchange, found["id"]) == line + "\n"
    if found["handler"] == "error" and found["sent"] != "0":
        assert made.status == FAULTS[kind].status
        assert exchange.sent == len(f"{made.status} {FAULTS[kind].text}\n")


def program_lines() -> Iterator[tuple[str, str]]:
    for kind in sorted(FAULTS):
        for line in lines_of(kind):
            if " access " not in line:
                yield kind, line


@pytest.mark.parametrize(("kind", "line"), list(program_lines()))
def test_a_line_of_the_operational_log_is_one_that_is_written(kind: str, line: str) -> None:
    found = PROGRAM.fullmatch(line)
    assert found is not None, line
    level = getattr(logging, (found["level"] or "debug").upper())
    record = logging.LogRecord("treehouse.worker", level, "", 0, found["text"], None, None)
    record.process = int(found["pid"])
    assert _Text(found["process"]).format(record).partition(" ")[2] == line.partition(" ")[2]
    details, messages = texts()
    text = found["text"]
    refused = REFUSED.fullmatch(text)
    if refused is not None:
        quiet = FAULTS[kind].blame is Blame.CLIENT or kind == "no_certificate"
        assert (refused[1], found["level"], quiet) == (kind, None, True)
        text = refused[2]
    elif text.startswith(f"{kind}: "):
        assert found["level"] == "warning"
        assert FAULTS[kind].blame is not Blame.CLIENT
        text = text.removeprefix(f"{kind}: ")
        about = OF_BACKEND.fullmatch(text)
        assert (about is None) == (not kind.startswith(("backend_", "auth_")) and kind != "loop")
        text = about["detail"] if about is not None else text
    elif text.startswith("the limit "):
        limit = text.removeprefix("the limit ").partition(" ")[0]
        assert _BY_FAULT[kind] == limit
        assert any(re.fullmatch(one, text) for one in messages)
        return
    else:
        text = text.partition(" | ")[0]
        assert any(re.fullmatch(one, text) for one in messages if one != ".+"), text
        return
    if text != FAULTS[kind].text:  # which is said where nothing more is known
        # A login service is a backend, whose faults are translated.
        said = details.get(kind, []) + details.get(kind.replace("auth_", "backend_"), [])
        assert any(re.fullmatch(one, text) for one in said), (text, said)


def test_a_kind_is_in_the_index_with_its_page() -> None:
    index = (FOLDER / "README.md").read_text()
    rows = re.findall(r"^\| (\d{3}) \| \[`(\w+)`\]\((\w+)\.md\) \|", index, re.MULTILINE)
    assert all(name == target for _, name, target in rows)
    assert {name: int(status) for status, name, _ in rows} == {
        name: what.status for name, what in FAULTS.items()
    }
    assert len(rows) == len(FAULTS)


def test_a_fault_says_its_kind_first() -> None:
    """Whoever searches for what the log says finds the page."""
    assert str(Fault("backend_refused", "Connection refused")).startswith("backend_refused: ")
