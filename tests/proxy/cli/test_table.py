"""Tables: columns where they fit, one entry below the other where not, and nothing cut."""

from __future__ import annotations

import pytest

from proxy.cli.table import RED, Cell, table

HEADER = ("name", "state", "last error")
ROWS = [("a.test\nb.test", Cell("no", RED), "refused"), ("c.test", "yes", "x " * 40)]


def test_without_a_width_there_are_columns_however_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = table(HEADER, ROWS).splitlines()
    assert lines[:3] == ["name    state  last error", "a.test  no     refused", "b.test"]
    assert lines[3] == "c.test  yes    " + ("x " * 40).rstrip()


@pytest.mark.parametrize("width", [20, 40, 60])
def test_what_does_not_fit_stands_one_below_the_other(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = table(HEADER, ROWS)
    assert max(map(len, text.splitlines())) <= max(width, 22)
    for word in ("a.test", "b.test", "refused"):
        assert word in text
    assert text.count("x") == 40


def test_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert "\x1b[31mno\x1b[0m" in table(HEADER, ROWS)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in table(HEADER, ROWS)
